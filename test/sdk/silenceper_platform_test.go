// SPDX-License-Identifier: Apache-2.0

package sdk_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/openplatform"
	openConfig "github.com/silenceper/wechat/v2/openplatform/config"
	openOfficial "github.com/silenceper/wechat/v2/openplatform/officialaccount"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// silenceperPlatform works for an official account as a third-party platform.
type silenceperPlatform struct {
	silenceperOfficial
	platform *openplatform.OpenPlatform
	granted  *openOfficial.OfficialAccount
	appid    string
}

func startPlatform(t *testing.T, at target) session {
	modifyURIs(t, at.url)
	memory := newAgingCache()
	platform := wechat.NewWechat().GetOpenPlatform(&openConfig.Config{
		AppID: sandbox.DefaultComponent, AppSecret: at.secret, Cache: memory,
	})
	_, err := platform.SetComponentAccessToken(t.Context(), "any ticket")
	ok(t, err)
	code, err := at.gateway.WeChat.Authorize(t.Context(), at.appid)
	ok(t, err)
	grant, err := platform.QueryAuthCode(code)
	ok(t, err)
	if !strings.HasPrefix(grant.AccessToken, "gw1.") || !strings.HasPrefix(grant.RefreshToken, "gwr1.") {
		t.Errorf("the SDK was given %.8s… and %.8s…, want gateway values", grant.AccessToken, grant.RefreshToken)
	}
	_, err = platform.RefreshAuthrToken(at.appid, grant.RefreshToken) // stores what QueryAuthCode does not
	ok(t, err)
	granted := platform.GetOfficialAccount(at.appid)
	common := silenceper{granted, memory, "authorizer_access_token_" + at.appid}
	return silenceperPlatform{silenceperOfficial{common, granted.OfficialAccount}, platform, granted, at.appid}
}

// later lets the user do what silenceper leaves to him: fetch the component
// token whenever WeChat pushes a ticket. If that fails, the next step does too.
func (s silenceperPlatform) later(d time.Duration) {
	s.silenceperOfficial.later(d)
	_, _ = s.platform.SetComponentAccessToken(context.Background(), "another ticket")
}

func (s silenceperPlatform) login(code string) (openid string, err error) {
	component, err := s.platform.GetComponentAccessToken()
	if err != nil {
		return "", err
	}
	token, err := s.granted.PlatformOauth().GetUserAccessToken(code, s.appid, component)
	if err != nil {
		return "", err
	}
	user, err := s.account.GetOauth().GetUserInfo(token.AccessToken, token.OpenID, "zh_CN")
	return user.OpenID, err
}

// What only a platform calls: the page's code, and who has authorized it. For
// the list of them silenceper has no function.
func TestSilenceperPlatform(t *testing.T) {
	w := startWorld(t)
	s := startPlatform(t, target{url: w.Proxy, secret: gwtest.ClientSecret, appid: gwtest.OfficialAccount, gateway: w.Gateway}).(silenceperPlatform)
	if code, err := s.platform.GetPreCode(); !strings.HasPrefix(code, "preauthcode@@@") {
		t.Errorf("the SDK has %q as pre_auth_code, %v", code, err)
	}
	account, grant, err := s.platform.GetAuthrInfo(gwtest.OfficialAccount)
	ok(t, err)
	if account.UserName == "" || grant.Appid != gwtest.OfficialAccount || !strings.HasPrefix(grant.RefreshToken, "gwr1.") {
		t.Errorf("the SDK knows %+v and %+v", account, grant)
	}
	for _, leak := range w.tap.taken() {
		t.Errorf("WeChat saw %s", leak)
	}
}
