// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

// answerQueryAuth answers api_query_auth. The gateway has most likely
// exchanged the code already, when WeChat pushed it.
func (g *Gateway) answerQueryAuth(ctx context.Context, e *endpointCall) ([]byte, error) {
	code := secret.New(e.form.Get("authorization_code"))
	if code == nil {
		return nil, problem.ErrBadRequest.Because("authorization_code is missing")
	}
	granted, err := g.Tokens.QueryAuth(ctx, e.client.Component, code)
	if err != nil {
		return nil, err
	}
	if !e.client.Rights.Authorizer(granted.Authorizer) {
		return nil, problem.ErrUnauthorized
	}
	answer := granted.Answer
	if answer == nil {
		answer = authorizationOf(granted)
	}
	return e.substitute(answer, subject.Of(e.client.Component, granted.Authorizer))
}

// authorizationOf is WeChat's answer to api_query_auth as far as it is known,
// where another process was given it.
func authorizationOf(granted tokens.Authorization) []byte {
	type category struct {
		ID int `json:"id"`
	}
	type function struct {
		Category category `json:"funcscope_category"`
	}
	var answer struct {
		Info struct {
			AppID     string          `json:"authorizer_appid"`
			Token     json.RawMessage `json:"authorizer_access_token,omitempty"`
			Expires   int             `json:"expires_in,omitempty"`
			Refresh   json.RawMessage `json:"authorizer_refresh_token,omitempty"`
			Functions []function      `json:"func_info"`
		} `json:"authorization_info"`
	}
	info := &answer.Info
	info.AppID, info.Functions = granted.Authorizer, []function{}
	if granted.Tokens {
		info.Token, info.Refresh = json.RawMessage(openapi.Withheld), json.RawMessage(openapi.Withheld)
		info.Expires = gatewayTokenSeconds
	}
	for _, id := range granted.Functions {
		info.Functions = append(info.Functions, function{category{id}})
	}
	return problem.JSON(answer)
}

// substitute puts gateway values where WeChat's answer had an authorizer's
// credentials.
func (e *endpointCall) substitute(answer []byte, who subject.Subject) ([]byte, error) {
	return edit(answer, func(name string, value []byte) []byte {
		switch {
		case name == "expires_in":
			return sameForm(value, gatewayTokenSeconds)
		case string(value) != openapi.Withheld:
			return nil
		case strings.HasSuffix(name, "access_token"):
			return problem.JSON(e.issue(who))
		case strings.HasSuffix(name, "refresh_token"):
			return problem.JSON(refreshLabel(who))
		}
		return nil
	})
}

// edit is rewrite.Edit for an answer of WeChat's.
func edit(answer []byte, change func(name string, value []byte) []byte) ([]byte, error) {
	edited, err := rewrite.Edit(answer, change)
	if err != nil {
		return nil, fmt.Errorf("WeChat's answer: %w", err)
	}
	return edited, nil
}

// answerAuthorizerInfo answers api_get_authorizer_info.
func (g *Gateway) answerAuthorizerInfo(ctx context.Context, e *endpointCall) ([]byte, error) {
	who, err := e.authorizer("authorizer_appid")
	if err != nil {
		return nil, err
	}
	info, err := g.Tokens.AuthorizerInfo(ctx, who)
	if err != nil {
		return nil, err
	}
	return e.substitute(info.Answer, who)
}

// answerOption answers api_get_authorizer_option and api_set_authorizer_option,
// the old form, whose bodies name the account.
func (g *Gateway) answerOption(ctx context.Context, e *endpointCall) ([]byte, error) {
	who, err := e.authorizer("authorizer_appid")
	if err != nil {
		return nil, err
	}
	body := openapi.Params{
		"component_appid":  e.client.Component,
		"authorizer_appid": who.Authorizer(),
		"option_name":      e.form.Get("option_name"),
	}
	if e.form.Has("option_value") {
		body["option_value"] = e.form.Get("option_value")
	}
	return g.Tokens.CallComponentAPI(ctx, e.Subject, strings.ToLower(e.Path), body)
}

// answerPreauthcode answers api_create_preauthcode. The code is no credential:
// it opens the page on which an admin decides.
func (g *Gateway) answerPreauthcode(ctx context.Context, e *endpointCall) ([]byte, error) {
	return g.Tokens.CallComponentAPI(ctx, e.Subject, openapi.EndpointPreAuthCode, openapi.Params{"component_appid": e.client.Component})
}

// answerStartPushTicket answers api_start_push_ticket, with the real secret.
func (g *Gateway) answerStartPushTicket(ctx context.Context, e *endpointCall) ([]byte, error) {
	return g.Tokens.CallWithSecret(ctx, e.client.Component, openapi.EndpointStartPushTicket, "component_secret",
		openapi.Params{"component_appid": e.client.Component})
}

// answerClearQuota answers clear_quota/v2, with the real secret. WeChat has two
// of that name; the one for accounts wants the account's own secret, which no
// platform has, and the platform's does the same.
func (g *Gateway) answerClearQuota(ctx context.Context, e *endpointCall) ([]byte, error) {
	body := openapi.Params{"component_appid": e.client.Component}
	if e.endpoint == policy.ClearQuotaV2 || e.form.Get("appid") != "" {
		who, err := e.authorizer("appid")
		if err != nil {
			return nil, err
		}
		body["appid"] = who.Authorizer()
	}
	return g.Tokens.CallWithSecret(ctx, e.client.Component, "clear_quota/v2", "appsecret", body)
}

// answerRID answers openapi/rid/get: what an earlier call was, with its
// address, its body and its answer. What these hold of credentials is taken out.
func (g *Gateway) answerRID(ctx context.Context, e *endpointCall) ([]byte, error) {
	answer, err := g.Tokens.CallComponentAPI(ctx, e.Subject, "/cgi-bin/openapi/rid/get", openapi.Params{"rid": e.form.Get("rid")})
	if err != nil {
		return nil, err
	}
	return edit(answer, func(name string, value []byte) []byte {
		var text string
		if json.Unmarshal(value, &text) != nil || text == "" {
			return nil
		}
		switch name {
		case "request_url":
			return problem.JSON(withoutCredentials(text))
		case "request_body", "response_body":
			return problem.JSON(quotedBody(text))
		}
		return nil
	})
}

// withoutCredentials returns an address, or a query alone, without the
// parameters that are credentials.
func withoutCredentials(address string) string {
	path, query, found := strings.Cut(address, "?")
	if !found {
		return rewrite.Without(address, nil, openapi.Credentials...)
	}
	return path + "?" + rewrite.Without(query, nil, openapi.Credentials...)
}

// quotedBody returns a quoted body without its credentials. One that is not
// JSON to its end is not shown: nobody knows what it holds.
func quotedBody(text string) string {
	edited, err := rewrite.Edit([]byte(text), func(name string, _ []byte) []byte {
		if slices.Contains(openapi.Credentials, name) {
			return []byte(openapi.Withheld)
		}
		return nil
	})
	if err != nil || edited[0] != '{' {
		return "withheld"
	}
	return string(edited)
}
