// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"net/http"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// appidHeader names the authorizer where the caller shows a client secret
// instead of a gateway token.
const appidHeader = "Wechat-Appid"

// call is one application's call as it is to be made at WeChat.
type call struct {
	client  *client         // nil for the calls that need none
	shown   secretDigest    // the client secret that was shown, now or for the token
	subject subject.Subject // whose real token is attached; "" for none
	route   policy.Route
	path    string // WeChat's
	query   string // as received
	body    body
	answer  peeked // the first; that of a repeated call is not looked at
}

// identify decides who calls, for whom, and whether the client may. It reads
// no body.
func (a *App) identify(r *http.Request, path string, route policy.Route) (*call, error) {
	c := &call{route: route, path: path, query: r.URL.RawQuery}
	if route.Rewrite != "" {
		c.path = route.Rewrite
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodPost && r.Method != http.MethodHead:
		// The answer to a TRACE would be the request, real token included.
		return nil, problem.ErrNotAllowed.Because("WeChat uses GET and POST")
	case route.Kind == policy.User:
		c.query = rewrite.Without(c.query, a.clients.isCredential)
		return c, nil
	case route.Kind == policy.Login:
		return c, a.login(r, c, path)
	}
	if err := a.caller(r, c); err != nil {
		return nil, err
	}
	if err := c.fits(route.Kind); err != nil {
		return nil, err
	}
	return c, c.permit(r.Method, path)
}

// caller finds the client and the subject by the credential of the request:
// a bearer secret where the header is present, else a gateway token.
func (a *App) caller(r *http.Request, c *call) error {
	if header := r.Header.Get("Authorization"); header != "" {
		return a.bearer(r, c, header)
	}
	token := rewrite.First(r.URL.RawQuery, "access_token", "component_access_token")
	if token == "" {
		return problem.ErrTokenMissing
	}
	signer, who, err := a.clients.withToken(token, time.Now())
	c.client, c.shown, c.subject = signer.client, signer.shown, who
	return err
}

// bearer finds the client by its secret. The subject is the component on
// component-level paths or where the header names it, else the authorizer
// that the header names, else the client's only one. A login names its
// authorizer in the query.
func (a *App) bearer(r *http.Request, c *call, header string) error {
	if c.client, c.shown = a.clients.withBearer(header); c.client == nil {
		return problem.ErrBearer
	}
	named := r.Header.Get(appidHeader)
	switch {
	case c.route.Kind == policy.Component || c.route.Kind == policy.Login || named == c.client.component:
		c.subject = subject.Of(c.client.component, "")
	case named != "" && !subject.ValidAppID(named):
		return problem.ErrUnauthorized.Because("%s is not an appid", appidHeader)
	case named != "":
		c.subject = subject.Of(c.client.component, named)
	case c.client.rights.OnlyAuthorizer() != "":
		c.subject = subject.Of(c.client.component, c.client.rights.OnlyAuthorizer())
	default:
		return problem.ErrUnauthorized.Because("the client has several authorizers, name one in the header %s", appidHeader)
	}
	return nil
}

// fits refuses a token of the wrong level.
func (c *call) fits(kind policy.Kind) error {
	switch {
	case kind == policy.Component && !c.subject.IsComponent():
		return problem.ErrWantComponent
	case kind == policy.Authorizer && c.subject.IsComponent():
		return problem.ErrWantAuthorizer
	}
	return nil
}

// permit checks the client's rights, which are looked up at every call.
func (c *call) permit(method, path string) error {
	kind := c.route.Kind
	if kind == policy.Either {
		kind = policy.Authorizer
		if c.subject.IsComponent() {
			kind = policy.Component
		}
	}
	if !c.client.rights.Path(method, path, kind) {
		return problem.ErrNotAllowed.Because("%s %s", method, path)
	}
	if !c.subject.IsComponent() && !c.client.rights.Authorizer(c.subject.Authorizer()) {
		return problem.ErrUnauthorized
	}
	return nil
}

// login prepares the calls that exchange an end user's code or refresh token.
// They are made with the component's token for the authorizer that the query
// names; the client shows its secret in the query, as SDKs do, or a token.
func (a *App) login(r *http.Request, c *call, path string) error {
	if r.Method == http.MethodPost || r.ContentLength != 0 {
		// A form could name another appid than the query, unseen here.
		return problem.ErrNotAllowed.Because("%s wants GET without a body", path)
	}
	appid := rewrite.First(r.URL.RawQuery, "appid")
	if !subject.ValidAppID(appid) {
		return problem.ErrAppIDMissing
	}
	component, err := a.loginClient(r, c)
	if err != nil {
		return err
	}
	if c.client != nil && !c.route.Anonymous {
		if !c.client.rights.Path(r.Method, path, policy.Login) {
			return problem.ErrNotAllowed.Because("%s %s", r.Method, path)
		}
		if !c.client.rights.Authorizer(appid) {
			return problem.ErrUnauthorized
		}
	}
	c.subject = subject.Of(component, "")
	c.query = rewrite.Without(c.query, nil, "secret")
	c.query = rewrite.Set(rewrite.Set(c.query, "appid", appid), "component_appid", component)
	return nil
}

// loginClient finds the client of a login and the component to make it with.
func (a *App) loginClient(r *http.Request, c *call) (component string, err error) {
	secret := rewrite.First(r.URL.RawQuery, "secret")
	switch {
	case r.Header.Get("Authorization") != "" || rewrite.First(r.URL.RawQuery, "access_token", "component_access_token") != "":
		err = a.caller(r, c)
		// A gateway token of an authorizer says for which one it is meant.
		if err == nil && !c.subject.IsComponent() && r.Header.Get("Authorization") == "" &&
			c.subject.Authorizer() != rewrite.First(r.URL.RawQuery, "appid") {
			err = problem.ErrUnauthorized
		}
	case secret != "":
		if c.client, _ = a.clients.withSecret(secret); c.client == nil {
			err = problem.ErrClientSecret
		}
	case c.route.Anonymous:
		return a.componentOf(rewrite.First(r.URL.RawQuery, "appid"))
	default:
		err = problem.ErrTokenMissing
	}
	if err != nil {
		return "", err
	}
	return c.client.component, nil
}

// componentOf returns the component for an authorizer where no client tells:
// the only one, or that of the clients which name the authorizer.
func (a *App) componentOf(appid string) (string, error) {
	if len(a.components) == 1 {
		for component := range a.components {
			return component, nil
		}
	}
	for _, client := range a.clients.all {
		if _, named := client.rights.Authorizers[appid]; named {
			return client.component, nil
		}
	}
	return "", problem.ErrUnauthorized
}
