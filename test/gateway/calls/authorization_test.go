// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// A proxy, a service mesh or an HTTP client of the application adds an Authorization
// of its own. WeChat ignores it, and so does the gateway, wherever something else says
// who calls. Where nothing does, the caller is told what the gateway makes of it.
func TestAuthorizationThatIsNotOurs(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	hour := time.Now().Add(time.Hour)
	account := g.Issue(t, "platform", gwtest.PlatformSecret, gwtest.OfficialAccount, hour)
	component := g.Issue(t, "platform", gwtest.PlatformSecret, "", hour)
	expired := g.Issue(t, "platform", gwtest.PlatformSecret, "", time.Now().Add(-time.Hour))
	const folder = "/cgi-bin/component/"
	secretAs := func(name, secret string) string {
		return fmt.Sprintf(`{%q:%q,"appid":%q}`, name, secret, gwtest.OfficialAccount)
	}
	type want struct{ status, code int }
	var (
		good    = want{200, 0}
		alone   = want{401, 40125}
		noToken = want{200, 40125}
	)
	calls := []struct {
		name, method, path, body string
		want                     want
	}{
		{"a call with a token", "GET", gwtest.AuthorizerPath + "?access_token=" + account, "", good},
		{"a call of the platform with a token", "GET", gwtest.ComponentPath + "?component_access_token=" + component, "", good},
		{"a call with a body and a token", "POST", gwtest.SendPath + "?access_token=" + account, `{"touser":"o1","msgtype":"text","text":{"content":"x"}}`, good},
		{"a call with either token", "GET", gwtest.EitherPath + "?access_token=" + account, "", good},
		{"a call with a dead token", "GET", gwtest.ComponentPath + "?access_token=" + expired, "", want{200, 42001}},
		{"a call with a forged token", "GET", gwtest.ComponentPath + "?access_token=gw1.x", "", want{200, 40001}},
		{"a call with nothing", "GET", gwtest.AuthorizerPath, "", alone},
		{"a call with a secret, which is no token endpoint", "GET", gwtest.AuthorizerPath + "?secret=" + gwtest.PlatformSecret, "", alone},

		{"the token endpoint, query", "GET", gwtest.TokenPath(gwtest.OfficialAccount, gwtest.ClientSecret), "", good},
		{"the token endpoint, JSON", "POST", "/cgi-bin/stable_token", secretAs("secret", gwtest.ClientSecret), good},
		{"the token endpoint, wrong secret", "POST", "/cgi-bin/stable_token", secretAs("secret", gwtest.UnknownSecret), noToken},
		{"the token endpoint, nothing", "POST", "/cgi-bin/stable_token", "{}", alone},
		{"the component's token", "POST", folder + "api_component_token", secretAs("component_appsecret", gwtest.PlatformSecret), good},
		{"the component's token, wrong secret", "POST", folder + "api_component_token", secretAs("component_appsecret", gwtest.UnknownSecret), noToken},
		{"the component's token, nothing", "POST", folder + "api_component_token", "{}", alone},
		{"a ticket", "POST", folder + "api_start_push_ticket", secretAs("component_secret", gwtest.PlatformSecret), good},
		{"quota", "POST", folder + "clear_quota/v2", secretAs("appsecret", gwtest.PlatformSecret), good},

		{"an account's token", "POST", folder + "api_authorizer_token?component_access_token=" + component, secretAs("authorizer_appid", gwtest.OfficialAccount), good},
		{"the list", "POST", folder + "api_get_authorizer_list?access_token=" + component, "{}", good},
		{"the list, nothing", "POST", folder + "api_get_authorizer_list", "{}", alone},
		{"the list, another token", "POST", folder + "api_get_authorizer_list?access_token=" + account, "{}", want{200, 61014}},
		{"rid", "POST", "/cgi-bin/openapi/rid/get?access_token=" + account, `{"rid":"x"}`, want{200, 76001}},
		{"rid, nothing", "POST", "/cgi-bin/openapi/rid/get", `{"rid":"x"}`, alone},

		{"an end user's token", "GET", "/sns/userinfo?access_token=x&openid=o1", "", want{200, 40014}},
	}
	for _, value := range []string{"Basic cHJveHk6cHJveHk=", "Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "Bearer " + gwtest.UnknownSecret, "Bearer", gwtest.PlatformSecret, "Basic " + gwtest.PlatformSecret} {
		header := http.Header{"Authorization": {value}, "Content-Type": {"application/json"}, "Wechat-Appid": {gwtest.MiniProgram}}
		for _, call := range calls {
			g.WeChat.ResetCounts()
			answer := g.Ask(call.method, call.path, call.body, header)
			if answer.Status != call.want.status || answer.ErrCode != call.want.code {
				t.Errorf("%q, %s: answered %d %s, want %v", value, call.name, answer.Status, answer.Body, call.want)
			}
			for _, seen := range g.WeChat.Calls() {
				if seen.Header.Get("Authorization") != "" {
					t.Errorf("%q, %s: WeChat saw it", value, call.name)
				}
				if seen.TokenAppID == gwtest.MiniProgram {
					t.Errorf("%q, %s: the account is that of Wechat-Appid", value, call.name)
				}
			}
		}
	}
}
