// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// checkTimeout is how long a token endpoint waits for the answer whether the
// account is authorized. After that time the token is issued without the answer:
// an application must be able to start while WeChat or the storage is slow.
const checkTimeout = 4 * time.Second

// gatewayTokenSeconds is the expires_in of every gateway token, also when the
// real token ends sooner. SDKs subtract a margin; that of silenceper/wechat is
// 1500 s. From a short remainder they would get a negative lifetime and fetch a
// token at every call.
var gatewayTokenSeconds = int(gatewayTokenLifetime / time.Second)

// answerToken answers /cgi-bin/token and /cgi-bin/stable_token. An SDK sends
// the appid of an account and the client's secret, and gets a gateway token.
// WeChat has these endpoints only for the account itself, not for platforms, so
// the call cannot be relayed
// (developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken).
//
// grant_type and force_refresh are not read. A new gateway token makes no other
// one invalid, because gateway tokens are not stored.
//
// An account that is not authorized is refused here, so an SDK reports it at its
// start and not at its first call. If the real token is in memory, this reads no
// storage.
func (g *Gateway) answerToken(ctx context.Context, e *endpointCall) ([]byte, error) {
	who, err := e.authorizer("appid")
	if err != nil {
		return nil, err
	}
	if err := g.checkAuthorized(ctx, who, e.client.ID); err != nil {
		return nil, err
	}
	return problem.JSON(struct {
		Token   string `json:"access_token"`
		Expires int    `json:"expires_in"`
	}{e.issue(who), gatewayTokenSeconds}), nil
}

// answerComponentToken answers api_component_token
// (developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getcomponentaccesstoken).
// The client sends its own secret as component_appsecret.
// component_verify_ticket may be any text: WeChat pushes the ticket to the
// gateway, so the application has none, or a gateway ticket. No call to WeChat is made: there, each
// call issues another token, and the one before becomes invalid five minutes
// later.
//
// Every client may have such a token, also one without component_api. A token
// gives no right: rights are checked at every call.
func (g *Gateway) answerComponentToken(_ context.Context, e *endpointCall) ([]byte, error) {
	return problem.JSON(struct {
		Token   string `json:"component_access_token"`
		Expires int    `json:"expires_in"`
	}{e.issue(e.Subject), gatewayTokenSeconds}), nil
}

// answerAuthorizerToken answers api_authorizer_token, which issues a token of an
// account for its refresh token
// (developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getauthorizeraccesstoken).
// The gateway token of the component identifies the client. The refresh token is
// only compared: a label for another account is refused with 61023, because the
// application has made a mistake. Any other text is accepted and not used: an
// application that called WeChat before may have real refresh tokens in its
// database.
func (g *Gateway) answerAuthorizerToken(ctx context.Context, e *endpointCall) ([]byte, error) {
	who, err := e.authorizer("authorizer_appid")
	if err != nil {
		return nil, err
	}
	if shown := e.form.Get("authorizer_refresh_token"); strings.HasPrefix(shown, refreshPrefix) && shown != refreshLabel(who) {
		return nil, problem.ErrForeignRefresh
	}
	if err := g.checkAuthorized(ctx, who, e.client.ID); err != nil {
		return nil, err
	}
	return problem.JSON(struct {
		Token   string `json:"authorizer_access_token"`
		Expires int    `json:"expires_in"`
		Refresh string `json:"authorizer_refresh_token"`
	}{e.issue(who), gatewayTokenSeconds, refreshLabel(who)}), nil
}

// checkAuthorized returns an error if there is no real token for who: the
// account has not authorised the component, or its refresh token is lost, or it
// is unknown and too many unknown ones were asked for. After other errors, for
// example if WeChat or the storage cannot be reached, it returns nil: the next
// call may find a token. It waits at most checkTimeout. A renewal that it has
// started goes on.
func (g *Gateway) checkAuthorized(ctx context.Context, who subject.Subject, client string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	_, err := g.Tokens.Current(ctx, who, client)
	if errors.Is(err, problem.ErrUnauthorized) || errors.Is(err, problem.ErrNeedsAdmin) || errors.Is(err, problem.ErrRationed) {
		return err
	}
	return nil
}

// refreshPrefix begins every refresh label. The 1 is the version of the form.
const refreshPrefix = "gwr1."

// refreshLabel returns what clients get in place of the refresh token of an
// account. It is not a credential: it names the account and is not signed. It
// never changes, because SDKs keep it in their databases for years, longer than
// any secret is used.
func refreshLabel(who subject.Subject) string {
	return refreshPrefix + who.Component() + "." + who.Authorizer()
}
