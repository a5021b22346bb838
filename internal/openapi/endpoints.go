// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"context"
	"encoding/json"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// Names of the endpoints, as they stand in Refusal.Endpoint and
// Outage.Endpoint and after /cgi-bin/component/ in the path, or whole paths.
const (
	EndpointComponentToken  = "api_component_token"
	EndpointStartPushTicket = "api_start_push_ticket"
	EndpointPreAuthCode     = "api_create_preauthcode"
	EndpointQueryAuth       = "api_query_auth"
	EndpointAuthorizerToken = "api_authorizer_token"
	EndpointAuthorizerInfo  = "api_get_authorizer_info"
	EndpointAuthorizerList  = "api_get_authorizer_list"
	EndpointDomainIP        = "/cgi-bin/get_api_domain_ip"
	EndpointCustomSend      = "/cgi-bin/message/custom/send"
	EndpointSharedTicket    = "/cgi-bin/ticket/getticket" // with "?type=" and the kind behind it
)

// Lifetimes for answers whose expires_in cannot be used. For a pre_auth_code
// the documentation says 1800 s in its text and 600 in its sample; the shorter
// one is safe.
const (
	tokenLifetime       = 7200 * time.Second
	preAuthCodeLifetime = 600 * time.Second
)

// Token is an access token as WeChat has just issued it.
type Token struct {
	Value secret.Secret
	// Lifetime counts from the moment of the call; it is positive and at most a
	// day wherever Value is not nil.
	Lifetime time.Duration
}

// PreAuthCode is a pre_auth_code: permission to send one admin to the
// authorisation page.
type PreAuthCode struct {
	Value    secret.Secret
	Lifetime time.Duration // from the moment of the call
}

// Authorization is what an authorisation code was exchanged for.
type Authorization struct {
	AppID string // the authorizer's
	// Access and Refresh are absent (nil) for an account that has no API
	// permission at all.
	Access    Token
	Refresh   secret.Secret
	Functions []int // ids of the permission sets granted

	Answer []byte // WeChat's, with Withheld in the place of the tokens
}

// AuthorizerInfo is what WeChat tells about an account that has authorised the
// component.
type AuthorizerInfo struct {
	AppID         string
	NickName      string
	UserName      string // gh_…, the ToUserName of the account's messages
	PrincipalName string // the company behind it
	Kind          AccountKind
	// Refresh is nil when api_query_auth was never called for this
	// authorisation: no refresh token exists then
	// (developers.weixin.qq.com/doc/oplatform/developers/dev/AuthorizerAccessToken.html).
	Refresh       secret.Secret
	Functions     []int // ids of the permission sets granted
	AccountStatus int   // 1 in order, 14 cancelled, 16 banned, 18 warned, 19 frozen; 0 not told

	Answer []byte // WeChat's, with Withheld in the place of the refresh token
}

// ComponentToken exchanges a ticket for a component_access_token. Each call
// issues another token, and its predecessor dies five minutes later: call it
// under a lock
// (developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getcomponentaccesstoken).
func (c *Client) ComponentToken(ctx context.Context, component string, appSecret, ticket secret.Secret) (Token, error) {
	var answer struct {
		Token     string `json:"component_access_token"`
		ExpiresIn number `json:"expires_in"`
	}
	_, err := c.callInto(ctx, EndpointComponentToken, nil, Params{
		"component_appid":         component,
		"component_appsecret":     appSecret.Reveal(),
		"component_verify_ticket": ticket.Reveal(),
	}, &answer)
	if err == nil && answer.Token == "" {
		err = malformed(EndpointComponentToken)
	}
	if err != nil {
		return Token{}, err
	}
	return newToken(answer.Token, answer.ExpiresIn), nil
}

// StartPushTicket asks WeChat to push tickets again, in case it has stopped.
// It succeeds as well when nothing was wrong. The secret is called
// component_secret here, and here alone
// (developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_startpushticket.html).
func (c *Client) StartPushTicket(ctx context.Context, component string, appSecret secret.Secret) error {
	_, err := c.Call(ctx, EndpointStartPushTicket, nil, Params{
		"component_appid":  component,
		"component_secret": appSecret.Reveal(),
	})
	return err
}

// PreAuthCode obtains a pre_auth_code for one visit of the authorisation page
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html).
func (c *Client) PreAuthCode(ctx context.Context, component string, componentToken secret.Secret) (PreAuthCode, error) {
	var answer struct {
		Code      string `json:"pre_auth_code"`
		ExpiresIn number `json:"expires_in"`
	}
	_, err := c.callInto(ctx, EndpointPreAuthCode, componentToken, Params{"component_appid": component}, &answer)
	if err == nil && answer.Code == "" {
		err = malformed(EndpointPreAuthCode)
	}
	if err != nil {
		return PreAuthCode{}, err
	}
	return PreAuthCode{
		Value:    secret.New(answer.Code),
		Lifetime: answer.ExpiresIn.lifetime(preAuthCodeLifetime),
	}, nil
}

// QueryAuth exchanges an authorisation code, from a push or from the browser's
// return, for the account's tokens. A code can be spent once; afterwards, or
// when it has expired, the Refusal is of Kind CodeSpent. After an Outage it may
// have been spent.
func (c *Client) QueryAuth(ctx context.Context, component string, componentToken, code secret.Secret) (Authorization, error) {
	var answer struct {
		Info authorizationInfo `json:"authorization_info"`
	}
	body := Params{"component_appid": component, "authorization_code": code.Reveal()}
	raw, err := c.callInto(ctx, EndpointQueryAuth, componentToken, body, &answer)
	if err == nil && answer.Info.appID() == "" {
		err = malformed(EndpointQueryAuth)
	}
	if err != nil {
		return Authorization{}, err
	}
	return Authorization{
		Answer:    withhold(raw, sent(componentToken, body)),
		AppID:     answer.Info.appID(),
		Access:    newToken(answer.Info.Token, answer.Info.ExpiresIn),
		Refresh:   secret.New(answer.Info.Refresh),
		Functions: answer.Info.Functions.ids(),
	}, nil
}

// AuthorizerToken exchanges a refresh token for an authorizer_access_token.
// refreshOut is the refresh token to keep from now on, nil when WeChat sent
// none: then the old one stays. The access token before it lives for another
// five minutes.
func (c *Client) AuthorizerToken(ctx context.Context, component, authorizer string, componentToken, refresh secret.Secret) (token Token, refreshOut secret.Secret, err error) {
	var answer authorizationInfo
	_, err = c.callInto(ctx, EndpointAuthorizerToken, componentToken, Params{
		"component_appid":          component,
		"authorizer_appid":         authorizer,
		"authorizer_refresh_token": refresh.Reveal(),
	}, &answer)
	if err == nil && answer.Token == "" {
		err = malformed(EndpointAuthorizerToken)
	}
	if err != nil {
		return Token{}, nil, err
	}
	return newToken(answer.Token, answer.ExpiresIn), secret.New(answer.Refresh), nil
}

// AuthorizerInfo asks who an authorizer is, and for its refresh token: this is
// how an account comes back after its record was lost
// (developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerinfo).
// An answer about another account than the one asked for is not believed.
func (c *Client) AuthorizerInfo(ctx context.Context, component, authorizer string, componentToken secret.Secret) (AuthorizerInfo, error) {
	var answer struct {
		Account struct {
			NickName      string `json:"nick_name"`
			UserName      string `json:"user_name"`
			PrincipalName string `json:"principal_name"`
			Status        number `json:"account_status"`
			accountKind
		} `json:"authorizer_info"`
		Info authorizationInfo `json:"authorization_info"`
	}
	raw, err := c.callInto(ctx, EndpointAuthorizerInfo, componentToken, Params{
		"component_appid":  component,
		"authorizer_appid": authorizer,
	}, &answer)
	if err == nil && answer.Info.appID() != authorizer {
		err = malformed(EndpointAuthorizerInfo)
	}
	if err != nil {
		return AuthorizerInfo{}, err
	}
	account := answer.Account
	return AuthorizerInfo{
		Answer:        withhold(raw, sent(componentToken, nil)),
		AppID:         authorizer,
		NickName:      account.NickName,
		UserName:      account.UserName,
		PrincipalName: account.PrincipalName,
		Kind:          account.kind(),
		Refresh:       secret.New(answer.Info.Refresh),
		Functions:     answer.Info.Functions.ids(),
		AccountStatus: int(account.Status.value),
	}, nil
}

// TestToken asks WeChat for the addresses of its servers, which takes a token of either
// level and changes nothing: so the answer shows whether the token is alive. It is nil,
// a Refusal, of which only the errcodes of RejectsToken speak of the token, or an
// Outage (developers.weixin.qq.com/doc/service/api/base/api_getapidomainip).
func (c *Client) TestToken(ctx context.Context, token secret.Secret) error {
	var answer struct {
		Addresses json.RawMessage `json:"ip_list"`
		Code      json.RawMessage `json:"errcode"`
	}
	_, err := c.callInto(ctx, EndpointDomainIP, token, nil, &answer)
	if err == nil && answer.Addresses == nil && answer.Code == nil {
		err = malformed(EndpointDomainIP)
	}
	return err
}

// authorizationInfo is WeChat's authorization_info; api_authorizer_token sends
// three of its fields at the top level.
type authorizationInfo struct {
	AppID     string    `json:"authorizer_appid"`
	AppIDOld  string    `json:"authorization_appid"` // in an older sample of api_get_authorizer_info
	Token     string    `json:"authorizer_access_token"`
	ExpiresIn number    `json:"expires_in"`
	Refresh   string    `json:"authorizer_refresh_token"`
	Functions functions `json:"func_info"`
}

func (i authorizationInfo) appID() string {
	if i.AppID == "" {
		return i.AppIDOld
	}
	return i.AppID
}

// newToken returns the zero Token for the empty text.
func newToken(text string, expiresIn number) Token {
	if text == "" {
		return Token{}
	}
	return Token{Value: secret.New(text), Lifetime: expiresIn.lifetime(tokenLifetime)}
}
