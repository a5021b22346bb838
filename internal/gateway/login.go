// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"

	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// login prepares the calls that exchange an end user's code or refresh token.
// They are made with the component's token for the authorizer that the query
// names; the client shows its secret in the query, as SDKs do, or a token.
//
// An anonymous one needs no client, as its credential is the end user's own. No
// rights are asked: whom they refused, the call without credentials would serve.
func (g *Gateway) login(r *http.Request, c *call, path string, anonymous bool) error {
	if r.Method == http.MethodPost || r.ContentLength != 0 {
		// A form could name another appid than the query, unseen here.
		return problem.ErrNotAllowed.Because("%s wants GET without a body", path)
	}
	appid := rewrite.First(r.URL.RawQuery, "appid")
	if !subject.ValidAppID(appid) {
		return problem.ErrAppIDMissing
	}
	component, err := g.loginClient(r, c, anonymous)
	if err != nil {
		return err
	}
	if c.client != nil && !anonymous {
		if !c.client.Rights.Path(r.Method, path, policy.Login) {
			return problem.ErrNotAllowed.Because("%s %s", r.Method, path)
		}
		if !c.client.Rights.Authorizer(appid) {
			return problem.ErrUnauthorized
		}
	}
	c.Subject = subject.Of(component, "")
	c.Query = rewrite.Without(c.Query, nil, "secret")
	c.Query = rewrite.Set(rewrite.Set(c.Query, "appid", appid), "component_appid", component)
	return nil
}

// loginClient finds the client of a login and the component to make it with.
func (g *Gateway) loginClient(r *http.Request, c *call, anonymous bool) (component string, err error) {
	secret := rewrite.First(r.URL.RawQuery, "secret")
	switch {
	case r.Header.Get("Authorization") != "" || rewrite.First(r.URL.RawQuery, "access_token", "component_access_token") != "":
		err = g.caller(r, c)
		// A gateway token of an authorizer says for which one it is meant.
		if err == nil && !c.Subject.IsComponent() && r.Header.Get("Authorization") == "" &&
			c.Subject.Authorizer() != rewrite.First(r.URL.RawQuery, "appid") {
			err = problem.ErrUnauthorized
		}
	case secret != "":
		if c.client, _ = g.Clients.withSecret(secret); c.client == nil {
			err = problem.ErrClientSecret
		}
	case anonymous:
		return g.componentFor(rewrite.First(r.URL.RawQuery, "appid"))
	default:
		err = problem.ErrTokenMissing
	}
	if err != nil {
		return "", err
	}
	return c.client.Component, nil
}

// componentFor returns the component for an authorizer where no client tells:
// the only one, or that of the clients which name the authorizer.
func (g *Gateway) componentFor(appid string) (string, error) {
	if only, _, ok := subject.Named(g.Components, ""); ok {
		return only, nil
	}
	for _, client := range g.Clients.all {
		if _, named := client.Rights.Authorizers[appid]; named {
			return client.Component, nil
		}
	}
	return "", problem.ErrUnauthorized
}
