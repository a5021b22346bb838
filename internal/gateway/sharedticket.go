// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

// serveSharedTicket answers a call for a ticket with which applications sign, for the
// JS-SDK or for cards, in the form of WeChat's own answer
// (developers.weixin.qq.com/doc/service/api/webdev/js/api_getticket). The ticket is in
// clear: without it an application cannot sign. The client and its rights are checked.
//
// It reports whether it has answered. If the call asks for anything else, it has not,
// and the request is as it was: WeChat is to answer. So is a call of a component, on a
// path whose kind is configured.
func (g *Gateway) serveSharedTicket(w http.ResponseWriter, r *http.Request, c *call) bool {
	if c.Subject.IsComponent() {
		return false
	}
	kind := g.sharedKind(w, r)
	if kind == "" {
		return false
	}
	ticket, err := g.Tokens.SharedTicket(r.Context(), c.Subject, c.client.ID, kind)
	switch {
	case err != nil && r.Context().Err() != nil:
		c.Report.Gone, c.Report.Status = true, relay.StatusClientGone
		w.WriteHeader(relay.StatusClientGone) // nobody's failure, so nothing is logged
		return true
	case err != nil:
		g.finish(w, r, c, nil, err)
		return true
	}
	g.finish(w, r, c, problem.JSON(struct {
		Errcode int    `json:"errcode"`
		Errmsg  string `json:"errmsg"`
		Ticket  string `json:"ticket"`
		Expires int    `json:"expires_in"`
	}{0, "ok", ticket.Value.Reveal(), ticket.Left(time.Now())}), nil)
	return true
}

// sharedKind returns which shared ticket a call asks for; "" if the call is of another
// method, has another type, or has parameters that the gateway does not know. A POST
// may name the type in its body. What is read of the body can be read again.
func (g *Gateway) sharedKind(w http.ResponseWriter, r *http.Request) string {
	switch {
	case r.Method == http.MethodGet && r.ContentLength == 0:
	case r.Method == http.MethodPost && 0 <= r.ContentLength && r.ContentLength <= maxParameters:
	default:
		return ""
	}
	body, seen := r.Body, new(bytes.Buffer)
	r.Body = io.NopCloser(io.TeeReader(body, seen))
	form, err := g.parameters(w, r)
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(seen, body), body}
	if err != nil {
		return ""
	}
	return g.onlyShared(form)
}

// onlyShared returns the type of a shared ticket if a call has no other parameter,
// credentials apart, and no second type.
func (g *Gateway) onlyShared(form url.Values) string {
	kind := form.Get("type")
	if !slices.Contains(tokens.SharedKinds, kind) {
		return ""
	}
	for name, values := range form {
		for _, value := range values {
			switch {
			case name == "type" && value == kind:
			case name == "access_token", name == "component_access_token", g.Clients.IsCredential(value): // never sent to WeChat
			default:
				return ""
			}
		}
	}
	return kind
}
