// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/internal/advice"
	"github.com/caddy-wechat/caddy-wechat/internal/audit"
	"github.com/caddy-wechat/caddy-wechat/internal/gateway"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/usage"
)

const (
	benchComponent  = "wx134c8103faa5a59e"
	benchAuthorizer = "wxaaaaaaaaaaaaaaaa"
	benchSecret     = "bench-secret-0123456789abcdef01234567"
	benchAppSecret  = "ssssssssssssssssssssssssssssssss"
)

// benchApp knows one client of one component, with rules to look through.
func benchApp(tb testing.TB) *App {
	tb.Helper()
	app := &App{components: map[string]*component{
		benchComponent: {appid: benchComponent, appSecrets: []secret.Secret{secret.New(benchAppSecret)}},
	}, hosts: []*url.URL{{Scheme: "https", Host: "api.weixin.qq.com"}}}
	app.Clients = map[string]*Client{"bench": {
		Secrets:     []string{benchSecret},
		Authorizers: []string{benchAuthorizer, "wxbbbbbbbbbbbbbbbb"},
		Allow:       []Rule{{Method: "GET", Path: "/wxa/*"}, {Path: "/cgi-bin/*"}},
	}}
	resolve, err := newResolver(app.resolvables(), zap.NewNop())
	if err != nil {
		tb.Fatal(err)
	}
	app.applications, err = newApplications(caddy.Context{Context: tb.Context()}, app.Clients, app.components, resolve)
	if err != nil {
		tb.Fatal(err)
	}
	return app
}

const benchPath = "/cgi-bin/message/custom/send"

func benchRequest(tb testing.TB) *http.Request {
	tb.Helper()
	key, err := gwtoken.NewKey(secret.New(benchAppSecret), sha256.Sum256([]byte(benchSecret)))
	if err != nil {
		tb.Fatal(err)
	}
	token := key.Issue(gwtoken.Claims{Client: "bench", Subject: subject.Of(benchComponent, benchAuthorizer), Expires: time.Now().Add(2 * time.Hour)})
	return httptest.NewRequest(http.MethodPost, benchPath+"?access_token="+token+"&a=1", strings.NewReader(`{"touser":"o1"}`))
}

// cannedTransport is a WeChat that answers at once.
type cannedTransport struct{}

func (cannedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	const body = `{"errcode":0,"errmsg":"ok"}`
	_, _ = io.Copy(io.Discard, r.Body)
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)),
		Header: http.Header{"Content-Type": {"application/json; encoding=utf-8"}},
		Body:   io.NopCloser(strings.NewReader(body)),
	}, nil
}

// discard is a ResponseWriter without a connection.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Flush()                      {}

// SetReadDeadline is there because a server's has it: without it each call of it would
// allocate an error.
func (d *discard) SetReadDeadline(time.Time) error { return nil }

// cannedCall returns a whole call but for the sockets: it is identified, given
// its token from memory, sent, looked at, and passed back. Its content is that
// of a POST, none makes it a GET.
func cannedCall(tb testing.TB, content string) (call func()) {
	call, _ = cannedCallOf(tb, content)
	return call
}

// cannedCallOf is cannedCall, and returns the app that serves the call.
func cannedCallOf(tb testing.TB, content string) (call func(), served *App) {
	tb.Helper()
	app := benchApp(tb)
	keeper, memory := newTestKeeper(tb, nil, 100)
	tb.Cleanup(keeper.Close)
	memory.Set(subject.Of(benchComponent, benchAuthorizer), newTestToken(strings.Repeat("t", 157)))
	memory.Wait() // a new token is not seen at once
	app.state = &state{keeper: keeper, usage: usage.New(), advisor: advice.NewAdvisor()}
	g := app.newGateway(&relay.Relay{Direct: cannedTransport{}, Gzip: true, MaxReplayBody: 64 << 10, Log: zap.NewNop()})
	g.Identified, g.Begun, g.Ended = func(*http.Request, *gateway.Client) {}, nil, nil
	template := benchRequest(tb)
	template.Method, template.ContentLength = http.MethodGet, int64(len(content))
	if content != "" {
		template.Method = http.MethodPost
	}
	body := strings.NewReader("")
	var r http.Request // one for all calls: who serves them would have made it
	return func() {
		body.Reset(content)
		r = *template
		r.Body = io.NopCloser(body)
		g.ServeHTTP(&discard{http.Header{}}, &r)
	}, app
}

const benchContent = `{"touser":"o1"}`

func BenchmarkProxyCall(b *testing.B) {
	for name, content := range map[string]string{"GET": "", "POST": benchContent} {
		b.Run(name, func(b *testing.B) {
			call := cannedCall(b, content)
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}

// What is counted here are also the nine allocations of the two ends that are
// played.
func TestProxyCallAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for content, most := range map[string]float64{"": 17, benchContent: 20} {
		if n := testing.AllocsPerRun(200, cannedCall(t, content)); n > most {
			t.Errorf("%v allocations with the content %q, want at most %v", n, content, most)
		}
	}
}

// Operators are shown who calls what, and how often.
func TestCallsAreCountedInUsage(t *testing.T) {
	call, app := cannedCallOf(t, benchContent)
	for range 3 {
		call()
	}
	rows, lost, _ := app.state.usage.Top("", 10)
	want := usage.Key{Client: "bench", AppID: benchAuthorizer, Class: usage.Class(benchPath)}
	if len(rows) != 1 || rows[0].Key != want || rows[0].Calls != 3 || rows[0].Bytes != 3*27 || lost != 0 {
		t.Errorf("usage is %+v, %d lost", rows, lost)
	}
}

// The placeholders of a call cost no allocation: they find room beside the client's name
// in what the Replacer has anyway.
func TestPlaceholdersAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	allocations := func(shown bool) float64 {
		return testing.AllocsPerRun(200, func() {
			replacer := caddy.NewReplacer()
			r := benchPlain.WithContext(context.WithValue(context.Background(), caddy.ReplacerCtxKey, replacer))
			replacer.Set("http.auth.user.id", "bench")
			if shown {
				begun(r, gateway.Trace{})
			}
		})
	}
	if without, with := allocations(false), allocations(true); with > without {
		t.Errorf("%v allocations, %v without them", with, without)
	}
}

// A line of the audit of all calls costs little more than its text: nothing for each of
// its fields.
func TestAuditLineAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	format := new(LogFormat)
	if err := format.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	lines := audit.New(zap.New(zapcore.NewCore(format, zapcore.AddSync(io.Discard), zap.InfoLevel)), audit.Calls)
	call := audit.Call{Client: "bench", AppID: benchAuthorizer, Path: benchPath, Status: http.StatusOK, HasWeChat: true}
	if n := testing.AllocsPerRun(200, func() { lines.Call(call) }); n > 3 {
		t.Errorf("%v allocations, want at most 3", n)
	}
}

var benchPlain = httptest.NewRequest(http.MethodGet, benchPath, nil)
