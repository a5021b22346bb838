// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
)

// WeChat is the slug of calls that WeChat has refused, not the gateway.
const WeChat = "wechat"

// Call is what is known at the end of a call.
type Call struct {
	Client    string        // "none" if it is not known
	Component string        // component_appid
	AppID     string        // of the account; "" if the call was about none
	Method    string        // of the request
	Path      string        // as it was called, if it is clean; else ""
	Kind      string        // of the real token: component, authorizer, user or none
	WeChat    int           // errcode of WeChat's answer
	HasWeChat bool          // WeChat was asked, and its answer has an errcode or is a success without one
	Errcode   int           // what the caller got
	RID       string        // WeChat's id of the call, "" if there is none
	Slug      string        // why the gateway refused; "" if it did not
	Status    int           // HTTP status of the answer to the caller
	Repeated  bool          // it was sent again with a renewed token
	Upstream  time.Duration // from sending until WeChat's answer was read
	Bytes     int64         // of the answer's body
	Remote    string        // the client's address
	RequestID string        // Caddy's {http.request.uuid}
}

// Refused reports whether the gateway or WeChat has refused the call.
func (c *Call) Refused() bool {
	return c.Slug != "" || c.WeChat != 0 || c.Status >= http.StatusBadRequest
}

// maxMethod is the length of a method in bytes that is written, because callers choose it.
const maxMethod = 32

// keepNothing makes the call fit to be kept for a minute: its texts are parts of the line
// of the request, or of its header, and would keep all of that in memory.
func (c *Call) keepNothing() {
	for _, text := range []*string{&c.Client, &c.Component, &c.AppID, &c.Method, &c.Path, &c.RID, &c.Remote, &c.RequestID} {
		*text = strings.Clone(*text)
	}
}

// MarshalLogObject implements zapcore.ObjectMarshaler. Fields that most calls have are
// always there, so that tools find the same columns in each line; wechat_errcode stands
// only where WeChat has answered, slug and rid only where there is one.
func (c *Call) MarshalLogObject(e zapcore.ObjectEncoder) error {
	e.AddString("client", c.Client)
	e.AddString("component", c.Component)
	e.AddString("appid", c.AppID)
	e.AddString("method", c.Method)
	e.AddString("path", c.Path)
	e.AddString("kind", c.Kind)
	if c.HasWeChat {
		e.AddInt("wechat_errcode", c.WeChat)
	}
	e.AddInt("errcode", c.Errcode)
	if c.RID != "" {
		e.AddString("rid", c.RID)
	}
	if c.Slug != "" {
		e.AddString("slug", c.Slug)
	}
	e.AddInt("status", c.Status)
	e.AddBool("repeated", c.Repeated)
	e.AddFloat64("upstream_ms", float64(c.Upstream.Microseconds())/1000)
	e.AddInt64("bytes", c.Bytes)
	e.AddString("remote", c.Remote)
	e.AddString("request_id", c.RequestID)
	return nil
}

// AnyField reports whether is holds for the name of any field that Call can write.
func AnyField(is func(name string) bool) bool {
	all := zapcore.NewMapObjectEncoder()
	_ = (&Call{HasWeChat: true, RID: "-", Slug: "-"}).MarshalLogObject(all)
	for name := range all.Fields {
		if is(name) {
			return true
		}
	}
	return false
}

// IsCall reports whether these are the fields of a call, and no others.
func IsCall(fields []zapcore.Field) bool {
	if len(fields) != 1 {
		return false
	}
	_, ok := fields[0].Interface.(*Call)
	return ok
}

// Action is what an operator has done.
type Action struct {
	Operator      string // who; "admin" where it is not known
	Action        string // such as renew
	Object        string // what it was done to, such as component/authorizer
	Before, After string // how it was with the object, and how it is now; "" if that says nothing
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (a *Action) MarshalLogObject(e zapcore.ObjectEncoder) error {
	e.AddString("operator", a.Operator)
	e.AddString("action", a.Action)
	e.AddString("object", a.Object)
	e.AddString("before", a.Before)
	e.AddString("after", a.After)
	return nil
}
