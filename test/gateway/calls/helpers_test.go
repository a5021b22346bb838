// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// tokenOf fetches a gateway token with the secret of any client.
func tokenOf(t testing.TB, g *gwtest.Gateway, appid, clientSecret string) string {
	t.Helper()
	answer := g.AskGet(gwtest.TokenPath(appid, clientSecret))
	if answer.Token == "" {
		t.Fatalf("no gateway token: %s", answer.Body)
	}
	return answer.Token
}

// callsOf returns what WeChat saw of a path.
func callsOf(g *gwtest.Gateway, path string) []sandbox.Call {
	return slices.DeleteFunc(g.WeChat.Calls(), func(c sandbox.Call) bool { return c.Path != path })
}

// onlyCall returns the only call of a path since the last ResetCounts.
func onlyCall(t testing.TB, g *gwtest.Gateway, path string) sandbox.Call {
	t.Helper()
	calls := callsOf(g, path)
	if len(calls) != 1 {
		t.Fatalf("WeChat saw %d calls to %s, want 1", len(calls), path)
	}
	return calls[0]
}

// says answers with a text, as WeChat says it.
func says(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, answer)
	}
}

// counted is how often WeChat saw a call, and over which connections.
type counted struct {
	mu    sync.Mutex
	calls int
	conns map[string]int
	proto string
}

func (c *counted) see(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns == nil {
		c.conns = make(map[string]int)
	}
	c.calls++
	c.conns[r.RemoteAddr]++
	c.proto = r.Proto
}

func (c *counted) count() (calls, conns int, proto string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls, len(c.conns), c.proto
}

func (c *counted) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls, c.conns = 0, nil
}

type connKey struct{}

// serve serves handler on an address of its own, with the connection in the
// context of each request. Over TLS, everything in this process trusts it.
func serve(t *testing.T, handler http.Handler, proto string) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, conn)
	}
	t.Cleanup(server.Close)
	if proto == "plain" {
		server.Start()
		return server.URL
	}
	server.EnableHTTP2 = proto == "HTTP/2"
	server.StartTLS()
	before := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = before })
	trusting := before.(*http.Transport).Clone()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	trusting.TLSClientConfig = &tls.Config{RootCAs: roots}
	http.DefaultTransport = trusting
	t.Cleanup(trusting.CloseIdleConnections)
	return server.URL
}

// startOver is gwtest.StartWithRoutes for an upstream over plain HTTP, TLS or
// HTTP/2.
func startOver(t *testing.T, proto string, routes map[string]http.HandlerFunc) *gwtest.Gateway {
	t.Helper()
	u := gwtest.NewUpstream(routes)
	options := gwtest.Options{API: []string{serve(t, u, proto)}}
	if proto != "plain" {
		options.Proxy = "transport http {\ntls_insecure_skip_verify\n}"
	}
	return gwtest.StartWithUpstream(t, options, u)
}

// hijacked answers with raw bytes and closes the connection. A whole answer
// must say so: the next call might take the connection just before.
func hijacked(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, text)
	}
}
