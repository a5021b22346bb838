// SPDX-License-Identifier: Apache-2.0

package transparent_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/faabiosr/cachego/sync"
	"github.com/fastwego/wxopen"
	"github.com/fastwego/wxopen/apis/account"
	"github.com/fastwego/wxopen/apis/auth"
	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/openplatform/config"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// option is what every platform sets and reads.
const option, optionValue = "voice_recognize", "1"

// must returns what an SDK returns, as JSON.
func must(t *testing.T, answer any, err error) string {
	t.Helper()
	if err != nil {
		t.Fatalf("the SDK says: %v", err)
	}
	if text, is := answer.([]byte); is {
		return string(text)
	}
	text, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// leadAll makes the name of WeChat's API lead what uses Go's own client to the
// gateway.
func leadAll(t *testing.T, g *gwtest.Gateway) {
	before := http.DefaultClient.Transport
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots(t, g)}, DialContext: dialer(g)}
	http.DefaultClient.Transport = transport
	t.Cleanup(func() {
		http.DefaultClient.Transport = before
		transport.CloseIdleConnections()
	})
}

// wxopenPlatform runs fastwego/wxopen, with the host that it has by itself.
func wxopenPlatform(t *testing.T, g *gwtest.Gateway, code string) map[string]string {
	t.Helper()
	leadAll(t, g)
	p := wxopen.NewPlatform(wxopen.PlatformConfig{AppId: g.WeChat.Component(), AppSecret: gwtest.ClientSecret})
	p.Cache = sync.New()
	p.Logger = nil
	if err := p.ReceiveComponentVerifyTicketHandler(p, "any ticket"); err != nil {
		t.Fatal(err)
	}
	call := func(function func(*wxopen.Platform, []byte) ([]byte, error), pairs ...string) string {
		t.Helper()
		answer, err := function(p, component(g, pairs...))
		return must(t, answer, err)
	}
	token, err := p.GetComponentAccessTokenHandler(p)
	answers := map[string]string{"token": must(t, []byte(token), err)}
	answers["pre_auth_code"] = call(auth.CreatePreauthCode)
	answers["query_auth"] = call(auth.ApiQueryAuth, "authorization_code", code)
	answers["refresh"] = call(auth.ApiAuthorizerToken, "authorizer_appid", gwtest.OfficialAccount,
		"authorizer_refresh_token", member(answers["query_auth"], "authorization_info", "authorizer_refresh_token"))
	answers["info"] = call(auth.ApiGetAuthorizerInfo, "authorizer_appid", gwtest.OfficialAccount)
	answers["list"] = call(auth.ApiGetAuthorizerList, "offset", "0", "count", "100")
	answers["set_option"] = call(auth.ApiSetAuthorizerOption, "authorizer_appid", gwtest.OfficialAccount, "option_name", option, "option_value", optionValue)
	answers["get_option"] = call(auth.ApiGetAuthorizerOption, "authorizer_appid", gwtest.OfficialAccount, "option_name", option)
	answer, err := account.Get(member(answers["refresh"], "authorizer_access_token"), component(g, "appid", gwtest.OfficialAccount))
	answers["call"] = must(t, answer, err)
	return answers
}

// component is the JSON of a call as the component.
func component(g *gwtest.Gateway, pairs ...string) []byte {
	given := map[string]any{"component_appid": g.WeChat.Component()}
	for i := 0; i < len(pairs); i += 2 {
		given[pairs[i]] = pairs[i+1]
	}
	body, _ := json.Marshal(given)
	return body
}

// member is a text in an answer, found by the names that lead to it.
func member(answer string, names ...string) string {
	var value any
	_ = json.Unmarshal([]byte(answer), &value) // without it the next step is refused
	for _, name := range names {
		within, _ := value.(map[string]any)
		value = within[name]
	}
	text, _ := value.(string)
	return text
}

// silenceperPlatform runs silenceper's platform.
func silenceperPlatform(t *testing.T, g *gwtest.Gateway, code string) map[string]string {
	t.Helper()
	lead(t, g, roots(t, g))
	p := wechat.NewWechat().GetOpenPlatform(&config.Config{AppID: g.WeChat.Component(), AppSecret: gwtest.ClientSecret, Cache: cache.NewMemory()})
	token, err := p.SetComponentAccessToken(t.Context(), "any ticket")
	answers := map[string]string{"token": must(t, token, err)}
	preAuth, err := p.GetPreCode()
	answers["pre_auth_code"] = must(t, preAuth, err)
	grant, err := p.QueryAuthCode(code)
	answers["query_auth"] = must(t, grant, err)
	renewed, err := p.RefreshAuthrToken(gwtest.OfficialAccount, grant.RefreshToken)
	answers["refresh"] = must(t, renewed, err)
	account, base, err := p.GetAuthrInfo(gwtest.OfficialAccount)
	answers["info"] = must(t, map[string]any{"account": account, "grant": base}, err)
	_, err = p.GetOfficialAccount(gwtest.OfficialAccount).GetUser().ListUserOpenIDs()
	answers["call"] = must(t, map[string]int{"errcode": 0}, err)
	return answers
}

// writer makes calls as an SDK writes them that cannot be had here.
type writer struct {
	*http.Client
	t           *testing.T
	contentType string
}

func newWriter(t *testing.T, g *gwtest.Gateway, contentType string) writer {
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots(t, g)}, DialContext: dialer(g)}
	t.Cleanup(transport.CloseIdleConnections)
	return writer{&http.Client{Transport: transport}, t, contentType}
}

func (w writer) post(path string, query url.Values, body []byte) string {
	w.t.Helper()
	response, err := w.Post("https://"+host+path+"?"+query.Encode(), w.contentType, strings.NewReader(string(body)))
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return must(w.t, answer, err)
}

// wxJavaPlatform calls as weixin-java-open does, read in its source: bodies are
// called plain text, and options go with the account's own token.
func wxJavaPlatform(t *testing.T, g *gwtest.Gateway, code string) map[string]string {
	t.Helper()
	w := newWriter(t, g, "text/plain; charset=UTF-8")
	answers := map[string]string{"token": w.post("/cgi-bin/component/api_component_token", nil,
		component(g, "component_appsecret", gwtest.ClientSecret, "component_verify_ticket", "any ticket"))}
	as := url.Values{"component_access_token": {member(answers["token"], "component_access_token")}}
	answers["pre_auth_code"] = w.post("/cgi-bin/component/api_create_preauthcode", as, component(g))
	answers["query_auth"] = w.post("/cgi-bin/component/api_query_auth", as, component(g, "authorization_code", code))
	answers["refresh"] = w.post("/cgi-bin/component/api_authorizer_token", as, component(g, "authorizer_appid", gwtest.OfficialAccount,
		"authorizer_refresh_token", member(answers["query_auth"], "authorization_info", "authorizer_refresh_token")))
	answers["info"] = w.post("/cgi-bin/component/api_get_authorizer_info", as, component(g, "authorizer_appid", gwtest.OfficialAccount))
	answers["list"] = w.post("/cgi-bin/component/api_get_authorizer_list", as,
		[]byte(`{"component_appid":"`+g.WeChat.Component()+`","offset":0,"count":10}`))
	account := url.Values{"access_token": {member(answers["refresh"], "authorizer_access_token")}}
	answers["set_option"] = w.post("/cgi-bin/component/set_authorizer_option", account,
		component(g, "authorizer_appid", gwtest.OfficialAccount, "option_name", option, "option_value", optionValue))
	answers["get_option"] = w.post("/cgi-bin/component/get_authorizer_option", account,
		component(g, "authorizer_appid", gwtest.OfficialAccount, "option_name", option))
	answers["call"] = w.post("/cgi-bin/open/get", account, []byte(`{"appid":"`+gwtest.OfficialAccount+`"}`))
	return answers
}

// powerWeChatPlatform calls as PowerWeChat's openPlatform does, read in its
// source: the request for the component's token has the secret twice, and calls
// of an account have its token in access_token.
func powerWeChatPlatform(t *testing.T, g *gwtest.Gateway, code string) map[string]string {
	t.Helper()
	w := newWriter(t, g, "application/json")
	answers := map[string]string{"token": w.post("/cgi-bin/component/api_component_token", nil,
		component(g, "component_appsecret", gwtest.ClientSecret, "component_verify_ticket", "any ticket",
			"appid", g.WeChat.Component(), "secret", gwtest.ClientSecret, "neededText", "any ticket"))}
	as := url.Values{"component_access_token": {member(answers["token"], "component_access_token")}}
	for step, call := range map[string]struct {
		path  string
		pairs []string
	}{
		"pre_auth_code": {"api_create_preauthcode", nil},
		"query_auth":    {"api_query_auth", []string{"authorization_code", code}},
		"info":          {"api_get_authorizer_info", []string{"authorizer_appid", gwtest.OfficialAccount}},
		"list":          {"api_get_authorizer_list", []string{"offset", "0", "count", "100"}},
		"set_option":    {"api_set_authorizer_option", []string{"authorizer_appid", gwtest.OfficialAccount, "option_name", option, "option_value", optionValue}},
	} {
		answers[step] = w.post("/cgi-bin/component/"+call.path, as, component(g, call.pairs...))
	}
	answers["get_option"] = w.post("/cgi-bin/component/api_get_authorizer_option", as,
		component(g, "authorizer_appid", gwtest.OfficialAccount, "option_name", option))
	answers["refresh"] = w.post("/cgi-bin/component/api_authorizer_token", as, component(g, "authorizer_appid", gwtest.OfficialAccount,
		"authorizer_refresh_token", member(answers["query_auth"], "authorization_info", "authorizer_refresh_token")))
	account := url.Values{"access_token": {member(answers["refresh"], "authorizer_access_token")}}
	answers["call"] = w.post("/cgi-bin/open/get", account, []byte(`{"appid":"`+gwtest.OfficialAccount+`"}`))
	return answers
}
