// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	componentFolder = "/cgi-bin/component/"

	consoleSecret = "console-secret-0123456789abcdef012345"
	agencySecret  = "agency-secret-0123456789abcdef0123456"
)

// platforms are clients that use the component API: one with every account, one
// with the official account alone, and shop, which has no right to it.
const platforms = gwtest.ShopClient + `
	client console {
		secret ` + consoleSecret + `
		authorizers *
		component_api
	}
	client agency {
		secret ` + agencySecret + `
		authorizers ` + gwtest.OfficialAccount + `
		component_api
	}`

// platform is an application that calls the component API as an SDK does.
type platform struct {
	*gwtest.Gateway
	t     testing.TB
	token string // the component's gateway token
}

// startPlatform starts a gateway and an SDK with the secret of a client.
func startPlatform(t testing.TB, clientSecret string, routes map[string]http.HandlerFunc) *platform {
	t.Helper()
	return platformOf(t, gwtest.StartThenRoutes(t, gwtest.Options{Clients: platforms}, routes), clientSecret)
}

func platformOf(t testing.TB, g *gwtest.Gateway, clientSecret string) *platform {
	t.Helper()
	p := &platform{Gateway: g, t: t}
	var answer struct {
		Token   string `json:"component_access_token"`
		Expires int    `json:"expires_in"`
	}
	body := p.Post(componentFolder+"api_component_token", fmt.Sprintf(
		`{"component_appid":%q,"component_appsecret":%q,"component_verify_ticket":"any"}`, g.WeChat.Component(), clientSecret))
	if err := json.Unmarshal([]byte(body), &answer); err != nil || !strings.HasPrefix(answer.Token, "gw1.") || answer.Expires != 7200 {
		t.Fatalf("component token: %s", body)
	}
	p.token = answer.Token
	return p
}

// call calls one path of the component API. rest are more members of the body.
func (p *platform) call(name, rest string) string {
	p.t.Helper()
	return p.Post(componentFolder+name+"?component_access_token="+p.token, `{"component_appid":"`+p.WeChat.Component()+`"`+rest+`}`)
}

func named(appid string) string { return `,"authorizer_appid":"` + appid + `"` }

func errcodeOf(t testing.TB, body string) int {
	t.Helper()
	var answer struct {
		ErrCode int `json:"errcode"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return answer.ErrCode
}

// A platform's SDK goes its whole way with gateway values: from the code to the
// tokens to calls for the account, and the tokens anew.
func TestPlatformFlow(t *testing.T) {
	p := startPlatform(t, consoleSecret, nil)
	code, err := p.WeChat.UpdateAuthorized(t.Context(), gwtest.OfficialAccount)
	if err != nil {
		t.Fatal(err)
	}
	var granted struct {
		Info gwtest.Authorization `json:"authorization_info"`
	}
	body := p.call("api_query_auth", `,"authorization_code":"`+code+`"`)
	if err := json.Unmarshal([]byte(body), &granted); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	info := granted.Info
	if info.AppID != gwtest.OfficialAccount || !strings.HasPrefix(info.Token, "gw1.") || info.Expires != 7200 ||
		!strings.HasPrefix(info.Refresh, "gwr1.") || len(info.Functions) == 0 {
		t.Fatalf("api_query_auth: %s", body)
	}
	if again := p.call("api_query_auth", `,"authorization_code":"`+code+`"`); errcodeOf(t, again) != 0 {
		t.Errorf("the same code again: %s", again)
	}
	if answer := p.AskGet(gwtest.AuthorizerPath + "?access_token=" + info.Token); answer.ErrCode != 0 {
		t.Errorf("a call with the token of api_query_auth: %s", answer.Body)
	}
	p.WeChat.ResetCounts()
	var renewed gwtest.Authorization
	body = p.call("api_authorizer_token", named(info.AppID)+`,"authorizer_refresh_token":"`+info.Refresh+`"`)
	if err := json.Unmarshal([]byte(body), &renewed); err != nil || !strings.HasPrefix(renewed.Token, "gw1.") ||
		renewed.Expires != 7200 || renewed.Refresh != info.Refresh {
		t.Fatalf("api_authorizer_token: %v %s", err, body)
	}
	// That the account has authorised again lets the gateway ask who it is, in the background.
	if n := p.WeChat.Count("/cgi-bin/component/api_authorizer_token"); n != 0 {
		t.Errorf("WeChat was asked %d times for a token, and the one before is alive", n)
	}
	if answer := p.AskGet(gwtest.AuthorizerPath + "?access_token=" + renewed.Token); answer.ErrCode != 0 {
		t.Errorf("a call with the token of api_authorizer_token: %s", answer.Body)
	}
	if calls := callsOf(p.Gateway, gwtest.AuthorizerPath); len(calls) != 1 || calls[0].TokenKind != sandbox.KindAuthorizer || calls[0].TokenAppID != gwtest.OfficialAccount {
		t.Errorf("WeChat saw %+v", calls)
	}
}

// The other calls of the component API, in the form SDKs send them.
func TestComponentAPI(t *testing.T) {
	p := startPlatform(t, consoleSecret, nil)
	secretBody := func(name string) string {
		return `{"component_appid":"` + p.WeChat.Component() + `","` + name + `":"` + consoleSecret + `"}`
	}
	official := named(gwtest.OfficialAccount)
	for name, row := range map[string]struct{ answer, want string }{
		"api_create_preauthcode": {p.call("api_create_preauthcode", ""), `"pre_auth_code":"preauthcode@@@`},
		"info":                   {p.call("api_get_authorizer_info", official), `"authorizer_refresh_token":"gwr1.`},
		"list":                   {p.call("api_get_authorizer_list", `,"offset":0,"count":500`), `"total_count":2`},
		"list with texts":        {p.call("api_get_authorizer_list", `,"offset":"1","count":"1"`), `"authorizer_appid":"` + gwtest.MiniProgram},
		"set option":             {p.call("api_set_authorizer_option", official+`,"option_name":"voice_recognize","option_value":"1"`), `"errcode":0`},
		"get option":             {p.call("api_get_authorizer_option", official+`,"option_name":"voice_recognize"`), `"option_name":"voice_recognize"`},
		"ticket pushes":          {p.Post(componentFolder+"api_start_push_ticket", secretBody("component_secret")), `"errcode":0`},
		"quota of the platform":  {p.Post(componentFolder+"clear_quota/v2", secretBody("appsecret")), `"errcode":0`},
		"quota of an account": {p.Post(componentFolder+"clear_quota/v2", strings.Replace(secretBody("appsecret"), "{",
			`{"appid":"`+gwtest.OfficialAccount+`",`, 1)), `"errcode":0`},
		"quota, as an account asks": {p.Post("/cgi-bin/clear_quota/v2", `{"appid":"`+gwtest.OfficialAccount+`","appsecret":"`+consoleSecret+`"}`), `"errcode":0`},
		"quota, in the query":       {p.Post("/cgi-bin/clear_quota/v2?appid="+gwtest.OfficialAccount+"&appsecret="+consoleSecret, ""), `"errcode":0`},
		"quota, by its token": {p.Post("/cgi-bin/clear_quota?access_token="+p.Token(gwtest.OfficialAccount),
			`{"appid":"`+gwtest.OfficialAccount+`"}`), `"errcode":0`},
		"a bearer needs no token":      {bearerPost(p, componentFolder+"api_get_authorizer_info", `{"authorizer_appid":"`+gwtest.MiniProgram+`"}`), `"user_name"`},
		"nor a secret in the body":     {bearerPost(p, componentFolder+"api_start_push_ticket", "{}"), `"errcode":0`},
		"nor one in api_component_...": {bearerPost(p, componentFolder+"api_component_token", "{}"), `"component_access_token":"gw1.`},
	} {
		if !strings.Contains(row.answer, row.want) {
			t.Errorf("%s: answered %s, want %s", name, row.answer, row.want)
		}
	}
	for _, call := range p.WeChat.Calls() {
		if strings.Contains(call.RawQuery, "gw1.") || strings.Contains(call.RawQuery, consoleSecret) {
			t.Errorf("WeChat saw a value of the gateway's in %s", call.Path)
		}
	}
}

func bearerPost(p *platform, path, content string) string {
	return p.Ask(http.MethodPost, path, content, gwtest.Bearer(consoleSecret, "")).Body
}

// A client sees and gets its own authorizers alone, also where it may use the
// component API; and without that right only tokens of its own accounts.
func TestComponentAPIRights(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: platforms})
	agency, shop := platformOf(t, g, agencySecret), platformOf(t, g, gwtest.ClientSecret)
	own, foreign := named(gwtest.OfficialAccount), named(gwtest.MiniProgram)
	code, err := g.WeChat.UpdateAuthorized(t.Context(), gwtest.MiniProgram)
	if err != nil {
		t.Fatal(err)
	}
	foreignCode := `,"authorization_code":"` + code + `"`
	agencyQuota := `{"appsecret":"` + agencySecret + `","appid":"` + gwtest.MiniProgram + `"}`
	for name, row := range map[string]struct {
		answer string
		want   int
	}{
		"its own token":                      {agency.call("api_authorizer_token", own), 0},
		"no account named":                   {agency.call("api_authorizer_token", ""), 0}, // it has one only
		"its own info":                       {agency.call("api_get_authorizer_info", own), 0},
		"another's token":                    {agency.call("api_authorizer_token", foreign), 61003},
		"another's info":                     {agency.call("api_get_authorizer_info", foreign), 61003},
		"another's option":                   {agency.call("api_get_authorizer_option", foreign+`,"option_name":"voice_recognize"`), 61003},
		"another's code":                     {agency.call("api_query_auth", foreignCode), 61003},
		"another's quota":                    {agency.Post(componentFolder+"clear_quota/v2", agencyQuota), 61003},
		"another's quota, by token":          {agency.Post("/cgi-bin/clear_quota/v2", agencyQuota), 61003},
		"both named, the last one another's": {agency.call("api_get_authorizer_info", own+foreign), 61003},
		"both named, the last one its own":   {agency.call("api_get_authorizer_info", foreign+own), 0},
		"another platform":                   {agency.Post(componentFolder+"api_component_token", `{"component_appid":"wxffffffffffffffff","component_appsecret":"`+agencySecret+`"}`), 40013},
		"a refresh token of another account": {agency.call("api_authorizer_token", own+`,"authorizer_refresh_token":"gwr1.wx134c8103faa5a59e.wxbbbbbbbbbbbbbbbb"`), 61023},

		"without component_api a token":           {shop.call("api_authorizer_token", own), 0},
		"without component_api no info":           {shop.call("api_get_authorizer_info", own), 48001},
		"without component_api no list":           {shop.call("api_get_authorizer_list", `,"offset":0,"count":1`), 48001},
		"without component_api no code":           {shop.call("api_query_auth", foreignCode), 48001},
		"without component_api no pre_auth_code":  {shop.call("api_create_preauthcode", ""), 48001},
		"without component_api no pushes":         {shop.Post(componentFolder+"api_start_push_ticket", `{"component_secret":"`+gwtest.ClientSecret+`"}`), 48001},
		"without component_api no quota":          {shop.Post(componentFolder+"clear_quota/v2", `{"appsecret":"`+gwtest.ClientSecret+`"}`), 48001},
		"without component_api an account's":      {shop.Post("/cgi-bin/clear_quota/v2", `{"appsecret":"`+gwtest.ClientSecret+`","appid":"`+gwtest.MiniProgram+`"}`), 0},
		"an account's token instead of the other": {shop.Post(componentFolder+"api_authorizer_token?access_token="+g.Token(gwtest.OfficialAccount), "{}"), 61014},
		"no token":                    {shop.Post(componentFolder+"api_authorizer_token", "{}"), 41001},
		"a wrong secret":              {shop.Post(componentFolder+"api_component_token", `{"component_appsecret":"`+gwtest.UnknownSecret+`"}`), 40125},
		"a secret under another name": {shop.Post(componentFolder+"api_component_token", `{"component_secret":"`+gwtest.ClientSecret+`"}`), 40125},
		"two accounts and none named": {shop.call("api_authorizer_token", ""), 41002},
		"something that is no appid":  {shop.call("api_authorizer_token", named("../x")), 61003},
	} {
		if got := errcodeOf(t, row.answer); got != row.want {
			t.Errorf("%s: answered %s, want errcode %d", name, row.answer, row.want)
		}
	}
	// The code was stored all the same: it is WeChat's, and spent.
	if n := g.WeChat.Count(componentFolder + "api_query_auth"); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}
}

// The list of a client with named accounts looks as if there were no others.
func TestListOfOwnAuthorizers(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: platforms})
	for i := range 30 {
		appid := fmt.Sprintf("wx%016x", i)
		if err := g.WeChat.AddAccount(sandbox.Account{AppID: appid}); err != nil {
			t.Fatal(err)
		}
		if _, err := g.WeChat.Authorize(t.Context(), appid); err != nil {
			t.Fatal(err)
		}
	}
	agency, console := platformOf(t, g, agencySecret), platformOf(t, g, consoleSecret)
	type list struct {
		Total int `json:"total_count"`
		List  []struct {
			AppID   string `json:"authorizer_appid"`
			Refresh string `json:"refresh_token"`
			Time    int64  `json:"auth_time"`
		}
	}
	page := func(p *platform, offset, count int) (l list) {
		body := p.call("api_get_authorizer_list", fmt.Sprintf(`,"offset":%d,"count":%d`, offset, count))
		if err := json.Unmarshal([]byte(body), &l); err != nil || errcodeOf(t, body) != 0 {
			t.Errorf("from %d, %d of them: %v %s", offset, count, err, body)
		}
		return l
	}
	own := page(agency, 0, 500)
	if own.Total != 1 || len(own.List) != 1 || own.List[0].AppID != gwtest.OfficialAccount ||
		!strings.HasPrefix(own.List[0].Refresh, "gwr1.") || own.List[0].Time == 0 {
		t.Errorf("agency sees %+v", own)
	}
	if beyond := page(agency, 1, 10); beyond.Total != 1 || len(beyond.List) != 0 {
		t.Errorf("beyond the end agency sees %+v", beyond)
	}
	seen := make(map[string]bool)
	for offset := 0; offset < 32; offset += 10 {
		l := page(console, offset, 10)
		for _, entry := range l.List {
			seen[entry.AppID] = true
		}
		if l.Total != 32 {
			t.Errorf("console sees a total of %d", l.Total)
		}
	}
	if len(seen) != 32 {
		t.Errorf("console sees %d accounts, want 32", len(seen))
	}
	for name, part := range map[string]string{
		"too many": `,"offset":0,"count":501`, "none": `,"offset":0,"count":0`, "before the first": `,"offset":-1,"count":1`, "no number": `,"offset":"x"`,
	} {
		if body := console.call("api_get_authorizer_list", part); errcodeOf(t, body) != 47001 {
			t.Errorf("%s: %s", name, body)
		}
	}
}
