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

// checkTimeout is how long a token endpoint waits to learn whether the
// authorizer stands at all.
const checkTimeout = 4 * time.Second

var gatewayTokenSeconds = int(gatewayTokenLifetime / time.Second)

// answerToken answers /cgi-bin/token and /cgi-bin/stable_token: appid and the
// client's secret give a gateway token. No storage is touched for a token that
// is in memory; an authorizer that has withdrawn is refused here already.
func (g *Gateway) answerToken(ctx context.Context, e *endpointCall) ([]byte, error) {
	who, err := e.authorizer("appid")
	if err != nil {
		return nil, err
	}
	if err := g.checkAuthorized(ctx, who); err != nil {
		return nil, err
	}
	return problem.JSON(struct {
		Token   string `json:"access_token"`
		Expires int    `json:"expires_in"`
	}{e.issue(who), gatewayTokenSeconds}), nil
}

// answerComponentToken answers api_component_token. Every client may have such
// a token: what it opens is decided at every call. The ticket is not looked at,
// because WeChat pushes it here and not to the application.
func (g *Gateway) answerComponentToken(_ context.Context, e *endpointCall) ([]byte, error) {
	return problem.JSON(struct {
		Token   string `json:"component_access_token"`
		Expires int    `json:"expires_in"`
	}{e.issue(e.Subject), gatewayTokenSeconds}), nil
}

// answerAuthorizerToken answers api_authorizer_token. Who calls is told by the
// component's gateway token; an application that comes from WeChat itself may
// still show a real refresh token, which goes nowhere.
func (g *Gateway) answerAuthorizerToken(ctx context.Context, e *endpointCall) ([]byte, error) {
	who, err := e.authorizer("authorizer_appid")
	if err != nil {
		return nil, err
	}
	if shown := e.form.Get("authorizer_refresh_token"); strings.HasPrefix(shown, refreshPrefix) && shown != refreshLabel(who) {
		return nil, problem.ErrForeignRefresh
	}
	if err := g.checkAuthorized(ctx, who); err != nil {
		return nil, err
	}
	return problem.JSON(struct {
		Token   string `json:"authorizer_access_token"`
		Expires int    `json:"expires_in"`
		Refresh string `json:"authorizer_refresh_token"`
	}{e.issue(who), gatewayTokenSeconds, refreshLabel(who)}), nil
}

// checkAuthorized returns an error if it is certain that there is no real token to
// be had for who. A WeChat or a storage that is out of reach says nothing.
func (g *Gateway) checkAuthorized(ctx context.Context, who subject.Subject) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	_, err := g.Tokens.Current(ctx, who)
	if errors.Is(err, problem.ErrUnauthorized) || errors.Is(err, problem.ErrNeedsAdmin) || errors.Is(err, problem.ErrRationed) {
		return err
	}
	return nil
}

// refreshPrefix begins what clients get in the place of refresh tokens.
const refreshPrefix = "gwr1."

// refreshLabel is what clients get in the place of an authorizer's refresh
// token. It is a label and opens nothing, and it never changes: SDKs keep it
// in their databases for years, longer than any secret lives.
func refreshLabel(who subject.Subject) string {
	return refreshPrefix + who.Component() + "." + who.Authorizer()
}
