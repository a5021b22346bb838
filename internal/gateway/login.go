// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// login prepares a call that exchanges the code or the refresh token of an end
// user. A platform makes it with the component's token, and names itself and the
// account in the query
// (developers.weixin.qq.com/doc/oplatform/openApi/miniprogram-management/login/api_thirdpartycode2session.html,
// developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Official_Accounts/official_account_website_authorization.html).
// SDKs that do not know platforms call the path for an ordinary account, with
// the client's secret in the parameter secret. policy.Lookup returns the path
// for platforms, which is sent to WeChat.
//
// Applications also send the parameters in a body. They are read as at a token
// endpoint, and the call goes up as GET with a query, the only form that WeChat
// documents. All checks are made on that query, so WeChat cannot read what the
// gateway did not.
//
// An anonymous login needs no client: the refresh token of the end user is the
// credential. Therefore the rights of a client are not checked: a client without
// the right could send the same call without its own credential.
//
// The checks have this order: the method, the client where header or query have its
// credential, the body, the client where the body has it, the account, the client's
// right to the path and to the account. The query for WeChat has exactly one appid
// and one component_appid: if there were two, WeChat could use the one that was not
// checked. The client's secret is removed.
func (g *Gateway) login(w http.ResponseWriter, r *http.Request, c *call, path string, route policy.Route) error {
	c.kind, c.Param, c.Path, c.Query = route.Kind, route.Param, cmp.Or(route.Rewrite, path), r.URL.RawQuery
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		// HEAD would use up the code, and nobody could read the answer.
		return problem.ErrNotAllowed.Because("WeChat uses GET and POST")
	}
	if err := g.loginClient(r, c); err != nil {
		return err
	}
	if r.ContentLength != 0 {
		body, err := g.posted(w, r)
		if err != nil {
			return err
		}
		if c.Query, err = merged(c.Query, body); err != nil {
			return err
		}
		if c.client == nil {
			if err := g.loginClient(r, c); err != nil {
				return err
			}
		}
	}
	component, err := g.permitLogin(r, c, path, route.Anonymous)
	if err != nil {
		return err
	}
	appid := rewrite.First(c.Query, "appid")
	c.Subject, c.account = subject.Of(component, ""), appid
	c.Query = rewrite.Without(c.Query, nil, "secret")
	c.Query = rewrite.Set(rewrite.Set(c.Query, "appid", appid), "component_appid", component)
	return nil
}

// loginClient sets the client and the subject of a login if the header or the query
// of the call has a credential. A header or a token has precedence over the secret in
// the query: wechatpy sends a token and the secret in one request.
func (g *Gateway) loginClient(r *http.Request, c *call) error {
	found, err := g.bearer(r, c)
	if found || err != nil {
		return err
	}
	found, err = g.token(r, c, c.Query)
	if found || err != nil {
		return err
	}
	secret := rewrite.First(c.Query, "secret")
	if secret == "" {
		return nil
	}
	if c.client, _ = g.Clients.withSecret(secret); c.client == nil {
		return problem.ErrClientSecret
	}
	c.Subject = subject.Of(c.client.Component, "")
	return g.admit(r, c.client)
}

// permitLogin checks the rights of a login, whose query is complete, and returns the
// component whose token it takes.
//
// A rule of the client may name the method that goes up, GET, or the one that the
// client has sent.
func (g *Gateway) permitLogin(r *http.Request, c *call, path string, anonymous bool) (component string, err error) {
	if c.client == nil && !anonymous {
		return "", missing(r, problem.ErrTokenMissing)
	}
	appid := rewrite.First(c.Query, "appid")
	if !subject.ValidAppID(appid) {
		return "", problem.ErrAppIDMissing
	}
	if c.client == nil {
		return g.componentFor(appid)
	}
	// A gateway token of an account is for this account only, even if the client
	// has a right to others. A secret is for all of them.
	if !c.Subject.IsComponent() && c.Subject.Authorizer() != appid {
		return "", problem.ErrUnauthorized
	}
	rights := &c.client.Rights
	switch {
	case anonymous:
	case !rights.Path(http.MethodGet, path, policy.Login) && !rights.Path(r.Method, path, policy.Login):
		return "", problem.ErrNotAllowed.Because("%s %s", r.Method, path)
	case !rights.Authorizer(appid):
		return "", problem.ErrUnauthorized
	}
	return c.client.Component, nil
}

// loginParameters are the parameters of logins, in lower case.
var loginParameters = []string{"appid", "secret", "js_code", "code", "grant_type", "refresh_token", "access_token", "component_access_token"}

// merged returns a query with the parameters of a body, which it may change, put in
// front; empty ones say nothing. A parameter of
// logins that the body has is taken out of the query. It fails if the body names
// another account than the query, or several: whichever were taken, the other may have
// been meant.
func merged(query string, body url.Values) (string, error) {
	maps.DeleteFunc(body, func(name string, _ []string) bool { return body.Get(name) == "" })
	if len(body) == 0 {
		return query, nil
	}
	first := body.Encode()
	appids := append(slices.Clone(body["appid"]), rewrite.First(first, "appid"), rewrite.First(query, "appid"))
	appids = slices.DeleteFunc(appids, func(appid string) bool { return appid == "" })
	if len(slices.Compact(appids)) > 1 {
		return "", problem.ErrBadRequest.Because("the request names different appids")
	}
	given := slices.DeleteFunc(slices.Clone(loginParameters), func(name string) bool { return !body.Has(name) })
	if rest := rewrite.Without(query, nil, given...); rest != "" {
		return first + "&" + rest, nil
	}
	return first, nil
}

// asGET returns the request of a login as Relay sends it: a GET without a body. The
// query of the call has what was in the body.
func asGET(r *http.Request) *http.Request {
	if r.Method == http.MethodGet && r.ContentLength == 0 {
		return r
	}
	up := *r
	up.Method, up.Body, up.ContentLength, up.TransferEncoding = http.MethodGet, http.NoBody, 0, nil
	up.Header = r.Header.Clone()
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding"} {
		up.Header.Del(name)
	}
	return &up
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
