// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Which real token a call takes is decided by its path, whatever the name of
// the parameter that the SDK sends.
func TestPathDecidesTheToken(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	hour := time.Now().Add(time.Hour)
	authorizer := g.Issue(t, "platform", gwtest.PlatformSecret, gwtest.OfficialAccount, hour)
	component := g.Issue(t, "platform", gwtest.PlatformSecret, "", hour)
	for name, row := range map[string]struct {
		path, token, appid string
		header             http.Header
		kind               string // at WeChat
		code               int
	}{
		"an authorizer path takes the authorizer's":                     {gwtest.AuthorizerPath, authorizer, gwtest.OfficialAccount, nil, sandbox.KindAuthorizer, 0},
		"and so does a path nobody knows":                               {"/wxa/brand/new", authorizer, gwtest.OfficialAccount, nil, sandbox.KindAuthorizer, 0},
		"a component path takes the component's":                        {gwtest.ComponentPath, component, g.WeChat.Component(), nil, sandbox.KindComponent, 0},
		"and any case of it":                                            {"/WXA/GetTemplateList", authorizer, "", nil, "", 61014},
		"a new path of the component's folder, too":                     {"/cgi-bin/component/brand_new", component, g.WeChat.Component(), nil, sandbox.KindComponent, 61015},
		"a path of both takes the authorizer's":                         {gwtest.EitherPath, authorizer, gwtest.OfficialAccount, nil, sandbox.KindAuthorizer, 0},
		"or the component's, as the gateway token says":                 {gwtest.EitherPath, component, g.WeChat.Component(), nil, sandbox.KindComponent, 0},
		"or as the header says":                                         {gwtest.EitherPath, "", g.WeChat.Component(), gwtest.Bearer(gwtest.PlatformSecret, g.WeChat.Component()), sandbox.KindComponent, 0},
		"a bearer needs no header on a component path":                  {gwtest.ComponentPath, "", g.WeChat.Component(), gwtest.Bearer(gwtest.PlatformSecret, ""), sandbox.KindComponent, 0},
		"a header for the component on an authorizer path is a mistake": {gwtest.AuthorizerPath, "", "", gwtest.Bearer(gwtest.PlatformSecret, g.WeChat.Component()), "", 61015},
	} {
		for _, param := range []string{"access_token", "component_access_token"} {
			t.Run(name+" "+param, func(t *testing.T) {
				g.WeChat.ResetCounts()
				answer := g.Ask(http.MethodGet, row.path+"?"+param+"="+row.token, "", row.header)
				if answer.ErrCode != row.code {
					t.Fatalf("answered %s, want %d", answer.Body, row.code)
				}
				if row.kind == "" {
					if calls := g.WeChat.Calls(); len(calls) != 0 {
						t.Errorf("WeChat saw %d calls", len(calls))
					}
					return
				}
				call := onlyCall(t, g, row.path)
				if call.TokenKind != row.kind || call.TokenAppID != row.appid {
					t.Errorf("WeChat saw the token of %s %s, want %s %s", call.TokenKind, call.TokenAppID, row.kind, row.appid)
				}
				if !strings.HasPrefix(call.RawQuery, "access_token=") || strings.Contains(call.RawQuery, "component_access_token") {
					t.Errorf("WeChat saw %q", call.RawQuery)
				}
			})
		}
	}
}

// loginQuery is what an SDK sends to log an end user in.
func loginQuery(appid, clientSecret, codeName, code string) string {
	return "?appid=" + appid + "&secret=" + clientSecret + "&" + codeName + "=" + code + "&grant_type=authorization_code"
}

// An end user logs in: the SDK's calls become the third-party platform's
// forms of them, the client's secret stays here, and the user's own token
// travels on untouched.
func TestLogin(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	mini, official := gwtest.MiniProgram, gwtest.OfficialAccount

	t.Run("jscode2session", func(t *testing.T) {
		code := g.WeChat.NewUserCode(mini, "alice")
		// A second appid and a component of the caller's choice: WeChat might
		// read those in place of the ones that were checked.
		answer := g.AskGet("/sns/jscode2session" + loginQuery(mini, gwtest.ClientSecret, "js_code", code) + "&appid=" + official + "&component_appid=wxeeeeeeeeeeeeeeee&App%49d=" + official)
		if !strings.Contains(answer.Body, `"session_key"`) {
			t.Fatalf("answered %s", answer.Body)
		}
		call := onlyCall(t, g, "/sns/component/jscode2session")
		got, err := url.ParseQuery(call.RawQuery)
		if err != nil {
			t.Fatal(err)
		}
		want := url.Values{
			"component_access_token": {g.WeChat.ValidToken(sandbox.KindComponent, "")},
			"component_appid":        {g.WeChat.Component()},
			"appid":                  {mini},
			"js_code":                {code},
			"grant_type":             {"authorization_code"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("WeChat saw another query (-want +got):\n%s", diff)
		}
	})

	t.Run("OAuth", func(t *testing.T) {
		g.WeChat.ResetCounts()
		answer := g.AskGet("/sns/oauth2/access_token" + loginQuery(official, gwtest.ClientSecret, "code", g.WeChat.NewUserCode(official, "bob")))
		var user struct {
			RefreshToken string `json:"refresh_token"`
			OpenID       string `json:"openid"`
		}
		if err := json.Unmarshal([]byte(answer.Body), &user); err != nil || !strings.HasPrefix(answer.Token, "USERTOKEN") {
			t.Fatalf("answered %s", answer.Body)
		}
		onlyCall(t, g, "/sns/oauth2/component/access_token")

		// No client is needed with the user's own tokens.
		query := "lang=zh_CN&access_token=" + answer.Token + "&openid=" + user.OpenID
		for _, path := range []string{"/sns/userinfo", "/sns/auth"} {
			if info := g.AskGet(path + "?" + query); info.ErrCode != 0 {
				t.Errorf("%s: %s", path, info.Body)
			}
			if call := onlyCall(t, g, path); call.RawQuery != query {
				t.Errorf("%s: WeChat saw %q, want %q", path, call.RawQuery, query)
			}
		}
		refreshed := g.AskGet("/sns/oauth2/refresh_token?appid=" + official + "&grant_type=refresh_token&refresh_token=" + user.RefreshToken)
		if !strings.HasPrefix(refreshed.Token, "USERTOKEN") {
			t.Errorf("refreshing: %s", refreshed.Body)
		}
		call := onlyCall(t, g, "/sns/oauth2/component/refresh_token")
		if call.TokenKind != sandbox.KindComponent || !strings.Contains(call.RawQuery, "component_appid="+g.WeChat.Component()) {
			t.Errorf("WeChat saw a %s token in %q", call.TokenKind, call.RawQuery)
		}
	})

	// A gateway token is for WeChat's eyes as little here as elsewhere.
	t.Run("user paths keep gateway tokens back", func(t *testing.T) {
		g.WeChat.ResetCounts()
		g.AskGet("/sns/userinfo?openid=o1&access_token=" + tokenOf(t, g, official, gwtest.ClientSecret))
		if call := onlyCall(t, g, "/sns/userinfo"); call.RawQuery != "openid=o1" {
			t.Errorf("WeChat saw %q", call.RawQuery)
		}
	})
}

// The component's token logs users of every account in, so each login is
// checked against the rights of the client.
func TestLoginRights(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	mini, official := gwtest.MiniProgram, gwtest.OfficialAccount
	shop := "&access_token=" + tokenOf(t, g, official, gwtest.ClientSecret)
	narrow := gwtest.Bearer(gwtest.NarrowSecret, "")
	for name, row := range map[string]struct {
		method, path, query, body string
		header                    http.Header
		code                      int // 40029 is WeChat's, for the made-up code: the call went through
	}{
		"the client's secret in the query":        {"GET", "/sns/jscode2session", loginQuery(mini, gwtest.ClientSecret, "js_code", "x"), "", nil, 40029},
		"in the third-party form":                 {"GET", "/sns/component/jscode2session", loginQuery(mini, gwtest.ClientSecret, "js_code", "x"), "", nil, 40029},
		"a gateway token of the account":          {"GET", "/sns/jscode2session", "?appid=" + official + "&js_code=x" + shop, "", nil, 40029},
		"a bearer with several accounts":          {"GET", "/sns/jscode2session", "?appid=" + mini + "&js_code=x", "", gwtest.Bearer(gwtest.ClientSecret, ""), 40029},
		"a gateway token of another account":      {"GET", "/sns/jscode2session", "?appid=" + mini + "&js_code=x" + shop, "", nil, 61003},
		"an account not allowed to the client":    {"GET", "/sns/jscode2session", loginQuery(mini, gwtest.SoloSecret, "js_code", "x"), "", nil, 61003},
		"a second, allowed account does not help": {"GET", "/sns/jscode2session", loginQuery(mini, gwtest.SoloSecret, "js_code", "x") + "&appid=" + official, "", nil, 61003},
		"a path not allowed to the client":        {"GET", "/sns/jscode2session", "?appid=" + mini + "&js_code=x", "", narrow, 48001},
		"a wrong secret":                          {"GET", "/sns/jscode2session", loginQuery(mini, gwtest.UnknownSecret, "js_code", "x"), "", nil, 40125},
		"no secret":                               {"GET", "/sns/jscode2session", "?appid=" + mini + "&js_code=x", "", nil, 41001},
		"no appid":                                {"GET", "/sns/jscode2session", "?secret=" + gwtest.ClientSecret, "", nil, 41002},
		"what is no appid":                        {"GET", "/sns/jscode2session", loginQuery("wx123", gwtest.ClientSecret, "js_code", "x"), "", nil, 41002},
		"a wrong secret where none is needed":     {"GET", "/sns/oauth2/refresh_token", "?appid=" + official + "&secret=" + gwtest.UnknownSecret, "", nil, 40125},
	} {
		t.Run(name, func(t *testing.T) {
			g.WeChat.ResetCounts()
			answer := g.Ask(row.method, row.path+row.query, row.body, row.header)
			if answer.ErrCode != row.code {
				t.Errorf("answered %s, want %d", answer.Body, row.code)
			}
			if seen := len(g.WeChat.Calls()); (seen == 1) != (row.code == 40029) {
				t.Errorf("WeChat saw %d calls", seen)
			}
		})
	}
}
