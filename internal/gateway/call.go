// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// call is one application's call: who makes it, and what of it goes to WeChat.
type call struct {
	relay.Call
	client *Client      // nil for the calls that need none
	shown  secretDigest // the client secret that was shown, now or for the token
	kind   policy.Kind  // of the path that the client sent
}

// identify decides who calls, for whom, and whether the client may. It reads
// no body.
func (g *Gateway) identify(r *http.Request, path string, route policy.Route) (*call, error) {
	c := &call{kind: route.Kind, Call: relay.Call{Param: route.Param, Path: path, Query: r.URL.RawQuery}}
	if route.Rewrite != "" {
		c.Path = route.Rewrite
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodPost && r.Method != http.MethodHead:
		// The answer to a TRACE would be the request, real token included.
		return nil, problem.ErrNotAllowed.Because("WeChat uses GET and POST")
	case route.Kind == policy.User:
		c.Query = rewrite.Without(c.Query, g.Clients.IsCredential)
		return c, nil
	case route.Kind == policy.Login:
		return c, g.login(r, c, path, route.Anonymous)
	}
	if err := g.caller(r, c); err != nil {
		return nil, err
	}
	if err := c.fits(c.kind); err != nil {
		return nil, err
	}
	return c, c.permit(r.Method, path)
}

// caller finds the client and the subject by the credential of the request:
// a bearer secret where the header is present, else a gateway token.
func (g *Gateway) caller(r *http.Request, c *call) error {
	if header := r.Header.Get("Authorization"); header != "" {
		return g.bearer(r, c, header)
	}
	token := rewrite.First(r.URL.RawQuery, "access_token", "component_access_token")
	if token == "" {
		return problem.ErrTokenMissing
	}
	signer, who, err := g.Clients.withToken(token, time.Now())
	c.client, c.shown, c.Subject = signer.client, signer.shown, who
	return err
}

// bearer finds the client by its secret. The subject is the component on
// component-level paths or where the header names it, else the authorizer
// that the header names, else the client's only one. A login names its
// authorizer in the query.
func (g *Gateway) bearer(r *http.Request, c *call, header string) error {
	if c.client, c.shown = g.Clients.withBearer(header); c.client == nil {
		return problem.ErrBearer
	}
	named := r.Header.Get(openapi.AppIDHeader)
	switch {
	case c.kind == policy.Component || c.kind == policy.Login || named == c.client.Component:
		c.Subject = subject.Of(c.client.Component, "")
	case named != "" && !subject.ValidAppID(named):
		return problem.ErrUnauthorized.Because("%s is not an appid", openapi.AppIDHeader)
	case named != "":
		c.Subject = subject.Of(c.client.Component, named)
	case c.client.Rights.OnlyAuthorizer() != "":
		c.Subject = subject.Of(c.client.Component, c.client.Rights.OnlyAuthorizer())
	default:
		return problem.ErrUnauthorized.Because("the client has several authorizers, name one in the header %s", openapi.AppIDHeader)
	}
	return nil
}

// fits refuses a token of the wrong level.
func (c *call) fits(kind policy.Kind) error {
	switch {
	case kind == policy.Component && !c.Subject.IsComponent():
		return problem.ErrWantComponent
	case kind == policy.Authorizer && c.Subject.IsComponent():
		return problem.ErrWantAuthorizer
	}
	return nil
}

// permit checks the client's rights, which are looked up at every call.
func (c *call) permit(method, path string) error {
	kind := c.kind
	if kind == policy.Either {
		kind = policy.Authorizer
		if c.Subject.IsComponent() {
			kind = policy.Component
		}
	}
	if !c.client.Rights.Path(method, path, kind) {
		return problem.ErrNotAllowed.Because("%s %s", method, path)
	}
	if !c.Subject.IsComponent() && !c.client.Rights.Authorizer(c.Subject.Authorizer()) {
		return problem.ErrUnauthorized
	}
	return nil
}
