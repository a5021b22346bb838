// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const hintHeader = "Wechat-Gateway-Hint"

// refuses answers with an errcode and a text that holds more than the gateway may say.
func refuses(errcode, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(hintHeader, "of WeChat's own")
		says(`{"errcode":`+errcode+`,"errmsg":"`+text+` SECRETIVE rid: 5f2a-1-2"}`)(w, r)
	}
}

// What a refusal means that no program can mend is said to the caller in a header and to
// operators in the log, once for each cause; WeChat's own text to neither.
func TestRefusalsAreSaidPlainly(t *testing.T) {
	g := gwtest.StartWithRoutes(t, gwtest.Options{Clients: gwtest.ManyClients()}, map[string]http.HandlerFunc{
		"/refused/list":    refuses("61004", "access clientip is not registered requestIP: 192.0.2.7"),
		"/refused/account": refuses("40164", "invalid ip 192.0.2.8 ipv6 ::ffff:192.0.2.8, not in whitelist"),
		"/refused/quota":   refuses("45009", "reach max api daily quota limit"),
		"/refused/right":   refuses("48001", "api unauthorized"),
		"/refused/set":     refuses("61007", "api is unauthorized to component"),
		"/refused/other":   refuses("47001", "data format error"),
		"/refused/none":    func(w http.ResponseWriter, r *http.Request) { w.Header().Set(hintHeader, "x"); gwtest.AnswerOK(w, r) },
		"/sns/userinfo":    refuses("48001", "api unauthorized"),
	})
	official, mini := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount), gwtest.Bearer(gwtest.ClientSecret, gwtest.MiniProgram)
	lines := 0
	for _, row := range []struct {
		path   string
		header http.Header
		hint   string // a part of it; "" for none
		line   bool   // another line in the log
	}{
		{"/refused/list", official, "192.0.2.7 is not on the IP white list of the third-party platform", true},
		{"/refused/list", mini, "192.0.2.7", false}, // it is the platform's
		{"/refused/account", official, "192.0.2.8 is not on the account's own IP white list", true},
		{"/refused/account", mini, "192.0.2.8", true},
		{"/refused/quota", official, "the account's own daily quota", true},
		{"/refused/quota", official, "the account's own daily quota", false},
		{"/refused/right", official, "permission set", true},
		{"/refused/set", official, "permission set", false}, // the same cause
		{"/refused/other", official, "", false},
		{"/refused/none", official, "", false},
		{"/sns/userinfo?access_token=users&openid=o", nil, "", false},
	} {
		response, body := g.Do(http.MethodGet, row.path, "", row.header)
		hints := response.Header.Values(hintHeader)
		if got := strings.Join(hints, "|"); len(hints) > 1 || !strings.Contains(got, row.hint) || row.hint == "" && got != "" || strings.Contains(got, "SECRETIVE") {
			t.Errorf("%s: the hint is %q, want %q, with %s", row.path, got, row.hint, body)
		}
		if row.line {
			lines++
		}
		if n := strings.Count(g.Logs(), `"msg":"WeChat refuses calls"`); n != lines {
			t.Errorf("%s: the log has %d lines, want %d", row.path, n, lines)
		}
	}
	g.WeChat.Inject(sandbox.Fault{Path: gwtest.InfoPath, ErrCode: 45009})
	response, _ := g.Do(http.MethodPost, gwtest.InfoPath, `{"authorizer_appid":"`+gwtest.OfficialAccount+`"}`, gwtest.Bearer(gwtest.PlatformSecret, ""))
	if got := response.Header.Get(hintHeader); !strings.Contains(got, "the third-party platform's daily quota") {
		t.Errorf("a refusal of the gateway's own call has the hint %q", got)
	}
	logs := g.Logs()
	for _, part := range []string{`"client":"shop"`, `"client":"platform"`, `"appid":"` + gwtest.MiniProgram + `"`, `"wechat_errcode":61004`, `"rid":"5f2a-1-2"`, "192.0.2.8", `"remedy":"`} {
		if !strings.Contains(logs, part) {
			t.Errorf("the log does not have %s", part)
		}
	}
	if strings.Contains(logs, "SECRETIVE") {
		t.Error("the log has WeChat's own text")
	}
}

// A platform that is not on its own white list gets no token for any of its accounts:
// whoever calls hears of the list, not of a component token alone.
func TestCallersHearWhyThereIsNoComponentToken(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{Clients: gwtest.ManyClients()})
	g.WeChat.Inject(sandbox.Fault{Path: componentFolder + "api_component_token", ErrCode: 40164, ErrMsg: "invalid ip 192.0.2.9 ipv6 ::ffff:192.0.2.9, not in whitelist"})
	g.Restart(t, func() { // without a token of anybody's
		for path := range g.StoredRecords(t) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	})
	if err := g.WeChat.PushTicket(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]func() *http.Response{
		"a relayed call": func() *http.Response {
			response, _ := g.Do(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
			return response
		},
		"a call that the gateway makes": func() *http.Response {
			response, _ := g.Do(http.MethodPost, gwtest.InfoPath, `{"authorizer_appid":"`+gwtest.OfficialAccount+`"}`, gwtest.Bearer(gwtest.PlatformSecret, ""))
			return response
		},
	} {
		header := ask().Header
		if slug := header.Get("Wechat-Gateway-Error"); slug != "component_token" {
			t.Errorf("%s: the slug is %q", name, slug)
		}
		if hint := header.Get(hintHeader); !strings.Contains(hint, "192.0.2.9 is not on the IP white list of the third-party platform") {
			t.Errorf("%s: the hint is %q", name, hint)
		}
	}
	if n := strings.Count(g.Logs(), `"msg":"WeChat refuses calls"`); n != 1 {
		t.Errorf("the log has %d lines, want 1", n)
	}
}

// The permission set that an account has not granted is named, once memory knows what it
// has granted.
func TestHintNamesWhatAnAccountHasNotGranted(t *testing.T) {
	const path = "/wxa/generate_urllink" // wants 小程序链接管理
	g := gwtest.StartThenRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{path: says(`{"errcode":61007,"errmsg":"api is unauthorized to component"}`)})
	wantSoon(t, "the hint names the permission set", func() bool {
		response, _ := g.Do(http.MethodPost, path, "{}", gwtest.Bearer(gwtest.ClientSecret, gwtest.MiniProgram))
		return strings.Contains(response.Header.Get(hintHeader), "none of the permission sets of which this path needs one: 88")
	})
	if !strings.Contains(g.Logs(), "小程序链接管理") {
		t.Errorf("the log does not name the permission set\n%s", g.Logs())
	}
}

// One line of the audit answers what a client has called for an account, and what WeChat
// has said, and names the request as the access log does.
func TestAuditOfCalls(t *testing.T) {
	access := filepath.Join(t.TempDir(), "access.log")
	g := gwtest.StartWithRoutes(t, gwtest.Options{Clients: gwtest.ManyClients(), Sites: shownSite(access), Wechat: "audit calls"}, map[string]http.HandlerFunc{
		"/audited/ok":    says(`{"errcode":0,"errmsg":"ok"}`),
		"/audited/quota": says(`{"errcode":45009,"errmsg":"reach max api daily quota limit rid: 5f2a-1-2"}`),
		"/audited/html":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
	})
	g.Proxy = "http://" + g.Sites
	shop := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
	mark := len(g.Logs())
	g.Do(http.MethodPost, "/audited/quota", "{}", shop)
	line := auditLine(t, g, mark, "/audited/quota")
	want := map[string]any{
		"client": "shop", "component": g.WeChat.Component(), "appid": gwtest.OfficialAccount, "method": "POST", "path": "/audited/quota", "kind": "authorizer",
		"wechat_errcode": 45009.0, "errcode": 45009.0, "rid": "5f2a-1-2", "slug": "wechat", "status": 200.0, "repeated": false, "bytes": 74.0, "remote": "127.0.0.1",
	}
	for name, value := range want {
		if line[name] != value {
			t.Errorf("%s is %v, want %v", name, line[name], value)
		}
	}
	if line["upstream_ms"].(float64) <= 0 {
		t.Errorf("WeChat was waited for %v ms", line["upstream_ms"])
	}
	id, _ := line["request_id"].(string)
	wantSoon(t, "the access log has the same id", func() bool {
		content, err := os.ReadFile(access)
		return err == nil && len(id) == 36 && strings.Contains(string(content), id)
	})
	for _, row := range []struct {
		path           string
		header         http.Header
		shown          string
		kind           string
		wechat, slug   any
		errcode, bytes float64
	}{
		{"/audited/ok", shop, "/audited/ok", "authorizer", 0.0, nil, 0, 27},
		{"/audited/html", shop, "/audited/html", "authorizer", nil, "wechat", 0, 0},
		{gwtest.TokenPath(gwtest.OfficialAccount, gwtest.ClientSecret), nil, "/cgi-bin/token", "none", nil, nil, 0, -1},
		{"/audited/ok", nil, "/audited/ok", "none", nil, "token_missing", 41001, -1},
		{"/audited//ok?a=gw1.b", shop, "", "none", nil, "not_allowed", 48001, -1},
	} {
		mark := len(g.Logs())
		g.Do(http.MethodGet, row.path, "", row.header)
		line := auditLine(t, g, mark, row.shown)
		if line["kind"] != row.kind || line["wechat_errcode"] != row.wechat || line["slug"] != row.slug || line["errcode"] != row.errcode || row.bytes >= 0 && line["bytes"] != row.bytes {
			t.Errorf("%s: %v", row.path, line)
		}
	}
}

// Without an access log, the audit has the id that the site has shown to the caller, and
// one of its own where it has shown none.
func TestAuditNamesTheRequestWithoutAnAccessLog(t *testing.T) {
	for _, row := range []struct{ name, shows string }{
		{"nobody asks for the id", ""},
		{"the site answers with it", "header X-Request-Id {http.request.uuid}"},
		{"it does so at the end", "header >X-Request-Id {http.request.uuid}"},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := gwtest.StartWithRoutes(t, gwtest.Options{Sites: ":18083 {\n" + row.shows + "\nwechat_proxy\n}", Wechat: "audit calls"},
				map[string]http.HandlerFunc{"/audited/ok": says(`{"errcode":0}`)})
			g.Proxy = "http://" + g.Sites
			response, _ := g.Do(http.MethodGet, "/audited/ok", "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
			id, _ := auditLine(t, g, 0, "/audited/ok")["request_id"].(string)
			if shown := response.Header.Get("X-Request-Id"); len(id) != 36 || (shown == "") != (row.shows == "") || shown != "" && shown != id {
				t.Errorf("the audit has %q, the answer %q", id, shown)
			}
		})
	}
}

// auditLine waits for the line of the audit about a path behind a mark in the log.
func auditLine(t *testing.T, g *gwtest.Gateway, mark int, path string) (line map[string]any) {
	t.Helper()
	wantSoon(t, "the audit has "+path, func() bool {
		for text := range strings.Lines(g.Logs()[mark:]) {
			line = nil
			if json.Unmarshal([]byte(text), &line) == nil && line["logger"] == "wechat.audit" && line["path"] == path {
				return true
			}
		}
		return false
	})
	return line
}
