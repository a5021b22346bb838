// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

// answerQueryAuth answers api_query_auth, which exchanges an authorization_code
// for the tokens of an account
// (developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getauthorizerrefreshtoken).
// A code can be exchanged once. Usually the gateway has done so already, when
// WeChat pushed the code, and the client gets the answer of that exchange.
// Otherwise it waits for the exchange. The tokens in the answer are replaced.
//
// A code of WeChat's does not show whose it is. So the right to the account is checked
// after the exchange, when the tokens are stored. A client without the right gets an
// error, but the authorisation is not lost. A gateway code, which came with a delivery to
// a platform, shows it, and is never sent to WeChat.
func (g *Gateway) answerQueryAuth(ctx context.Context, e *endpointCall) ([]byte, error) {
	text := e.form.Get("authorization_code")
	if text == "" {
		return nil, problem.ErrBadRequest.Because("authorization_code is missing")
	}
	if e.hasGatewayCode() {
		return g.answerGatewayCode(ctx, e, text)
	}
	granted, err := g.Tokens.QueryAuth(ctx, e.client.Component, secret.New(text))
	if err != nil {
		return nil, err
	}
	if !e.client.Rights.Authorizer(granted.Authorizer) {
		return nil, problem.ErrUnauthorized
	}
	e.account = granted.Authorizer
	answer := granted.Answer
	if answer == nil {
		answer = authorizationAnswer(granted)
	}
	return e.substitute(answer, subject.Of(e.client.Component, granted.Authorizer))
}

// answerGatewayCode answers api_query_auth for a gateway code: as often as it comes, to
// each client with the account, also without component_api. If the exchange of WeChat's
// own code still runs, it is waited for.
func (g *Gateway) answerGatewayCode(ctx context.Context, e *endpointCall, code string) ([]byte, error) {
	who, err := g.Clients.withCode(code, e.client.Component, time.Now())
	if err != nil {
		return nil, err
	}
	if !e.client.Rights.Authorizer(who.Authorizer()) {
		return nil, problem.ErrUnauthorized
	}
	e.account = who.Authorizer()
	granted, err := g.Tokens.Authorization(ctx, who, e.client.ID)
	if err != nil {
		return nil, err
	}
	return e.substitute(authorizationAnswer(granted), who)
}

// authorizationAnswer makes an answer in the form of api_query_auth from what is
// stored. It is needed for gateway codes, and when another process made the exchange, so
// that WeChat's own answer is not known here. As WeChat does, it leaves out the tokens of an
// account that has granted no API. func_info is a list even if it is empty,
// never null, because SDKs loop over it.
func authorizationAnswer(granted tokens.Authorization) []byte {
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
		// substitute replaces these, as in an answer of WeChat.
		info.Token, info.Refresh = json.RawMessage(openapi.Withheld), json.RawMessage(openapi.Withheld)
		info.Expires = gatewayTokenSeconds
	}
	for _, id := range granted.Functions {
		info.Functions = append(info.Functions, function{category{id}})
	}
	return problem.JSON(answer)
}

// substitute puts gateway values in the place of the credentials that package
// openapi has removed from an answer of WeChat about an account: a gateway
// token for an access token, a label for a refresh token. expires_in becomes
// the lifetime of the gateway token. An empty credential stays empty: WeChat
// says with it that the account has none. All other bytes stay, for SDKs that
// read more members.
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

// edit is rewrite.Edit for an answer of WeChat. If the answer is not JSON to its
// end, the client gets an error and none of it: it may contain a credential.
func edit(answer []byte, change func(name string, value []byte) []byte) ([]byte, error) {
	edited, err := rewrite.Edit(answer, change)
	if err != nil {
		return nil, fmt.Errorf("WeChat's answer: %w", err)
	}
	return edited, nil
}

// answerAuthorizerInfo answers api_get_authorizer_info, which returns the
// profile of an account and its refresh token
// (developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerinfo).
// WeChat is asked at every call. The refresh token is stored first and then
// replaced by a label; if storing fails, the client gets its answer all the
// same.
func (g *Gateway) answerAuthorizerInfo(ctx context.Context, e *endpointCall) ([]byte, error) {
	who, err := e.authorizer("authorizer_appid")
	if err != nil {
		return nil, err
	}
	info, err := g.Tokens.AuthorizerInfo(ctx, who, e.client.ID)
	if err != nil {
		return nil, err
	}
	return e.substitute(info.Answer, who)
}

// answerOption answers api_get_authorizer_option and api_set_authorizer_option,
// the old form of these calls. They take the component's token and name the
// account in the body
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/ThirdParty/Account_Authorization/api_get_authorizer_option.html).
// If they were relayed, the client could name any account. So the gateway reads
// the body, checks the account and makes a new body. The answer contains no
// credential.
//
// The path is sent in lower case, as WeChat documents it: a client may write it
// in any case.
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
	return g.Tokens.CallComponentAPI(ctx, e.Subject, e.client.ID, strings.ToLower(e.Path), body)
}

// answerPreauthcode answers api_create_preauthcode
// (developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getpreauthcode).
// The code is passed on as it is. It gives no access: it opens WeChat's page on
// which the admin of an account decides. Each call spends some of the quota that
// the launch page of package authorize needs.
func (g *Gateway) answerPreauthcode(ctx context.Context, e *endpointCall) ([]byte, error) {
	return g.Tokens.CallComponentAPI(ctx, e.Subject, e.client.ID, openapi.EndpointPreAuthCode, openapi.Params{"component_appid": e.client.Component})
}

// answerStartPushTicket answers api_start_push_ticket, which makes WeChat push
// tickets again
// (developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_startpushticket.html).
// The client sends its own secret, the gateway sends the app secret. WeChat
// names it component_secret here and nowhere else. The ticket comes to the
// gateway, not to the client.
func (g *Gateway) answerStartPushTicket(ctx context.Context, e *endpointCall) ([]byte, error) {
	return g.Tokens.CallWithSecret(ctx, e.client.Component, openapi.EndpointStartPushTicket, "component_secret",
		openapi.Params{"component_appid": e.client.Component})
}

// answerClearQuota answers both paths that end in clear_quota/v2, which reset
// the daily quota. The client sends its own secret, the gateway sends the app
// secret.
//
// /cgi-bin/clear_quota/v2 wants the app secret of the account itself, which a
// platform does not have
// (developers.weixin.qq.com/doc/channels/api/basic/api_clearquotabyappsecret).
// In its place the gateway calls /cgi-bin/component/clear_quota/v2, which also
// resets the quota of an account that has authorised the component
// (developers.weixin.qq.com/doc/oplatform/openApi/openapi/api_componentclearquota_v2.html).
// Without an appid that path resets the quota of the component. WeChat allows
// ten resets a month for each account, so a client must have the right to the
// account.
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

// answerRID answers /cgi-bin/openapi/rid/get, which shows the URL, the body and
// the answer of a call that WeChat refused in the last seven days
// (developers.weixin.qq.com/doc/offiaccount/openApi/get_rid_info.html).
// The URL contains the real token of that call, and calls that the gateway made
// for itself have secrets in the body. These credentials are removed.
//
// WeChat shows a call only to a token of the same account, or of the same
// component. It does not know clients: a client also sees what other clients
// sent for the account.
func (g *Gateway) answerRID(ctx context.Context, e *endpointCall) ([]byte, error) {
	answer, err := g.Tokens.CallComponentAPI(ctx, e.Subject, e.client.ID, "/cgi-bin/openapi/rid/get", openapi.Params{"rid": e.form.Get("rid")})
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

// withoutCredentials returns a URL without the parameters that are credentials.
// In the sample on WeChat's page request_url is a query alone, so a text
// without "?" is read as a query.
func withoutCredentials(address string) string {
	path, query, found := strings.Cut(address, "?")
	if !found {
		return rewrite.Without(address, nil, openapi.Credentials...)
	}
	return path + "?" + rewrite.Without(query, nil, openapi.Credentials...)
}

// quotedBody returns a quoted body with its credentials replaced, at any depth, and
// in documents that are a string of it. A text that is not one complete JSON object,
// such as a form or a body that was cut off, is not shown at all: credentials are
// found by the names of members.
func quotedBody(text string) string {
	edited, err := openapi.Withhold([]byte(text), openapi.Credentials)
	if err != nil || edited[0] != '{' {
		return "withheld"
	}
	return string(edited)
}
