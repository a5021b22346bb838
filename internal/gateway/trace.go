// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"net/http"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
)

// Trace shows what is known of a call, for counters, logs and placeholders: facts, of
// which none is secret. It may be asked at any time, also after the call, by the
// goroutine of the request. It is as small as a pointer, so that it becomes an
// interface value without an allocation.
type Trace struct{ call *call }

// ClientID returns the name of the client, [metrics.NoClient] if none was found.
func (t Trace) ClientID() string {
	if t.call.client == nil {
		return metrics.NoClient
	}
	return t.call.client.ID
}

// AppID returns the account that the call is about, or the component if it is about no
// account; "" if the call was refused before that was known.
func (t Trace) AppID() string {
	if appid := t.Account(); appid != "" {
		return appid
	}
	return t.Component()
}

// Account returns the appid of the account that the call is about, "" if it is about none.
func (t Trace) Account() string { return cmp.Or(t.call.account, t.call.Subject.Authorizer()) }

// Component returns the component_appid, "" as for AppID.
func (t Trace) Component() string { return t.call.Subject.Component() }

// Method returns the method of the request.
func (t Trace) Method() string { return t.call.method }

// Path returns the path as the client has sent it, without what looks like a gateway token,
// code or ticket; "" if it was refused as not plain, because it may hold anything.
func (t Trace) Path() string { return t.call.asked }

// Kind returns whose real token the call takes: component, authorizer, user (of an end
// user, which the client has itself) or none.
func (t Trace) Kind() string {
	switch {
	case t.call.kind == policy.User:
		return "user"
	case t.call.kind == policy.None, t.call.Subject == "":
		return "none"
	case t.call.Subject.IsComponent():
		return "component"
	}
	return "authorizer"
}

// Outcome returns what came of the call, in one word: relayed, repeated (relayed with a
// renewed token), answered (by the gateway), client_gone (it did not wait), cut (the
// connection was broken off), or the slug of a refusal.
func (t Trace) Outcome() string {
	switch report := &t.call.Report; {
	case report.Problem != nil:
		return report.Problem.Slug
	case report.Gone:
		return "client_gone"
	case report.Status == 0:
		return "cut"
	case t.call.own:
		return "answered"
	case report.Repeated:
		return "repeated"
	}
	return "relayed"
}

// Errcode returns the errcode that the caller gets: WeChat's, or that of a refusal; 0
// for none.
func (t Trace) Errcode() int {
	if problem := t.call.Report.Problem; problem != nil {
		return problem.Errcode
	}
	return t.call.Report.Errcode
}

// Slug returns the outcome of a call that nobody at WeChat has answered for: of a refusal,
// and of one that has got no answer; "" for others.
func (t Trace) Slug() string {
	if report := &t.call.Report; report.Problem == nil && !report.Gone && report.Status != 0 {
		return ""
	}
	return t.Outcome()
}

// Own reports whether the gateway has answered, and not WeChat.
func (t Trace) Own() bool { return t.call.own || t.call.Report.Problem != nil }

// Report returns what came of the call at WeChat. It must not be changed.
func (t Trace) Report() *relay.Report { return &t.call.Report }

// MarshalLogObject is what the access log says of a call.
func (t Trace) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("client", t.ClientID())
	to.AddString("appid", t.AppID())
	to.AddInt("errcode", t.Errcode())
	to.AddString("outcome", t.Outcome())
	if rid := t.call.Report.RID; rid != "" {
		to.AddString("rid", rid)
	}
	return nil
}

// ended is the end of every call, also of one that panics: whatever counts or logs calls
// does so here.
func (g *Gateway) ended(r *http.Request, c *call) {
	g.count(c)
	t := Trace{c}
	g.Usage.Count(t.ClientID(), t.AppID(), t.Path(), t.Errcode(), t.Own(), c.Report.Bytes)
	if g.Ended != nil {
		g.Ended(r, t)
	}
}

// count counts a call in the metrics.
func (g *Gateway) count(c *call) {
	meter, report := g.Strangers, &c.Report
	if c.client != nil {
		meter = c.client.meter
	}
	if report.Upstream > 0 {
		metrics.Upstream(report.Upstream)
	}
	if report.First != 0 {
		meter.Answer(report.First, http.StatusOK)
	}
	if report.WeChat != 0 && !c.own { // what WeChat has said to the gateway itself is counted where it is read
		meter.Answer(report.Errcode, report.WeChat)
	}
	// The last: whoever sees the call counted finds WeChat's answers to it counted as well.
	meter.Call(Trace{c}.Outcome(), time.Since(report.Began))
}

// newCall returns the call of a request, of which nothing is known yet.
func newCall(r *http.Request) *call {
	c := &call{method: r.Method}
	c.Report.Began = time.Now()
	return c
}
