// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Upstream is WeChat with some paths answered by the test. It is an
// http.Handler for StartWithUpstream.
type Upstream struct {
	wechat  atomic.Pointer[sandbox.Sandbox]
	routes  map[string]http.HandlerFunc
	waiting atomic.Bool   // the routes are WeChat's still
	asked   chan struct{} // the gateway has asked for a ticket, as it does at its start
}

// NewUpstream returns an upstream that answers each path in routes with its
// handler, and all others as WeChat does.
func NewUpstream(routes map[string]http.HandlerFunc) *Upstream {
	return &Upstream{routes: routes, asked: make(chan struct{})}
}

// ServeHTTP answers as the test does, or as WeChat.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wechat := u.wechat.Load()
	switch {
	case !u.asksWeChat(r.URL.Path):
		u.routes[r.URL.Path](w, r)
	case wechat == nil:
		w.WriteHeader(http.StatusServiceUnavailable)
		close(u.asked)
	default:
		wechat.ServeHTTP(w, r)
	}
}

// asksWeChat reports whether WeChat itself answers a path now.
func (u *Upstream) asksWeChat(path string) bool { return u.routes[path] == nil || u.waiting.Load() }

// StartWithTokens starts a gateway that has the tokens of both accounts in
// memory. WeChat's counts begin at zero after that.
func StartWithTokens(t testing.TB, o Options) *Gateway {
	t.Helper()
	return StartWithRoutes(t, o, nil)
}

// StartWithRoutes is StartWithTokens with an upstream that answers each path in
// routes with its handler, and all others as WeChat does.
func StartWithRoutes(t testing.TB, o Options, routes map[string]http.HandlerFunc) *Gateway {
	t.Helper()
	return StartWithUpstream(t, o, NewUpstream(routes))
}

// StartThenRoutes is StartWithRoutes for paths that the gateway itself needs in
// order to start: the handlers answer them from then on.
func StartThenRoutes(t testing.TB, o Options, routes map[string]http.HandlerFunc) *Gateway {
	t.Helper()
	u := NewUpstream(routes)
	u.waiting.Store(true)
	g := StartWithUpstream(t, o, u)
	u.waiting.Store(false)
	return g
}

// StartWithUpstream is StartWithTokens with an upstream, which may be served at
// an address in o.API, too.
func StartWithUpstream(t testing.TB, o Options, u *Upstream) *Gateway {
	t.Helper()
	o.Upstream, o.Quiet = u, true
	g := Start(t, o)
	<-u.asked
	u.wechat.Store(g.WeChat)
	g.Authorize()
	g.awaitExchanges()
	for _, appid := range []string{OfficialAccount, MiniProgram} {
		if answer := g.Ask(http.MethodGet, AuthorizerPath, "", Bearer(ClientSecret, appid)); answer.ErrCode != 0 {
			t.Fatalf("first call for %s: %s\n%s", appid, answer.Body, g.Logs())
		}
	}
	g.WeChat.ResetCounts()
	return g
}

// StartSettled starts a gateway and waits with Settle.
func StartSettled(t testing.TB, o Options) *Gateway {
	t.Helper()
	g := Start(t, o)
	g.Settle()
	return g
}

// Settle waits for the background work of the two authorizations. Until it has
// ended, a real token may be replaced at any moment. An Options.Upstream must answer
// api_get_authorizer_info as WeChat does.
func (g *Gateway) Settle() {
	g.t.Helper()
	g.Token(OfficialAccount)
	g.Token(MiniProgram)
	g.awaitProfiles()
}
