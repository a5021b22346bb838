// SPDX-License-Identifier: Apache-2.0

package leaks_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// everyCall makes calls of every kind, right and wrong, to a WeChat of several
// habits.
func everyCall(t *testing.T, g *gwtest.Gateway) {
	for _, habit := range []sandbox.Switches{{}, {Gzip: true}, {TextPlain: true, StringErrCodes: true, StringExpiresIn: true}} {
		g.WeChat.SetSwitches(habit)
		tokenCalls(g)
		rightCalls(t, g)
		refusedCalls(t, g)
		g.Load()
	}
}

// tokenCalls asks for gateway tokens in every way, for right and wrong
// accounts with right and wrong secrets.
func tokenCalls(g *gwtest.Gateway) {
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	for _, path := range []string{"/cgi-bin/token", "/cgi-bin/stable_token", "/cgi-bin/component/api_component_token", gwtest.RenewalPath} {
		for _, appid := range []string{both[0], both[1], "wxffffffffffffffff", "nonsense", ""} {
			for _, secret := range []string{gwtest.ClientSecret, gwtest.SoloNextSecret, gwtest.UnknownSecret, ""} {
				query := url.Values{"appid": {appid}, "secret": {secret}}.Encode()
				body, _ := json.Marshal(map[string]string{"appid": appid, "secret": secret})
				g.AskGet(path + "?" + query)
				g.Ask(http.MethodPost, path, query, form)
				g.Ask(http.MethodPost, path, string(body), nil)
			}
		}
		g.Ask(http.MethodPost, path, `{"secret":"`+gwtest.ClientSecret, nil)
		g.Ask(http.MethodPost, path, `{"secret":"`+gwtest.ClientSecret+`","pad":"`+strings.Repeat("x", 20<<10)+`"}`, nil)
	}
}

// rightCalls makes calls that WeChat answers.
func rightCalls(t *testing.T, g *gwtest.Gateway) {
	usual(g)
	own, platform := gwtest.Bearer(gwtest.ClientSecret, both[0]), gwtest.Bearer(gwtest.PlatformSecret, both[0])
	for _, path := range []string{gwtest.AuthorizerPath, "/cgi-bin/user/info?openid=o1", "/cgi-bin/menu/get", "/cgi-bin/ticket/getticket?type=jsapi", "/wxa/unheard_of", gwtest.EitherPath} {
		g.Ask(http.MethodGet, path, "", own)
		g.Ask(http.MethodHead, path, "", own)
		g.Ask(http.MethodGet, path, "", gwtest.Bearer(gwtest.ClientSecret, both[1]))
	}
	for _, path := range []string{gwtest.ComponentPath, "/cgi-bin/component/fastregisterweapp", "/cgi-bin/openapi/quota/get"} {
		g.Ask(http.MethodPost, path, `{"cgi_path":"/cgi-bin/user/get"}`, platform)
		g.Ask(http.MethodPost, path+"?component_access_token="+g.Issue(t, "platform", gwtest.PlatformSecret, "", time.Now().Add(time.Hour))+"&action=create", "{}", nil)
	}
	g.Ask(http.MethodPost, "/wxa/getwxacodeunlimit", `{"scene":"a=1"}`, gwtest.Bearer(gwtest.ClientSecret, both[1]))

	contentType, file := gwtest.UploadForm(t, 100<<10)
	header := own.Clone()
	header.Set("Content-Type", contentType)
	var media struct {
		ID string `json:"media_id"`
	}
	if answer := g.Ask(http.MethodPost, "/cgi-bin/media/upload?type=image", file, header); json.Unmarshal([]byte(answer.Body), &media) != nil || media.ID == "" {
		t.Errorf("the upload was answered %s", answer.Body)
	}
	for _, id := range []string{media.ID, sandbox.GeneratedMedia(1 << 20), "unknown"} {
		g.Ask(http.MethodGet, "/cgi-bin/media/get?media_id="+id, "", own)
	}
	logins(t, g)
}

// logins exchanges codes of end users, whose own tokens pass.
func logins(t *testing.T, g *gwtest.Gateway) {
	query := "?appid=" + both[0] + "&secret=" + gwtest.ClientSecret + "&grant_type=authorization_code&code="
	var user struct {
		Token   string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		OpenID  string `json:"openid"`
	}
	answer := g.AskGet("/sns/oauth2/access_token" + query + g.WeChat.NewUserCode(both[0], "alice"))
	if json.Unmarshal([]byte(answer.Body), &user) != nil || user.Token == "" {
		t.Errorf("the login was answered %s", answer.Body)
	}
	g.AskGet("/sns/oauth2/access_token" + query + "spent")
	g.AskGet("/sns/userinfo?access_token=" + user.Token + "&openid=" + user.OpenID)
	g.AskGet("/sns/auth?access_token=" + user.Token + "&openid=another")
	g.AskGet("/sns/oauth2/refresh_token?grant_type=refresh_token&appid=" + both[0] + "&refresh_token=" + user.Refresh)
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	g.Ask(http.MethodPost, "/sns/oauth2/access_token", query[1:]+g.WeChat.NewUserCode(both[0], "bob"), form)
	g.Ask(http.MethodPost, "/sns/oauth2/access_token?appid="+both[1], query[1:]+"x", form) // another account than the body's
}

// refusedCalls makes calls that the gateway refuses.
func refusedCalls(t *testing.T, g *gwtest.Gateway) {
	token := g.Token(both[0])
	for _, secret := range []string{gwtest.ClientSecret, gwtest.NarrowSecret, gwtest.IdleSecret, gwtest.UnknownSecret, token} {
		for _, appid := range append(both, "wxffffffffffffffff", "nonsense", "") {
			g.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(secret, appid))
			g.Ask(http.MethodPost, gwtest.ComponentPath, "{}", gwtest.Bearer(secret, appid))
		}
	}
	for _, bad := range []string{
		token + "x", token[:len(token)-1], g.Issue(t, "shop", gwtest.ClientSecret, both[0], time.Now().Add(-time.Hour)),
		g.Issue(t, "shop", gwtest.UnknownSecret, both[0], time.Now().Add(time.Hour)), "made-up", "",
	} {
		g.AskGet(gwtest.AuthorizerPath + "?access_token=" + bad)
		g.Ask(http.MethodPost, gwtest.SendPath+"?component_access_token="+bad, "{}", nil)
	}
	for _, path := range []string{
		"/cgi-bin/component/api_start_push_ticket", "/cgi-bin/component/clear_quota/v2", "/cgi-bin/clear_quota/v2", "/cgi-bin/openapi/rid/get",
		"/cgi-bin/component/api_query_auth", "/cgi-bin/component/api_get_authorizer_info", "/cgi-bin/component/api_get_authorizer_list",
		"/cgi-bin/user/../menu/get", "//cgi-bin/user/get", "/cgi-bin/user%2Fget",
	} {
		g.Ask(http.MethodPost, path, `{"component_appsecret":"x","rid":"1-2-3"}`, gwtest.Bearer(gwtest.PlatformSecret, both[0]))
	}
	for _, method := range []string{"TRACE", "PUT", "OPTIONS", "get"} {
		g.SendRaw(t, method+" "+gwtest.AuthorizerPath+"?access_token="+token+" HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
	}
}

// panicking carries WeChat's pushes with a header that makes the gateway panic.
type panicking struct{ when atomic.Value }

func (p *panicking) RoundTrip(r *http.Request) (*http.Response, error) {
	if when, _ := p.when.Load().(string); when != "" {
		r.Header.Set(gwtest.PanicHeader, when)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// tell lets every handler panic, with all that it holds at that moment.
func (p *panicking) tell(t *testing.T, g *gwtest.Gateway) {
	token := g.Token(both[0])
	for _, when := range []string{"before", "after"} {
		for _, call := range []struct{ method, address, body string }{
			{"GET", g.Proxy + gwtest.TokenPath(both[0], gwtest.ClientSecret), ""},
			{"POST", g.Proxy + "/cgi-bin/stable_token", `{"appid":"` + both[0] + `","secret":"` + gwtest.ClientSecret + `"}`},
			{"GET", g.Proxy + gwtest.AuthorizerPath + "?access_token=" + token, ""},
			{"POST", g.Proxy + gwtest.SendPath + "?access_token=" + token, "{}"},
			{"GET", g.Platform + "/wechat/authorize", ""},
			{"POST", g.Platform + "/wechat/authorize", ""},
			{"GET", g.Platform + "/wechat/authorize/callback?auth_code=x&state=y", ""},
			{"POST", g.Platform + "/wechat/events?msg_signature=x", "<xml/>"},
		} {
			r, err := http.NewRequest(call.method, call.address, strings.NewReader(call.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set(gwtest.PanicHeader, when)
			r.Header.Set("Authorization", "Bearer "+gwtest.ClientSecret)
			if response, err := http.DefaultTransport.RoundTrip(r); err == nil {
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		}
		p.when.Store(when)
		g.WeChat.SetSwitches(sandbox.Switches{PushAttempts: 1})
		_ = g.WeChat.PushTicket(t.Context())
		_, _ = g.WeChat.UpdateAuthorized(t.Context(), both[0])
		_, _ = g.WeChat.PushMessage(t.Context(), both[0], "o1", "<MsgType>text</MsgType><Content>x</Content><MsgId>1</MsgId>")
		p.when.Store("")
	}
	renew(t, g)
}
