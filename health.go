// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"encoding/json"
	"net/http"
	"path"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
)

func init() {
	caddy.RegisterModule(Health{})
	httpcaddyfile.RegisterDirective("wechat_health", parseHealth)
	httpcaddyfile.RegisterDirectiveOrder("wechat_health", httpcaddyfile.Before, "respond")
}

// Health answers whether the gateway is alive, at a path that ends in /live, and whether
// it can serve pushes and calls, at one that ends in /ready, with 200 or 503. It is ready
// once the storage has answered since the start of the process. It asks nobody and waits
// for nothing. Anybody may see the answer, so it says nothing else; the admin API does,
// by /wechat/status.
type Health struct {
	app *App
}

// CaddyModule returns the Caddy module information.
func (Health) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.wechat_health", New: func() caddy.Module { return new(Health) }}
}

// Provision finds the wechat app.
func (h *Health) Provision(ctx caddy.Context) (err error) {
	h.app, err = wechatApp(ctx)
	return err
}

// ServeHTTP answers one request, and passes on one with another path.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	ask := (*operate.Operator).Ready
	switch path.Base(r.URL.Path) {
	case "ready":
	case "live":
		ask = (*operate.Operator).Live
	default:
		return next.ServeHTTP(w, r)
	}
	h.app.drain.closeIfStopping(w)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return notAllowed(w, "GET, HEAD")
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	answer, err := ask(h.app.state.operator(), r.Context(), "") // parameters of a load balancer do not matter
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return json.NewEncoder(w).Encode(err)
	}
	return json.NewEncoder(w).Encode(answer)
}

// parseHealth replaces the directive
//
//	wechat_health [<prefix>]
//
// with a route for GET <prefix>/live and <prefix>/ready. The default prefix is
// /wechat/health.
func parseHealth(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	if err := wantApp(h); err != nil {
		return nil, err
	}
	prefix := "/wechat/health"
	if h.NextArg() {
		prefix = strings.TrimSuffix(h.Val(), "/")
		if _, ok := policy.Clean(prefix); !ok && h.Val() != "/" {
			return nil, h.Errf("wechat_health: the prefix %s must be a plain path such as /wechat/health, without wildcards, placeholders or matchers", check.Quote(h.Val()))
		}
	}
	if h.NextArg() || h.NextBlock(0) {
		return nil, h.Err("wechat_health takes one value, the prefix of its paths, and no block")
	}
	match := caddyhttp.MatchPath{prefix + "/live", prefix + "/ready"}
	return h.NewRoute(caddy.ModuleMap{"path": h.JSON(match)}, new(Health)), nil
}

var (
	_ caddy.Provisioner           = (*Health)(nil)
	_ caddyhttp.MiddlewareHandler = (*Health)(nil)
)
