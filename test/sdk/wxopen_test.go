// SPDX-License-Identifier: Apache-2.0

package sdk_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/faabiosr/cachego/sync"
	"github.com/fastwego/miniprogram"
	"github.com/fastwego/offiaccount"
	"github.com/fastwego/wxopen"
	"github.com/fastwego/wxopen/apis/auth"
	"github.com/fastwego/wxopen/apis/oauth"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

func wxopenDrivers() []driver {
	return []driver{
		{"fastwego/wxopen v1.0.0-beta.3, official account", gwtest.OfficialAccount, startWxopenOfficial},
		{"fastwego/wxopen v1.0.0-beta.3, mini program", gwtest.MiniProgram, startWxopenMini},
	}
}

// wxopenPlatform is fastwego's third-party platform. It fetches another token,
// of an account or of the component, when it meets 40001 or 42001.
type wxopenPlatform struct {
	*wxopen.Platform
	appid string // of the account for which it works
}

// startWxopen makes every call that only platforms make, save for those that
// the steps make.
func startWxopen(t *testing.T, at target) wxopenPlatform {
	t.Helper()
	before := wxopen.WXServerUrl
	t.Cleanup(func() { wxopen.WXServerUrl = before })
	wxopen.WXServerUrl = at.url
	p := wxopenPlatform{wxopen.NewPlatform(wxopen.PlatformConfig{AppId: sandbox.DefaultComponent, AppSecret: at.secret}), at.appid}
	p.Cache = sync.New() // the default are files in a folder that all may read
	p.Logger = nil       // the default prints tokens
	ok(t, p.ReceiveComponentVerifyTicketHandler(p.Platform, "any ticket"))

	code, err := at.gateway.WeChat.Authorize(t.Context(), at.appid)
	ok(t, err)
	var grant struct {
		Info struct {
			Access  string `json:"authorizer_access_token"`
			Refresh string `json:"authorizer_refresh_token"`
		} `json:"authorization_info"`
	}
	answer, err := auth.ApiQueryAuth(p.Platform, p.component("authorization_code", code))
	ok(t, err)
	at.gateway.SearchCredentials("what api_query_auth was answered", answer)
	ok(t, json.Unmarshal(answer, &grant))
	if !strings.HasPrefix(grant.Info.Access, "gw1.") || !strings.HasPrefix(grant.Info.Refresh, "gwr1.") {
		t.Errorf("the SDK was given %.8s… and %.8s…, want gateway values", grant.Info.Access, grant.Info.Refresh)
	}
	ok(t, p.hold(grant.Info.Access)) // storing is left to the user
	ok(t, p.Cache.Save("authorizer_refresh_token:"+at.appid, grant.Info.Refresh, 0))

	for name, call := range map[string]func(*wxopen.Platform, []byte) ([]byte, error){
		"api_create_preauthcode": auth.CreatePreauthCode, "api_get_authorizer_info": auth.ApiGetAuthorizerInfo,
		"api_get_authorizer_list": auth.ApiGetAuthorizerList, "api_get_authorizer_option": auth.ApiGetAuthorizerOption,
		"api_set_authorizer_option": auth.ApiSetAuthorizerOption,
	} {
		answer, err := call(p.Platform, p.component("authorizer_appid", at.appid, "option_name", "voice_recognize", "option_value", "1", "offset", "0", "count", "100"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		at.gateway.SearchCredentials("what "+name+" was answered", answer)
	}
	return p
}

// component returns the JSON of a call as the component, with these names and values.
func (p wxopenPlatform) component(pairs ...string) []byte {
	given := map[string]any{"component_appid": p.Config.AppId}
	for i := 0; i < len(pairs); i += 2 {
		given[pairs[i]] = pairs[i+1]
	}
	body, _ := json.Marshal(given)
	return body
}

func (p wxopenPlatform) token() (string, error) {
	return p.GetAuthorizerAccessTokenHandler(p.Platform, p.appid)
}

func (p wxopenPlatform) hold(token string) error {
	return hold(p.Cache, "authorizer_access_token:"+p.appid, token)
}

// wxopenOfficial works for an official account, with fastwego's client for those.
type wxopenOfficial struct {
	fastOfficial
	platform wxopenPlatform
}

func startWxopenOfficial(t *testing.T, at target) session {
	before := offiaccount.WXServerUrl
	t.Cleanup(func() { offiaccount.WXServerUrl = before })
	offiaccount.WXServerUrl = at.url
	p := startWxopen(t, at)
	app, err := p.NewOffiAccount(at.appid)
	ok(t, err)
	app.Logger = nil
	return wxopenOfficial{fastOfficial{app, t.TempDir()}, p}
}

func (s wxopenOfficial) token() (string, error)  { return s.platform.token() }
func (s wxopenOfficial) hold(token string) error { return s.platform.hold(token) }

// login sends the component's token with the user's own as well.
func (s wxopenOfficial) login(code string) (openid string, err error) {
	token, err := oauth.GetAccessToken(s.platform.Platform, s.platform.appid, code)
	if err != nil {
		return "", err
	}
	user, err := oauth.GetUserInfo(s.platform.Platform, token.AccessToken, token.Openid)
	return user.Openid, err
}

// wxopenMini works for a mini program.
type wxopenMini struct {
	fastMini
	platform wxopenPlatform
}

func startWxopenMini(t *testing.T, at target) session {
	before := miniprogram.WXServerUrl
	t.Cleanup(func() { miniprogram.WXServerUrl = before })
	miniprogram.WXServerUrl = at.url
	p := startWxopen(t, at)
	app, err := p.NewMiniprogram(at.appid)
	ok(t, err)
	app.Logger = nil
	return wxopenMini{fastMini{app}, p}
}

func (s wxopenMini) token() (string, error)  { return s.platform.token() }
func (s wxopenMini) hold(token string) error { return s.platform.hold(token) }

// login does without a function of its own: there is none for mini programs.
func (s wxopenMini) login(code string) (openid string, err error) {
	query := url.Values{"appid": {s.platform.appid}, "js_code": {code}, "grant_type": {"authorization_code"}, "component_appid": {s.platform.Config.AppId}}
	answer, err := s.platform.Client.HTTPGet("/sns/component/jscode2session?" + query.Encode())
	if err != nil {
		return "", err
	}
	var user struct{ OpenID string }
	err = json.Unmarshal(answer, &user)
	return user.OpenID, err
}

// A component token that has expired, though the SDK thinks otherwise, is
// answered with 42001, whereupon the SDK fetches another one and repeats the
// call; one that WeChat kills, the SDK does not notice.
func TestWxopenComponentToken(t *testing.T) {
	w := startWorld(t)
	p := startWxopen(t, target{url: w.url, secret: gwtest.ClientSecret, appid: gwtest.OfficialAccount, gateway: w.Gateway})
	ok(t, hold(p.Cache, p.Config.AppId, issue(t, w.Gateway, "", time.Now().Add(-time.Minute))))
	_, err := auth.CreatePreauthCode(p.Platform, p.component())
	ok(t, err)

	before, err := p.GetComponentAccessTokenHandler(p.Platform)
	ok(t, err)
	w.WeChat.KillTokens(w.WeChat.Component())
	_, err = auth.CreatePreauthCode(p.Platform, p.component())
	ok(t, err)
	if after, err := p.GetComponentAccessTokenHandler(p.Platform); err != nil || after != before {
		t.Errorf("the SDK's token changed (%v)", err)
	}
	for _, leak := range w.tap.taken() {
		t.Errorf("WeChat saw %s", leak)
	}
}
