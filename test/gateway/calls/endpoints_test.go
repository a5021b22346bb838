// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// SDKs ask for a token in three ways and get the same: a token of the
// gateway's own that is good for two hours from now.
func TestTokenEndpoints(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}}
	json := http.Header{"Content-Type": {"application/json"}}
	inQuery := strings.TrimPrefix(gwtest.TokenPath(gwtest.OfficialAccount, gwtest.ClientSecret), "/cgi-bin/token?")
	inJSON := `{"grant_type":"client_credential","appid":"` + gwtest.OfficialAccount + `","secret":"` + gwtest.ClientSecret + `","force_refresh":true}`
	multipartType, multipartBody := multipartForm(url.Values{"grant_type": {"client_credential"}, "appid": {gwtest.OfficialAccount}, "secret": {gwtest.ClientSecret}})
	for name, row := range map[string]struct {
		method, query, body string
		header              http.Header
	}{
		"GET":                                    {"GET", "?" + inQuery, "", nil},
		"POST form":                              {"POST", "", inQuery, form},
		"POST JSON":                              {"POST", "", inJSON, json},
		"POST JSON under the name of a form":     {"POST", "", inJSON, form},
		"POST JSON without a content type":       {"POST", "", " \n" + inJSON, nil},
		"POST with all in the query":             {"POST", "?" + inQuery, "", nil},
		"POST with all in the query and a blank": {"POST", "?" + inQuery, "\r\n", json},
		"POST multipart":                         {"POST", "", multipartBody, typed(multipartType)},
		"POST with all in the query and {}":      {"POST", "?" + inQuery, "{}", json},
		"POST JSON without what the query names": {"POST", "?appid=" + gwtest.OfficialAccount, `{"secret":"` + gwtest.ClientSecret + `"}`, json},
	} {
		for _, path := range []string{"/cgi-bin/token", "/cgi-bin/stable_token"} {
			t.Run(name+" "+path, func(t *testing.T) {
				answer := g.Ask(row.method, path+row.query, row.body, row.header)
				if answer.Status != 200 || answer.ErrCode != 0 || !strings.HasPrefix(answer.Token, "gw1.") || answer.Expires != 7200 {
					t.Fatalf("answered %d %s", answer.Status, answer.Body)
				}
				if used := g.AskGet(gwtest.AuthorizerPath + "?access_token=" + answer.Token); used.ErrCode != 0 {
					t.Errorf("using the token: %s", used.Body)
				}
				if n := g.WeChat.Count(path); n != 0 {
					t.Errorf("WeChat saw %d calls to %s", n, path)
				}
			})
		}
	}
}

// SDKs use a token through the last second they were told, and their clocks are
// not the gateway's: it is good for a minute longer.
func TestTokenOutlivesItsTerm(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	expiry, err := strconv.ParseInt(strings.Split(token, ".")[4], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(time.Unix(expiry, 0)) - 2*time.Hour; left < 30*time.Second || left > time.Minute {
		t.Errorf("it ends %v after the two hours, want a minute", left)
	}
}

// Bad input at a token endpoint gets a clear answer and costs nothing: the
// body is bounded, and nobody else is asked.
func TestTokenEndpointBadInput(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	good := `"appid":"` + gwtest.OfficialAccount + `","secret":"` + gwtest.ClientSecret + `"`
	g.WeChat.ResetCounts()
	for name, row := range map[string]struct {
		query, body  string
		header       http.Header
		status, code int
	}{
		"a body over the limit":             {"", `{` + good + `,"x":"` + strings.Repeat("x", 16<<10) + `"}`, nil, 413, 47001},
		"broken JSON":                       {"", `{` + good, nil, 200, 47001},
		"two JSON values":                   {"", `{` + good + `}{}`, nil, 200, 47001},
		"a JSON list":                       {"", `[{` + good + `}]`, nil, 200, 47001},
		"a number in the place of a secret": {"", `{"appid":"` + gwtest.OfficialAccount + `","secret":1}`, nil, 200, 40125},
		"a form without its content type":   {"", "appid=" + gwtest.OfficialAccount, nil, 200, 47001},
		"a broken form":                     {"", "appid=%zz", form, 200, 47001},
		"a broken query":                    {"?appid=%zz", "", nil, 200, 47001},
		"a semicolon in the query":          {"?appid=" + gwtest.OfficialAccount + ";secret=" + gwtest.ClientSecret, "", nil, 200, 47001},
		// There is one reader, so the last of two counts, whichever is right.
		"a right secret before a wrong one": {"", `{` + good + `,"secret":"` + gwtest.UnknownSecret + `"}`, nil, 200, 40125},
		"a wrong secret before a right one": {"", `{"secret":"` + gwtest.UnknownSecret + `",` + good + `}`, nil, 200, 0},
		"another secret in the query":       {"?secret=" + gwtest.UnknownSecret, `{` + good + `}`, nil, 200, 0},
	} {
		t.Run(name, func(t *testing.T) {
			answer := g.Ask(http.MethodPost, "/cgi-bin/stable_token"+row.query, row.body, row.header)
			if answer.Status != row.status || answer.ErrCode != row.code {
				t.Errorf("answered %d %s, want %d with errcode %d", answer.Status, answer.Body, row.status, row.code)
			}
			if (answer.Token != "") != (row.code == 0) {
				t.Errorf("token %q", answer.Token)
			}
		})
	}
	if calls := g.WeChat.Calls(); len(calls) != 0 {
		t.Errorf("WeChat saw %d calls, the first to %s", len(calls), calls[0].Path)
	}
}

// An account that has withdrawn is refused at the token endpoint already: an
// SDK says so when it starts, not at its first call.
func TestWithdrawnAccountGetsNoToken(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	if err := g.WeChat.Revoke(context.Background(), gwtest.OfficialAccount); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"token endpoint":             gwtest.TokenPath(gwtest.OfficialAccount, gwtest.ClientSecret),
		"call with an earlier token": gwtest.AuthorizerPath + "?access_token=" + token,
	} {
		if answer := g.AskGet(path); answer.Status != 200 || answer.ErrCode != 61003 {
			t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
		}
	}
}

// The admin of an account freezes its AppSecret, as WeChat advises: only the account's
// own token calls notice. The gateway has never used it.
func TestFrozenAppSecretStopsNothing(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	if err := g.WeChat.FreezeAppSecret(gwtest.MiniProgram, true); err != nil {
		t.Fatal(err)
	}
	g.WeChat.KillTokens(gwtest.MiniProgram)
	g.WantSuccess(t, gwtest.MiniProgram)
	code := g.WeChat.NewUserCode(gwtest.MiniProgram, "alice")
	if answer := g.AskGet(sessions + loginQuery(gwtest.MiniProgram, gwtest.ClientSecret, "js_code", code)); answer.ErrCode != 0 {
		t.Errorf("a login: %s", answer.Body)
	}
}

// A storage that is out of reach is not an empty one: without a token in
// memory the caller is told, and WeChat is not asked for another one.
func TestStorageUnavailable(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{Quiet: true})
	g.BreakStorage(t)
	answer := g.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	if answer.Status != 503 || answer.ErrCode != -1 || answer.Slug != "storage" {
		t.Errorf("answered %d %q %s", answer.Status, answer.Slug, answer.Body)
	}
	// A gateway token needs no storage.
	if answer := g.AskGet(gwtest.TokenPath(gwtest.OfficialAccount, gwtest.ClientSecret)); answer.Token == "" {
		t.Errorf("token endpoint: %s", answer.Body)
	}
	for _, call := range g.WeChat.Calls() {
		if call.Path != componentFolder+"api_start_push_ticket" { // which the gateway may have called when it started
			t.Errorf("WeChat saw a call to %s", call.Path)
		}
	}
}
