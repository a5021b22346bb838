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

	"github.com/caddy-wechat/caddy-wechat/internal/grant"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	benchComponent  = "wx134c8103faa5a59e"
	benchAuthorizer = "wxaaaaaaaaaaaaaaaa"
	benchSecret     = "bench-secret-0123456789abcdef01234567"
)

// benchApp knows one client of one component, with rules to look through.
func benchApp(b *testing.B) *App {
	b.Helper()
	app := &App{components: map[string]*component{
		benchComponent: {appid: benchComponent, appSecrets: []secret.Secret{secret.New(strings.Repeat("s", 32))}},
	}}
	var err error
	app.clients, err = newClients(map[string]*Client{"bench": {
		Secrets:     []string{benchSecret},
		Authorizers: []string{benchAuthorizer, "wxbbbbbbbbbbbbbbbb"},
		Allow:       []grant.Rule{{Method: "GET", Path: "/wxa/*"}, {Path: "/cgi-bin/*"}},
	}}, app.components, resolver{caddy.NewReplacer()})
	if err != nil {
		b.Fatal(err)
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
		path, ok := grant.Clean(r.URL.EscapedPath())
		if !ok {
			b.Fatal(r.URL)
		}
		if _, err := app.identify(r, path, grant.Lookup(path)); err != nil {
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

// BenchmarkProxyCall is a whole call but for the sockets: it is identified,
// given its token from memory, sent, looked at, and passed back.
func BenchmarkProxyCall(b *testing.B) {
	app := benchApp(b)
	tokens, err := newTokens(nil, 100)
	if err != nil {
		b.Fatal(err)
	}
	defer tokens.Close()
	who := subject.Of(benchComponent, benchAuthorizer)
	token := &Token{Value: secret.New(strings.Repeat("t", 157)), Expires: time.Now().Add(time.Hour)}
	token.due.Store(token.Expires.UnixNano())
	tokens.cache.set(who, token)
	tokens.cache.tokens.Wait() // a new token is not seen at once
	host := &url.URL{Scheme: "https", Host: "api.weixin.qq.com"}
	f := forwarder{&attacher{tokens, []*url.URL{host}, cannedTransport{}}, 64 << 10, zap.NewNop()}
	template := benchRequest(app)
	body := strings.NewReader("")
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(`{"touser":"o1"}`)
		r := *template
		r.Body = io.NopCloser(body)
		call, err := app.identify(&r, benchPath, grant.Lookup(benchPath))
		if err != nil {
			b.Fatal(err)
		}
		f.forward(&discard{http.Header{}}, &r, call)
	}
}
