// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

var gatewayToken = regexp.MustCompile(`gw1\.[A-Za-z0-9_.~-]+`)

// WeChat's answers keep every byte but their credentials: order, blanks, unknown
// members, the way numbers are written, a member that stands twice.
func TestAnswersKeepTheirBytes(t *testing.T) {
	label := "gwr1.wx134c8103faa5a59e." + gwtest.OfficialAccount
	for name, row := range map[string]struct{ endpoint, rest, answer, want string }{
		"code": {
			"api_query_auth", `,"authorization_code":"some code"`,
			"{\n \"authorization_info\" : {\"func_info\":[{\"confirm_info\":{\"need_confirm\":0},\"funcscope_category\":{\"id\":\"17\",\"name\":\"账号 🎉\",\"new\":1.50}}],\n" +
				`"authorizer_refresh_token":"REALREFRESH-1","expires_in":"7199","authorizer_access_token":"REALTOKEN-1","authorizer_appid":"wxaaaaaaaaaaaaaaaa"},"x":[null,1e3]}`,
			"{\n \"authorization_info\" : {\"func_info\":[{\"confirm_info\":{\"need_confirm\":0},\"funcscope_category\":{\"id\":\"17\",\"name\":\"账号 🎉\",\"new\":1.50}}],\n" +
				`"authorizer_refresh_token":"` + label + `","expires_in":"7200","authorizer_access_token":"TOKEN","authorizer_appid":"wxaaaaaaaaaaaaaaaa"},"x":[null,1e3]}`,
		},
		"code of an account without any API": {
			"api_query_auth", `,"authorization_code":"another code"`,
			`{"authorization_info":{"authorizer_appid":"wxaaaaaaaaaaaaaaaa","authorizer_refresh_token":"","func_info":[]}}`,
			`{"authorization_info":{"authorizer_appid":"wxaaaaaaaaaaaaaaaa","authorizer_refresh_token":"","func_info":[]}}`,
		},
		"info": {
			"api_get_authorizer_info", named(gwtest.OfficialAccount),
			`{"authorizer_info":{"nick_name":"` + "a\x01\tb" + `","idc":1,"big":12345678901234567890},"authorization_info":{"authorizer_appid":"wxaaaaaaaaaaaaaaaa","authorizer_refresh_token":"REALREFRESH-2","authorizer_refresh_token":"REALREFRESH-3","func_info":[]}}`,
			`{"authorizer_info":{"nick_name":"` + "a\x01\tb" + `","idc":1,"big":12345678901234567890},"authorization_info":{"authorizer_appid":"wxaaaaaaaaaaaaaaaa","authorizer_refresh_token":"` + label + `","authorizer_refresh_token":"` + label + `","func_info":[]}}`,
		},
		"list": {
			"api_get_authorizer_list", `,"offset":0,"count":2`,
			`{"list":[{"auth_time":1.0,"new":{},"refresh_token":"REALREFRESH-4","authorizer_appid":"wxaaaaaaaaaaaaaaaa"},{"authorizer_appid":"wxcccccccccccccccc","auth_time":"9"}],"next":"x","total_count":"33"}`,
			`{"list":[{"auth_time":1.0,"new":{},"refresh_token":"` + label + `","authorizer_appid":"wxaaaaaaaaaaaaaaaa"},{"authorizer_appid":"wxcccccccccccccccc","auth_time":"9"}],"next":"x","total_count":"33"}`,
		},
		"a refusal": {
			"api_get_authorizer_info", named(gwtest.OfficialAccount),
			`{"errcode":61003,"errmsg":"component is not authorized <by> this & account 未授权 rid: 1-2-3"}`,
			`{"errcode":61003,"errmsg":"component is not authorized <by> this & account 未授权 rid: 1-2-3"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPlatform(t, consoleSecret, map[string]http.HandlerFunc{componentFolder + row.endpoint: says(row.answer)})
			got := gatewayToken.ReplaceAllString(p.call(row.endpoint, row.rest), "TOKEN")
			if got != row.want {
				t.Errorf("answered\n%s, want\n%s", got, row.want)
			}
			for _, logged := range []string{"REALREFRESH-", "REALTOKEN-1"} {
				if strings.Contains(p.Logs(), logged) {
					t.Errorf("%s… stands in the log", logged)
				}
			}
		})
	}
}

// A code that another process has exchanged, or this one long ago, still has
// an answer of WeChat's shape.
func TestCodeExchangedElsewhere(t *testing.T) {
	spent := false
	p := startPlatform(t, consoleSecret, map[string]http.HandlerFunc{
		componentFolder + "api_query_auth": func(w http.ResponseWriter, r *http.Request) {
			spent = true
			says(`{"errcode":61009,"errmsg":"code is invalid"}`)(w, r)
		},
	})
	code, err := p.WeChat.UpdateAuthorized(t.Context(), gwtest.OfficialAccount)
	if err != nil {
		t.Fatal(err)
	}
	got := p.call("api_query_auth", `,"authorization_code":"`+code+`"`)
	want := `{"authorization_info":{"authorizer_appid":"wxaaaaaaaaaaaaaaaa","authorizer_access_token":"TOKEN","expires_in":7200,` +
		`"authorizer_refresh_token":"gwr1.wx134c8103faa5a59e.wxaaaaaaaaaaaaaaaa","func_info":[`
	if replaced := gatewayToken.ReplaceAllString(got, "TOKEN"); !strings.HasPrefix(replaced, want) || !spent {
		t.Errorf("answered %s, want %s…", replaced, want)
	}
	unknown := p.call("api_query_auth", `,"authorization_code":"nobody's"`)
	if want := `{"errcode":61009,"errmsg":"code is invalid"}`; unknown != want {
		t.Errorf("a code that nobody knows: %s, want %s", unknown, want)
	}
}

// What WeChat tells of refresh tokens is stored before the client has its
// answer: after the storage was emptied nobody needs to ask again.
func TestListIsStoredFirst(t *testing.T) {
	for name, read := range map[string]func(p *platform) string{
		"list": func(p *platform) string { return p.call("api_get_authorizer_list", `,"offset":0,"count":500`) },
		"info": func(p *platform) string {
			return p.call("api_get_authorizer_info", named(gwtest.OfficialAccount))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPlatform(t, consoleSecret, nil)
			if err := os.RemoveAll(filepath.Join(p.Storage, "wechat", p.WeChat.Component(), "authorizers")); err != nil {
				t.Fatal(err)
			}
			if body := read(p); errcodeOf(t, body) != 0 {
				t.Fatal(body)
			}
			p.WeChat.KillTokens(gwtest.OfficialAccount)
			p.WeChat.ResetCounts()
			if answer := p.AskGet(gwtest.AuthorizerPath + "?access_token=" + p.Token(gwtest.OfficialAccount)); answer.ErrCode != 0 {
				t.Errorf("a call afterwards: %s", answer.Body)
			}
			if n := p.WeChat.Count(componentFolder + "api_get_authorizer_info"); n != 0 {
				t.Errorf("WeChat was asked again %d times", n)
			}
			if n := p.WeChat.Count(componentFolder + "api_authorizer_token"); n != 1 {
				t.Errorf("%d renewals, want 1", n)
			}
		})
	}
}

// A storage that is out of reach keeps nobody from reading a list.
func TestListWithoutStorage(t *testing.T) {
	p := startPlatform(t, consoleSecret, nil)
	p.BreakStorage(t)
	if body := p.call("api_get_authorizer_list", `,"offset":0,"count":500`); errcodeOf(t, body) != 0 || !strings.Contains(body, `"total_count":2`) {
		t.Errorf("answered %s", body)
	}
	if !strings.Contains(p.Logs(), "storing the refresh token of a list or an info failed") {
		t.Error("the log does not say that nothing was stored")
	}
}

// An account that has withdrawn is not revived by a list that WeChat had made
// before.
func TestListRevivesNobody(t *testing.T) {
	stale := `{"total_count":1,"list":[{"authorizer_appid":"` + gwtest.OfficialAccount + `","refresh_token":"stale","auth_time":1}]}`
	p := startPlatform(t, consoleSecret, map[string]http.HandlerFunc{componentFolder + "api_get_authorizer_list": says(stale)})
	if err := p.WeChat.Revoke(t.Context(), gwtest.OfficialAccount); err != nil {
		t.Fatal(err)
	}
	if body := p.call("api_get_authorizer_list", `,"offset":0,"count":500`); errcodeOf(t, body) != 0 {
		t.Fatal(body)
	}
	if body := p.call("api_authorizer_token", named(gwtest.OfficialAccount)); errcodeOf(t, body) != 61003 {
		t.Errorf("answered %s, want 61003", body)
	}
	if n := p.WeChat.Count(componentFolder + "api_authorizer_token"); n != 0 {
		t.Errorf("%d attempts to renew", n)
	}
}

// openapi/rid/get quotes earlier calls. Of what these carried, no credential is
// left.
func TestRIDQuotesNoCredential(t *testing.T) {
	p := startPlatform(t, consoleSecret, nil)
	paths := []string{gwtest.SendPath, componentFolder + "api_query_auth", componentFolder + "api_authorizer_token", componentFolder + "api_component_token"}
	// What WeChat refuses has a rid.
	_ = p.Ask(http.MethodPost, gwtest.SendPath, `{"touser":"","msgtype":"text","text":{"content":"你好"}}`, gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	_ = p.call("api_query_auth", `,"authorization_code":"queryauthcode@@@some"`)
	if _, err := p.WeChat.RotateRefreshToken(gwtest.OfficialAccount); err != nil {
		t.Fatal(err)
	}
	p.WeChat.AdvanceClock(10 * time.Minute)
	p.WeChat.KillTokens(gwtest.OfficialAccount)
	_ = p.AskGet(gwtest.AuthorizerPath + "?access_token=" + p.Token(gwtest.OfficialAccount))
	appSecret, _, _ := p.WeChat.Keys()
	p.WeChat.RotateAppSecret("")
	p.WeChat.KillTokens(p.WeChat.Component())
	_ = p.call("api_create_preauthcode", "")
	p.WeChat.RotateAppSecret(appSecret)
	if err := p.WeChat.PushTicket(t.Context()); err != nil { // ends the cool-down
		t.Fatal(err)
	}
	quoted := make(map[string]string)
	for _, call := range p.WeChat.Calls() {
		if !slices.Contains(paths, call.Path) || call.RID == "" {
			continue
		}
		caller := gwtest.Bearer(consoleSecret, p.WeChat.Component())
		if call.TokenKind == sandbox.KindAuthorizer {
			caller = gwtest.Bearer(consoleSecret, call.TokenAppID)
		}
		answer := p.Ask(http.MethodPost, "/cgi-bin/openapi/rid/get", `{"rid":"`+call.RID+`"}`, caller)
		if answer.ErrCode != 0 || !strings.Contains(answer.Body, `"client_ip"`) {
			t.Errorf("%s: %s", call.Path, answer.Body)
		}
		p.SearchCredentials("what is quoted of "+call.Path, []byte(answer.Body))
		quoted[call.Path] = answer.Body
	}
	for path, want := range map[string]string{
		componentFolder + "api_component_token":  `\"component_appsecret\":\"withheld\"`,
		componentFolder + "api_authorizer_token": `\"authorizer_refresh_token\":\"withheld\"`,
		componentFolder + "api_query_auth":       `\"authorization_code\":\"withheld\"`,
		gwtest.SendPath:                          `\"content\":\"你好\"`,
	} {
		if !strings.Contains(quoted[path], want) {
			t.Errorf("%s is quoted as %s, want %s in it", path, quoted[path], want)
		}
	}
}

func TestRIDWithholdsWhatItCannotRead(t *testing.T) {
	const half = `{"component_access_token":"REALTOKEN-half`
	answer, err := json.Marshal(map[string]any{"errcode": 0, "request": map[string]any{
		"request_url":  "https://api.weixin.qq.com/cgi-bin/user/get?next_openid=o1&access%5Ftoken=REALTOKEN-url&x=1",
		"request_body": "access_token=REALTOKEN-form", "response_body": half, "cost_in_ms": 5,
	}})
	if err != nil {
		t.Fatal(err)
	}
	p := startPlatform(t, consoleSecret, map[string]http.HandlerFunc{"/cgi-bin/openapi/rid/get": says(string(answer))})
	got := p.Post("/cgi-bin/openapi/rid/get?access_token="+p.token, `{"rid":"1-2-3"}`)
	want := `{"errcode":0,"request":{"cost_in_ms":5,"request_body":"withheld","request_url":"https://api.weixin.qq.com/cgi-bin/user/get?next_openid=o1&x=1","response_body":"withheld"}}`
	if got != want {
		t.Errorf("answered %s, want %s", got, want)
	}
}

// Where the name of WeChat's API leads to the gateway itself, it neither calls
// itself for ever nor takes its own refusals for WeChat's.
func TestGatewayInWeChatsPlace(t *testing.T) {
	var target *httputil.ReverseProxy
	calls := 0
	itself := func(w http.ResponseWriter, r *http.Request) {
		calls++
		target.ServeHTTP(w, r)
	}
	g := gwtest.StartThenRoutes(t, gwtest.Options{Clients: platforms}, map[string]http.HandlerFunc{
		gwtest.AuthorizerPath: itself, "/sns/userinfo": itself, "/sns/oauth2/component/refresh_token": itself,
		componentFolder + "api_component_token": itself, componentFolder + "api_get_authorizer_info": itself,
	})
	proxy, err := url.Parse(g.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	target = httputil.NewSingleHostReverseProxy(proxy)
	for _, path := range []string{
		gwtest.AuthorizerPath + "?access_token=" + g.Token(gwtest.OfficialAccount),
		"/sns/userinfo?access_token=a-user's&openid=o1",
		"/sns/oauth2/refresh_token?appid=" + gwtest.OfficialAccount + "&refresh_token=x",
	} {
		calls = 0
		if answer := g.AskGet(path); answer.Status != 502 || answer.Slug != "loop" {
			t.Errorf("%.40s: answered %d %q %s", path, answer.Status, answer.Slug, answer.Body)
		}
		if calls != 1 {
			t.Errorf("%.40s: the gateway called itself %d times", path, calls)
		}
	}
	if n := g.WeChat.Count(componentFolder + "api_authorizer_token"); n != 0 {
		t.Errorf("%d renewals for a refusal of the gateway's own", n)
	}
	p := platformOf(t, g, consoleSecret)
	if body := p.call("api_get_authorizer_info", named(gwtest.OfficialAccount)); errcodeOf(t, body) != -1 {
		t.Errorf("a call of the component API: %s", body)
	}
	g.WeChat.KillTokens(g.WeChat.Component())
	answer := g.Ask(http.MethodGet, gwtest.ComponentPath, "", gwtest.Bearer(consoleSecret, ""))
	if answer.Status < 500 {
		t.Errorf("a call that needs a component token: %d %s", answer.Status, answer.Body)
	}
	if !strings.Contains(g.Logs(), "is the host in api this gateway's own") {
		t.Error("the log does not say what is wrong")
	}
}

// Parameters are bounded before anybody is asked.
func TestEndpointsBoundTheirInput(t *testing.T) {
	p := startPlatform(t, consoleSecret, nil)
	p.WeChat.ResetCounts()
	for _, name := range []string{
		"api_component_token", "api_authorizer_token", "api_query_auth", "api_get_authorizer_info", "api_get_authorizer_list",
		"api_create_preauthcode", "api_start_push_ticket", "clear_quota/v2", "api_get_authorizer_option",
	} {
		path := componentFolder + name + "?access_token=" + p.token
		if body := p.Post(path, `{"x":"`+strings.Repeat("x", 16<<10)+`"}`); errcodeOf(t, body) != 47001 {
			t.Errorf("%s with a long body: %s", name, body)
		}
		for what, body := range map[string]string{"half an object": `{"component_appid":`, "a list": `[]`, "a text": `"x"`, "nothing but null": `null`} {
			if answer := p.Post(path, body); errcodeOf(t, answer) == 0 && name != "api_get_authorizer_list" && name != "api_create_preauthcode" {
				t.Errorf("%s with %s: %s", name, what, answer)
			}
		}
		if answer := p.Ask(http.MethodPut, path, "{}", nil); answer.ErrCode != 48001 {
			t.Errorf("PUT %s: %s", name, answer.Body)
		}
	}
	for _, call := range p.WeChat.Calls() {
		if !strings.HasSuffix(call.Path, "api_get_authorizer_list") && !strings.HasSuffix(call.Path, "api_create_preauthcode") {
			t.Errorf("WeChat saw a call to %s", call.Path)
		}
	}
}

// 100 MB to a token endpoint are neither read nor kept.
func TestHugeBodyAtATokenEndpoint(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	for _, path := range []string{"/cgi-bin/stable_token", componentFolder + "api_component_token"} {
		var sent atomic.Int64
		r, err := http.NewRequest(http.MethodPost, g.Proxy+path, io.TeeReader(io.LimitReader(endless{}, 100<<20), counter{&sent}))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err == nil { // else the gateway has hung up while the body was on its way
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode != 413 || errcodeOf(t, string(body)) != 47001 {
				t.Errorf("%s: %d %s", path, response.StatusCode, body)
			}
		}
		if sent.Load() > 16<<20 {
			t.Errorf("%s: the gateway took %s", path, fmt.Sprint(sent.Load()>>20, " MB"))
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}
