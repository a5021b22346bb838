// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// maxParameters bounds the body of a call that the gateway answers itself.
const maxParameters = 16 << 10

// endpoint is a call that is not relayed: what WeChat asks for in it, or
// answers, are credentials. The gateway answers it with values of its own.
type endpoint struct {
	// secret is the parameter that holds the client's secret in the place of
	// WeChat's; "" where a gateway token says who calls.
	secret string
	answer func(*App, context.Context, *question) ([]byte, error)
}

var endpoints = map[policy.Endpoint]endpoint{
	policy.Token:                 {"secret", (*App).answerToken},
	policy.StableToken:           {"secret", (*App).answerToken},
	policy.APIComponentToken:     {"component_appsecret", (*App).answerComponentToken},
	policy.APIAuthorizerToken:    {"", (*App).answerAuthorizerToken},
	policy.APIQueryAuth:          {"", (*App).answerQueryAuth},
	policy.APIGetAuthorizerInfo:  {"", (*App).answerAuthorizerInfo},
	policy.APIGetAuthorizerList:  {"", (*App).answerAuthorizerList},
	policy.APIAuthorizerOption:   {"", (*App).answerOption},
	policy.APICreatePreauthcode:  {"", (*App).answerPreauthcode},
	policy.APIStartPushTicket:    {"component_secret", (*App).answerStartPushTicket},
	policy.ComponentClearQuotaV2: {"appsecret", (*App).answerClearQuota},
	policy.ClearQuotaV2:          {"appsecret", (*App).answerClearQuota},
	policy.RIDGet:                {"", (*App).answerRID},
}

// question is a call to an endpoint, with the client's rights checked but for
// those to an authorizer that its parameters name.
type question struct {
	call
	form url.Values // of the query and the body; each is read here, once, and never passed on
}

// local answers the calls that the gateway does not relay.
func (p *Proxy) local(w http.ResponseWriter, r *http.Request, path string, route policy.Route) {
	q, err := p.app.question(w, r, path, route)
	if err == nil {
		authenticated(r, q.client)
		var answer []byte
		if answer, err = endpoints[route.Endpoint].answer(p.app, r.Context(), q); err == nil {
			metrics.AnsweredCalls.Inc()
			problem.WriteJSON(w, http.StatusOK, answer)
			return
		}
	}
	var own *problem.Problem
	var refusal *openapi.Refusal
	if !errors.As(err, &own) && errors.As(err, &refusal) {
		metrics.AnsweredCalls.Inc()
		p.log.Debug("call refused by WeChat", zap.String("path", path), zap.Error(err))
		problem.WriteRefusal(w, refusal)
		return
	}
	problem.Write(w, r, p.log, err)
}

// question finds out who asks and whether it may.
func (a *App) question(w http.ResponseWriter, r *http.Request, path string, route policy.Route) (*question, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return nil, problem.ErrNotAllowed.Because("WeChat uses GET and POST")
	}
	form, err := parameters(w, r)
	if err != nil {
		return nil, err
	}
	q := &question{call{route: route, path: path}, form}
	if err := a.asker(r, q); err != nil {
		return nil, err
	}
	if component := form.Get("component_appid"); component != "" && component != q.client.component {
		return nil, problem.ErrComponent
	}
	return q, q.permit(r.Method, path)
}

// asker finds the client of a question, by a bearer secret where the header is
// present, else by what the endpoint wants.
func (a *App) asker(r *http.Request, q *question) error {
	parameter := endpoints[q.route.Endpoint].secret
	header := r.Header.Get("Authorization")
	switch {
	case q.route.Kind == policy.Either:
		return a.caller(r, &q.call)
	case header != "":
		if q.client, q.shown = a.clients.withBearer(header); q.client == nil {
			return problem.ErrBearer
		}
	case parameter != "":
		if q.client, q.shown = a.clients.withSecret(q.form.Get(parameter)); q.client == nil {
			return problem.ErrClientSecret
		}
	default:
		if err := a.caller(r, &q.call); err != nil {
			return err
		}
		return q.fits(policy.Component)
	}
	q.subject = subject.Of(q.client.component, "")
	return nil
}

// authorizer returns the account that a parameter names, or the client's only
// one, if the client may act for it.
func (q *question) authorizer(parameter string) (subject.Subject, error) {
	appid := q.form.Get(parameter)
	if appid == "" {
		appid = q.client.rights.OnlyAuthorizer()
	}
	switch {
	case appid == "":
		return "", problem.ErrAppIDMissing
	case !subject.ValidAppID(appid) || !q.client.rights.Authorizer(appid):
		return "", problem.ErrUnauthorized
	}
	return subject.Of(q.client.component, appid), nil
}

// issue makes a gateway token that dies with the secret which was shown.
func (q *question) issue(who subject.Subject) string {
	return q.client.issue(q.shown, who, time.Now())
}

// parameters reads the parameters of a question from the query and from a body
// in JSON or as a form; SDKs use all three. What the body says counts before
// what the query says.
func parameters(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, problem.ErrBadRequest.Because("the query is malformed")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxParameters))
	switch {
	case err != nil:
		return nil, problem.OfBody(err)
	case len(body) == 0:
		return form, nil
	}
	var posted url.Values
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == "application/x-www-form-urlencoded" && body[0] != '{' {
		posted, err = url.ParseQuery(string(body))
	} else {
		posted, err = members(body)
	}
	if err != nil {
		return nil, problem.ErrBadRequest.Because("the body is neither JSON nor a form")
	}
	for name, values := range posted {
		form[name] = append(values, form[name]...)
	}
	return form, nil
}

// members reads the texts and numbers of a JSON object. Of two members of one
// name the last counts: nobody else reads the body, so none can differ.
func members(body []byte) (url.Values, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, err
	}
	form := make(url.Values)
	for name, raw := range object {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		if text = strings.TrimSpace(text); text != "null" {
			form.Set(name, text)
		}
	}
	return form, nil
}
