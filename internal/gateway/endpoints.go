// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// endpoint is a call that is not relayed: what WeChat asks for in it, or
// answers, are credentials. The gateway answers it with values of its own.
type endpoint struct {
	// secret is the parameter that holds the client's secret in the place of
	// WeChat's; "" where a gateway token says who calls.
	secret string
	answer func(*Gateway, context.Context, *endpointCall) ([]byte, error)
}

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

// endpointCall is a call to an endpoint, with the client's rights checked but for
// those to an authorizer that its parameters name.
type endpointCall struct {
	call
	endpoint policy.Endpoint
	form     url.Values // of the query and the body; each is read here, once, and never passed on
}

// serveEndpoint answers a call that is not relayed.
func (g *Gateway) serveEndpoint(w http.ResponseWriter, r *http.Request, path string, route policy.Route) {
	e, err := g.newEndpointCall(w, r, path, route)
	if err == nil {
		g.Identified(r, e.client)
		var answer []byte
		if answer, err = endpoints[route.Endpoint].answer(g, r.Context(), e); err == nil {
			metrics.AnsweredCalls.Inc()
			problem.WriteJSON(w, http.StatusOK, answer)
			return
		}
	}
	var own *problem.Problem
	var refusal *openapi.Refusal
	if !errors.As(err, &own) && errors.As(err, &refusal) {
		metrics.AnsweredCalls.Inc()
		g.Log.Debug("call refused by WeChat", zap.String("path", path), zap.Error(err))
		problem.WriteRefusal(w, refusal)
		return
	}
	problem.Write(w, r, g.Log, err)
}

// newEndpointCall finds out who asks and whether it may.
func (g *Gateway) newEndpointCall(w http.ResponseWriter, r *http.Request, path string, route policy.Route) (*endpointCall, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return nil, problem.ErrNotAllowed.Because("WeChat uses GET and POST")
	}
	form, err := parameters(w, r)
	if err != nil {
		return nil, err
	}
	e := &endpointCall{call{kind: route.Kind, Call: relay.Call{Path: path}}, route.Endpoint, form}
	if err := g.authenticate(r, e); err != nil {
		return nil, err
	}
	if component := form.Get("component_appid"); component != "" && component != e.client.Component {
		return nil, problem.ErrComponent
	}
	return e, e.permit(r.Method, path)
}

// authenticate finds the client of a call, by a bearer secret where the header is
// present, else by what the endpoint wants.
func (g *Gateway) authenticate(r *http.Request, e *endpointCall) error {
	parameter := endpoints[e.endpoint].secret
	header := r.Header.Get("Authorization")
	switch {
	case e.kind == policy.Either:
		return g.caller(r, &e.call)
	case header != "":
		if e.client, e.shown = g.Clients.withBearer(header); e.client == nil {
			return problem.ErrBearer
		}
	case parameter != "":
		if e.client, e.shown = g.Clients.withSecret(e.form.Get(parameter)); e.client == nil {
			return problem.ErrClientSecret
		}
	default:
		if err := g.caller(r, &e.call); err != nil {
			return err
		}
		return e.fits(policy.Component)
	}
	e.Subject = subject.Of(e.client.Component, "")
	return nil
}

// authorizer returns the account that a parameter names, or the client's only
// one, if the client may act for it.
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
	return subject.Of(e.client.Component, appid), nil
}

// issue makes a gateway token that dies with the secret which was shown.
func (e *endpointCall) issue(who subject.Subject) string {
	return e.client.issue(e.shown, who, time.Now())
}
