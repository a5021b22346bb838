// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/audit"
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

// ended writes the audit of a call, and adds the object wechat to the access log, if the
// server writes one.
func (a *App) ended(r *http.Request, t gateway.Trace) {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	logged := server != nil && server.Logs != nil
	a.audit(r, t, logged)
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok && logged {
		extra.Set(zap.Object("wechat", t))
	}
}

// audit writes a line about a call, if the audit is to have one.
func (a *App) audit(r *http.Request, t gateway.Trace, logged bool) {
	report, slug := t.Report(), t.Slug()
	if !a.audits.Wants(slug != "" || report.Errcode != 0 || report.Status >= http.StatusBadRequest) {
		return
	}
	c := audit.Call{
		Client: t.ClientID(), Component: t.Component(), AppID: t.Account(), Method: t.Method(), Path: t.Path(), Kind: t.Kind(),
		WeChat: report.Errcode, HasWeChat: report.WeChat != 0 && (report.Errcode != 0 || report.WeChat < http.StatusMultipleChoices),
		Errcode: t.Errcode(), RID: report.RID, Slug: slug, Status: report.Status, Repeated: report.Repeated,
		Upstream: report.Upstream, Bytes: report.Bytes, RequestID: requestID(r, logged),
	}
	if address := clientAddress(r); address.IsValid() {
		c.Remote = address.String()
	}
	a.audits.Call(c)
}

// requestID returns {http.request.uuid}. To ask Caddy for it puts it into the access log,
// at a cost. Without one, a request that has no id yet is given one that costs less.
func requestID(r *http.Request, logged bool) string {
	if !logged && caddyhttp.GetVar(r.Context(), "uuid") == nil {
		return uuid.NewString()
	}
	id, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).GetString("http.request.uuid")
	return id
}
