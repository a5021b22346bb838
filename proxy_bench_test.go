// SPDX-License-Identifier: Apache-2.0

package wechat

import (
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

	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	benchComponent  = "wx134c8103faa5a59e"
	benchAuthorizer = "wxaaaaaaaaaaaaaaaa"
	benchSecret     = "bench-secret-0123456789abcdef01234567"
)

// benchApp knows one client of one component, with rules to look through.
func benchApp(tb testing.TB) *App {
	tb.Helper()
	app := &App{components: map[string]*component{
		benchComponent: {appid: benchComponent, appSecrets: []secret.Secret{secret.New(strings.Repeat("s", 32))}},
	}}
	var err error
	app.clients, err = newClients(map[string]*Client{"bench": {
		Secrets:     []string{benchSecret},
		Authorizers: []string{benchAuthorizer, "wxbbbbbbbbbbbbbbbb"},
		Allow:       []policy.Rule{{Method: "GET", Path: "/wxa/*"}, {Path: "/cgi-bin/*"}},
	}}, app.components, resolver{caddy.NewReplacer()})
	if err != nil {
		tb.Fatal(err)
	}
	return app
}

const benchPath = "/cgi-bin/message/custom/send"

func benchRequest(app *App) *http.Request {
	client := app.clients.all[0]
	token := client.issue(sha256.Sum256([]byte(benchSecret)), subject.Of(benchComponent, benchAuthorizer), time.Now())
	return httptest.NewRequest(http.MethodPost, benchPath+"?access_token="+token+"&a=1", strings.NewReader(`{"touser":"o1"}`))
}

// BenchmarkIdentify is what the gateway decides before it touches a token:
// path, route, gateway token, rights.
func BenchmarkIdentify(b *testing.B) {
	app := benchApp(b)
	r := benchRequest(app)
	b.ReportAllocs()
	for b.Loop() {
		path, ok := policy.Clean(r.URL.EscapedPath())
		if !ok {
			b.Fatal(r.URL)
		}
		if _, err := app.identify(r, path, policy.Lookup(path)); err != nil {
			b.Fatal(err)
		}
	}
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

// cannedCall returns a whole call but for the sockets: it is identified, given
// its token from memory, sent, looked at, and passed back. Its content is that
// of a POST, none makes it a GET.
func cannedCall(tb testing.TB, content string) (call func()) {
	tb.Helper()
	app := benchApp(tb)
	keeper, memory := newTestKeeper(tb, nil, 100)
	tb.Cleanup(keeper.Close)
	memory.Set(subject.Of(benchComponent, benchAuthorizer), newTestToken(strings.Repeat("t", 157)))
	memory.cache.Wait() // a new token is not seen at once
	host := &url.URL{Scheme: "https", Host: "api.weixin.qq.com"}
	f := forwarder{&attacher{tokens: keeper, drop: app.clients.isCredential, hosts: []*url.URL{host}, short: cannedTransport{}, zipped: zipped}, 64 << 10, zap.NewNop()}
	template := benchRequest(app)
	template.Method, template.ContentLength = http.MethodGet, int64(len(content))
	if content != "" {
		template.Method = http.MethodPost
	}
	body := strings.NewReader("")
	return func() {
		body.Reset(content)
		r := *template
		r.Body = io.NopCloser(body)
		call, err := app.identify(&r, benchPath, policy.Lookup(benchPath))
		if err != nil {
			tb.Fatal(err)
		}
		f.forward(&discard{http.Header{}}, &r, call)
	}
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

// BenchmarkPeek looks at an answer of 100 bytes that is no refusal.
func BenchmarkPeek(b *testing.B) {
	const text = `{"subscribe":1,"openid":"o6_bmjrPTlm6_2sgVt7hMZOPfL2M","language":"zh_CN","subscribe_time":13826949}`
	reader := strings.NewReader("")
	body := io.NopCloser(reader)
	response := &http.Response{
		StatusCode: http.StatusOK, ContentLength: int64(len(text)),
		Header: http.Header{"Content-Type": {"application/json; encoding=utf-8"}},
	}
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(text)
		response.Body = body
		if new(peeked).errcodeOf(response) != 0 {
			b.Fatal("taken for a refusal")
		}
		response.Body.Close()
	}
}

func TestSecretIsFoundWithoutAllocations(t *testing.T) {
	clients := benchApp(t).clients
	if n := testing.AllocsPerRun(100, func() { clients.withBearer("Bearer " + benchSecret) }); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
