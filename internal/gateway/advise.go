// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/advice"
	"github.com/caddy-wechat/caddy-wechat/internal/logging"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
)

// Hint says to the caller, in the header Wechat-Gateway-Hint, what a refusal of WeChat
// means that no program can mend. Operators are told in the log, once an hour for each
// cause, and it is noted for the account's view. It must be called before the header is
// written. Refused is WeChat's refusal of a call that the gateway has made for itself or
// in the place of the application; nil if it is in the report of the call.
//
// It is Relay.Hint for the calls that are relayed.
func (g *Gateway) Hint(w http.ResponseWriter, call *relay.Call, refused *openapi.Refusal) {
	errcode, rid := call.Report.Errcode, call.Report.RID
	if refused != nil {
		errcode, rid = refused.Code, refused.RID
	}
	if !advice.Knows(errcode) || call.Subject == "" { // with an end user's token WeChat means the user
		return
	}
	found, now := caseOf(call, refused), time.Now()
	if found.AppID != "" && g.Sets != nil {
		found.Sets, found.SetsKnown = g.Sets(call.Subject)
	}
	found.Errcode, found.Now = errcode, now
	said, ok := advice.Of(found)
	if !ok {
		return
	}
	w.Header().Set(openapi.HintHeader, said.Hint)
	g.Advisor.Note(call.Subject, said, now)
	if said.Owner != call.Subject { // the status of the component has to say it
		g.Advisor.Note(said.Owner, said, now)
	}
	if !g.Advisor.Due(said, now) {
		return
	}
	// The texts of With keep two causes within a minute apart, see logging.Throttle.
	g.Log.With(zap.String("component", found.Component), zap.String("appid", found.AppID), zap.String("cause", said.Text)).Warn("WeChat refuses calls",
		zap.String("client", call.ClientID()), zap.String("path", cmp.Or(logging.RedactAddress(found.Path), found.Endpoint)),
		zap.Int("wechat_errcode", errcode), zap.String("rid", rid), zap.String("remedy", said.Remedy))
}

// caseOf returns the call that WeChat has refused. Calls of the gateway's own take the
// component's token, or a secret, unless their endpoint is a path: then the token is that
// of the subject.
func caseOf(call *relay.Call, refused *openapi.Refusal) advice.Case {
	c := advice.Case{Component: call.Subject.Component(), AppID: call.Subject.Authorizer(), Path: call.Path, IP: call.Report.IP}
	if refused == nil {
		return c
	}
	c.IP, c.Path = refused.IP, ""
	endpoint, _, _ := strings.Cut(refused.Endpoint, "?")
	if strings.HasPrefix(endpoint, "/") {
		c.Path = endpoint
		return c
	}
	c.AppID, c.Endpoint = "", endpoint
	return c
}
