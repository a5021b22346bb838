// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/logging"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// endpoint is a path that the gateway answers itself: WeChat wants credentials
// in the request, or returns them in the answer. Clients send and receive
// values of the gateway in their place.
type endpoint struct {
	// secret is the parameter in which WeChat wants an app secret, and the
	// gateway the client's secret; "" where the client sends a gateway token.
	// WeChat has four names for it.
	secret string
	// answer returns a complete JSON object. It waits no longer than its
	// context, the one of the request. Its errors are for problem.Of, or
	// WeChat's refusals.
	answer func(*Gateway, context.Context, *endpointCall) ([]byte, error)
}

// endpoints must have a row for each endpoint that policy.Lookup can return, but for
// SharedTicket, see serveSharedTicket. In place of the credential that a row asks for, a client may always send its
// secret in the header Authorization.
var endpoints = map[policy.Endpoint]endpoint{
	policy.Token:                 {"secret", (*Gateway).answerToken},
	policy.StableToken:           {"secret", (*Gateway).answerToken},
	policy.APIComponentToken:     {"component_appsecret", (*Gateway).answerComponentToken},
	policy.APIAuthorizerToken:    {"", (*Gateway).answerAuthorizerToken},
	policy.APIQueryAuth:          {"", (*Gateway).answerQueryAuth},
	policy.APIGetAuthorizerInfo:  {"", (*Gateway).answerAuthorizerInfo},
	policy.APIGetAuthorizerList:  {"", (*Gateway).answerAuthorizerList},
	policy.APIAuthorizerOption:   {"", (*Gateway).answerOption},
	policy.APICreatePreauthcode:  {"", (*Gateway).answerPreauthcode},
	policy.APIStartPushTicket:    {"component_secret", (*Gateway).answerStartPushTicket},
	policy.ComponentClearQuotaV2: {"appsecret", (*Gateway).answerClearQuota},
	policy.ClearQuotaV2:          {"appsecret", (*Gateway).answerClearQuota},
	policy.RIDGet:                {"", (*Gateway).answerRID},
}

// endpointCall is a call to an endpoint. The client and its right to the path
// are checked. Its right to the account that a parameter names is not: the
// function that answers must use authorizer, or check the account that WeChat
// returns.
type endpointCall struct {
	*call
	endpoint policy.Endpoint
	// form holds the parameters of the query and of the body. Neither is sent to
	// WeChat: the gateway makes a new body from the parameters that it has
	// checked. So WeChat cannot read another account in it than the gateway did.
	form url.Values
}

// serveEndpoint answers a call that is not relayed.
func (g *Gateway) serveEndpoint(w http.ResponseWriter, r *http.Request, c *call, path string, route policy.Route) {
	var answer []byte
	e, err := g.newEndpointCall(w, r, c, path, route)
	if err == nil {
		c.Client = e.client.ID
		g.Identified(r, e.client)
		answer, err = endpoints[route.Endpoint].answer(g, r.Context(), e)
	}
	g.finish(w, r, c, answer, err)
}

// finish answers a call with a complete JSON object, or with err. If WeChat refused
// the call that the gateway made for it, the client gets WeChat's errcode and errmsg,
// as if it had made the call itself. A problem has precedence over a refusal that
// it was joined with: the gateway knows more about the cause.
func (g *Gateway) finish(w http.ResponseWriter, r *http.Request, c *call, answer []byte, err error) {
	if err == nil {
		c.own = true
		c.Report.Wrote(http.StatusOK, len(answer))
		problem.WriteJSON(w, http.StatusOK, answer)
		return
	}
	var own *problem.Problem
	var refusal *openapi.Refusal
	if !errors.As(err, &own) && errors.As(err, &refusal) {
		c.own = true
		c.Report.Refused(refusal)
		c.Report.Status = http.StatusOK // placeholders are read while the answer is written
		g.Hint(w, &c.Call, refusal)
		g.Log.Debug("call refused by WeChat", zap.String("path", logging.RedactAddress(r.URL.Path)), zap.Error(err))
		c.Report.Bytes = int64(problem.WriteRefusal(w, refusal))
		return
	}
	g.refuse(w, r, c, err)
}

// newEndpointCall finds the client, reads the parameters and checks the client's
// right to the path. Where the body may contain the client's secret, it is read
// before the client is known; so its size and its time are limited. A
// component_appid is optional, but one that is not the client's component is
// refused, with 40013.
func (g *Gateway) newEndpointCall(w http.ResponseWriter, r *http.Request, c *call, path string, route policy.Route) (*endpointCall, error) {
	c.kind, c.Path = route.Kind, path
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return nil, problem.ErrNotAllowed.Because("WeChat uses GET and POST")
	}
	e := &endpointCall{call: c, endpoint: route.Endpoint}
	known, err := g.authenticate(r, e)
	if err != nil {
		return nil, err
	}
	if e.form, err = g.parameters(w, r); err != nil {
		return nil, err
	}
	if !known {
		if err := g.authenticateForm(r, e); err != nil {
			return nil, err
		}
	}
	if component := e.form.Get("component_appid"); component != "" && component != e.client.Component {
		return nil, problem.ErrComponent
	}
	if e.hasGatewayCode() {
		e.kind = policy.None // as api_authorizer_token: it tells of the account alone, to which the client must have the right
	}
	return e, e.permit(r.Method, path)
}

// hasGatewayCode reports whether a call to api_query_auth has a gateway code in the place
// of WeChat's, or something with a value of the gateway in it, which must not reach WeChat.
func (e *endpointCall) hasGatewayCode() bool {
	return e.endpoint == policy.APIQueryAuth && gwtoken.Within(e.form.Get("authorization_code"))
}

// authenticate sets the client and the subject of a call from its header or its
// query: the secret in the header Authorization, or else a gateway token. Known is
// false if the client is to be found in the parameters: an endpoint whose parameters
// have a secret accepts no gateway token, as WeChat's takes no token. The subject is
// the component: the account, if any, is named by a parameter. Only a path of kind
// Either also takes a token of an account.
func (g *Gateway) authenticate(r *http.Request, e *endpointCall) (known bool, err error) {
	if e.kind == policy.Either {
		return true, g.caller(r, e.call)
	}
	if e.client, e.shown = g.Clients.authorization(r); e.client != nil {
		return true, g.actAsComponent(r, e)
	}
	if endpoints[e.endpoint].secret != "" {
		return false, nil
	}
	if err := g.caller(r, e.call); err != nil {
		return true, err
	}
	return true, e.fits(policy.Component)
}

// authenticateForm sets the client and the subject from the secret in the parameters.
func (g *Gateway) authenticateForm(r *http.Request, e *endpointCall) error {
	secret := e.form.Get(endpoints[e.endpoint].secret)
	if secret == "" {
		return missing(r, problem.ErrClientSecret)
	}
	if e.client, e.shown = g.Clients.withSecret(secret); e.client == nil {
		return problem.ErrClientSecret
	}
	return g.actAsComponent(r, e)
}

// actAsComponent sets the subject of a client that has shown its secret.
func (g *Gateway) actAsComponent(r *http.Request, e *endpointCall) error {
	e.Subject = subject.Of(e.client.Component, "")
	return g.admit(r, e.client)
}

// authorizer returns the account that a parameter names, or without the
// parameter the client's account if it has exactly one. It fails if the client
// may not act for the account. The error is the same for a text that is not an
// appid.
func (e *endpointCall) authorizer(parameter string) (subject.Subject, error) {
	appid := e.form.Get(parameter)
	if appid == "" {
		appid = e.client.Rights.OnlyAuthorizer()
	}
	switch {
	case appid == "":
		return "", problem.ErrAppIDMissing
	case !subject.ValidAppID(appid) || !e.client.Rights.Authorizer(appid):
		return "", problem.ErrUnauthorized
	}
	e.account = appid
	return subject.Of(e.client.Component, appid), nil
}

// issue makes a gateway token for a subject. It becomes invalid together with
// the secret of this call, or with the one for which the token of this call was
// issued.
func (e *endpointCall) issue(who subject.Subject) string {
	return e.client.issue(e.shown, who, time.Now())
}
