// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"net/http"
	"reflect"
	"runtime/debug"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/gateway"
)

// The values of the placeholders of a call. Each is read when somebody looks, so that it
// is right in a header of the answer and in the access log; to set one allocates nothing.
// None embeds the Trace: it would be logged as one.
type (
	shownClient  struct{ of gateway.Trace }
	shownAppID   struct{ of gateway.Trace }
	shownErrcode struct{ of gateway.Trace }
	shownOutcome struct{ of gateway.Trace }
)

func (s shownClient) String() string  { return s.of.ClientID() }
func (s shownAppID) String() string   { return s.of.AppID() }
func (s shownErrcode) String() string { return strconv.Itoa(s.of.Errcode()) }
func (s shownOutcome) String() string { return s.of.Outcome() }

// begun sets the placeholders of a call.
func begun(r *http.Request, t gateway.Trace) {
	replacer := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	replacer.Set("http.wechat.client", shownClient{t})
	replacer.Set("http.wechat.appid", shownAppID{t})
	replacer.Set("http.wechat.errcode", shownErrcode{t})
	replacer.Set("http.wechat.outcome", shownOutcome{t})
}

// ended adds the object wechat to the access log, if the server writes one.
func ended(r *http.Request, t gateway.Trace) {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil || server.Logs == nil {
		return
	}
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.Object("wechat", t))
	}
}

// version returns the version of this module in the program, "(devel)" for one that was
// built from its source.
func version() string {
	const unknown = "(devel)"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	path := reflect.TypeFor[App]().PkgPath()
	for _, module := range append(info.Deps, &info.Main) {
		if module.Path == path && module.Version != "" {
			return module.Version
		}
	}
	return unknown
}
