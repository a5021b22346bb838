// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"

	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// login prepares a call that exchanges the code or the refresh token of an end
// user. A platform makes it with the component's token, and names itself and
// the account in the query
// (developers.weixin.qq.com/doc/oplatform/openApi/miniprogram-management/login/api_thirdpartycode2session.html,
// developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Official_Accounts/official_account_website_authorization.html).
// SDKs that do not know platforms call the path for an ordinary account, with
// the client's secret in the parameter secret. policy.Lookup returns the path
// for platforms, which is sent to WeChat.
//
// An anonymous login needs no client: the refresh token of the end user is the
// credential. Therefore the rights of a client are not checked: a client without
// the right could send the same call without its own credential.
//
// The checks have this order: the form of the request, the client, its right to
// the path, its right to the account. Then the query for WeChat is made. It has
// exactly one appid and one component_appid: if there were two, WeChat could
// use the one that was not checked. The client's secret is removed.
func (g *Gateway) login(r *http.Request, c *call, path string, anonymous bool) error {
	if r.Method == http.MethodPost || r.ContentLength != 0 {
		// The gateway does not read the body. A form in it could name
		// another appid than the query, and WeChat could use that one.
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

// loginClient sets the client of a login and returns the component whose token
// the login takes. A header or a token has precedence over the secret in the
// query: wechatpy sends a token and the secret in one request.
func (g *Gateway) loginClient(r *http.Request, c *call, anonymous bool) (component string, err error) {
	secret := rewrite.First(r.URL.RawQuery, "secret")
	switch {
	case r.Header.Get("Authorization") != "" || rewrite.First(r.URL.RawQuery, "access_token", "component_access_token") != "":
		err = g.caller(r, c)
		// A gateway token of an account is for this account only, even if the
		// client has a right to others. A secret is for all of them.
		if err == nil && !c.Subject.IsComponent() && r.Header.Get("Authorization") == "" &&
			c.Subject.Authorizer() != rewrite.First(r.URL.RawQuery, "appid") {
			err = problem.ErrUnauthorized
		}
	case secret != "":
		if c.client, _ = g.Clients.withSecret(secret); c.client == nil {
			err = problem.ErrClientSecret
		} else {
			err = g.admit(r, c.client)
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

// componentFor returns the component for a login without a client: the only one
// that is configured, or the one of the first client whose configuration names
// the account. A client with a right to all accounts names none, so it is not
// used.
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
