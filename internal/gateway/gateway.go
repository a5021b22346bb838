// SPDX-License-Identifier: Apache-2.0

// Package gateway is the side of the applications: who calls, what he may, and
// which calls are answered here instead of by WeChat. What goes up, package relay
// makes.
package gateway

import (
	"net/http"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

// Gateway serves the calls of applications as though it were the WeChat API. It is
// safe for concurrent use; its fields are not changed.
type Gateway struct {
	Clients    *Clients
	Components map[string]struct{} // component_appids
	Tokens     *tokens.Keeper
	Relay      *relay.Relay
	Log        *zap.Logger

	// Identified is told which client makes a request, before it is answered; not
	// for calls that need none.
	Identified func(r *http.Request, client *Client)
}

// Looped reports whether a request comes from a gateway, most likely this one:
// the host of WeChat's API leads here. Its address carries a real token, and must
// not get into an access log.
func Looped(r *http.Request) bool { return r.Header.Get(openapi.HopHeader) != "" }

// ServeHTTP answers the token endpoints, and the others whose answers would hold
// credentials, itself; it relays all other calls.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if Looped(r) {
		problem.Write(w, r, g.Log, problem.ErrLoop)
		return
	}
	path, ok := policy.Clean(r.URL.EscapedPath())
	if !ok {
		problem.Write(w, r, g.Log, problem.ErrNotAllowed.Because("the path is not plain: want segments of letters, digits, _ - . after single slashes"))
		return
	}
	route := policy.Lookup(path)
	if route.Endpoint != policy.Relayed {
		g.serveEndpoint(w, r, path, route)
		return
	}
	call, err := g.identify(r, path, route)
	if err != nil {
		problem.Write(w, r, g.Log, err)
		return
	}
	if call.client != nil {
		g.Identified(r, call.client)
	}
	g.Relay.Forward(w, r, &call.Call)
}
