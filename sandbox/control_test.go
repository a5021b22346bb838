// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// lever pulls a lever over HTTP and wants it to succeed.
func (w *world) lever(name, body string) answer {
	w.t.Helper()
	return w.post("/_sandbox/"+name, body)
}

// Who reads an answer with a program may take every list for one: nothing is null, even
// if nothing has happened yet.
func TestEmptyListsOfLeversAreNotNull(t *testing.T) {
	s, err := sandbox.New(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Sandbox: s, t: t, client: &http.Client{Transport: s.Transport()}}
	for _, request := range []string{
		"GET ", "GET calls", "GET pushes", "GET sent", "GET credentials", "GET switches",
		"POST push", "POST message", "POST publish-test", // there is nowhere to push to
	} {
		method, lever, _ := strings.Cut(request, " ")
		response, body := w.do(method, "/_sandbox/"+lever, "")
		if strings.Contains(body, "null") || method == "GET" && response.StatusCode != http.StatusOK {
			t.Errorf("%s is answered %s %s", request, response.Status, body)
		}
		if lists := strings.Contains(body, "[]"); !lists && !slices.Contains([]string{"GET switches", "GET credentials", "POST publish-test"}, request) {
			t.Errorf("%s shows no list: %s", request, body)
		}
	}
}

func TestTheWholeStoryOverHTTP(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	const third = "wxcccccccccccccccc"
	w.lever("ticket", "")
	w.lever("account", `{"appid":"`+third+`","nick_name":"Third","mini_program":true}`)
	code := w.lever("authorize", `{"appid":"`+third+`"}`).text("code")
	component := w.componentToken()
	info := w.component("api_query_auth", component, "authorization_code", code).in("authorization_info")
	token := info.text("authorizer_access_token")
	if got := w.get("/_sandbox/token?kind=authorizer&appid=" + third); token == "" || got.text("token") != token {
		t.Errorf("token %q, lever says %v", token, got)
	}
	w.lever("authorized", `{"appid":"`+third+`"}`)
	w.lever("update", `{"appid":"`+third+`"}`)
	w.lever("event", `{"info_type":"notify_third_fasteregister","inner":"<status>0</status>"}`)
	if got := w.receiver.last(); got.field("InfoType") != "notify_third_fasteregister" || got.field("status") != "0" {
		t.Errorf("event %s", got.plain)
	}
	w.lever("message", `{"appid":"`+third+`","openid":"o","inner":"<MsgType>text</MsgType>"}`)
	if got := w.receiver.last(); got.field("FromUserName") != "o" {
		t.Errorf("message %s", got.plain)
	}
	w.lever("push", `{"plain":"<xml/>","forged_signature":true,"age":"1h"}`)
	if w.receiver.last().signed {
		t.Error("the forged push is signed")
	}
	w.lever("expire", `{"appid":"`+third+`"}`)
	w.wantCode("expired", w.get("/x?access_token="+token), 42001)
	w.lever("rotate-token", `{"appid":"`+third+`"}`)
	w.lever("rotate-refresh", `{"appid":"`+third+`"}`)
	w.lever("kill", `{}`)
	w.wantCode("killed", w.get(ipPath+component), 40001)
	w.lever("revoke", `{"appid":"`+third+`"}`)
	w.wantCode("revoked", w.get("/x?access_token="+token), 61003)
	if got := w.get("/_sandbox/count?path=/x"); got["count"] != 2.0 {
		t.Errorf("count %v", got)
	}
	if got := w.get("/_sandbox/count?path=/x&token=" + token); got["count"] != 2.0 {
		t.Errorf("count by token %v", got)
	}
}

func TestSettingsOverHTTP(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	w.lever("fault", `{"path":"/cgi-bin/getcallbackip","errcode":-1,"latency":"1ms"}`)
	w.wantCode("fault", w.get(ipPath+component), -1)
	w.json("DELETE", "/_sandbox/fault", "")
	w.lever("quota", `{"path":"/cgi-bin/getcallbackip","daily":1}`)
	w.wantCode("within the quota", w.get(ipPath+component), 0)
	w.wantCode("over the quota", w.get(ipPath+component), 45009)
	w.lever("ips", `{"allow":["10.0.0.1"]}`)
	w.wantCode("white list", w.get(ipPath+component), 61004)
	w.lever("ips", `{}`)
	w.lever("switches", `{"component_42006":true}`)
	w.lever("advance", `{"by":"2h"}`)
	w.wantCode("advanced and switched", w.get(ipPath+component), 42006)
	if got := w.get("/_sandbox/switches"); got["component_42006"] != true {
		t.Errorf("switches %v", got)
	}
	w.lever("urls", `{"events":"http://gateway.test/other","launch_domain":"open.example.com"}`)
	w.lever("ticket", "")
	if got := w.receiver.last().request.URL.Path; got != "/other" {
		t.Errorf("pushed to %s", got)
	}
	if got := w.get("/_sandbox/"); got.text("launch_domain") != "open.example.com" || got["accounts"] == nil {
		t.Errorf("overview %v", got)
	}
	w.json("DELETE", "/_sandbox/calls", "")
	if _, body := w.do("GET", "/_sandbox/calls", ""); body != "[]\n" {
		t.Errorf("calls %s", body)
	}
	w.lever("stop-tickets", "")
	secret := w.lever("rotate-secret", `{}`).text("app_secret")
	keys := w.lever("rotate-keys", `{}`)
	_, body := w.do("GET", "/_sandbox/credentials", "")
	for _, credential := range []string{secret, keys.text("token"), keys.text("encoding_aes_key")} {
		if credential == "" || !strings.Contains(body, credential) {
			t.Errorf("credentials lack %q", credential)
		}
	}
	if got := w.lever("usercode", `{"appid":"`+official+`","user":"alice"}`); got.text("openid") != w.OpenID(official, "alice") || got.text("code") == "" {
		t.Errorf("usercode %v", got)
	}
	for _, list := range []string{"pushes", "sent"} {
		if _, body := w.do("GET", "/_sandbox/"+list, ""); !json.Valid([]byte(body)) {
			t.Errorf("%s: %s", list, body)
		}
	}
}

func TestLeversRefuseWhatTheyCannotDo(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	w.receiver.answer = "no"
	for name, row := range map[string]struct {
		target, body string
		status       int
	}{
		"a mistyped field":            {"authorize", `{"app_id":"x"}`, 400},
		"a malformed duration":        {"advance", `{"by":"soon"}`, 400},
		"a stranger":                  {"authorize", `{"appid":"wxdddddddddddddddd"}`, 409},
		"an account that is no appid": {"account", `{"appid":"x"}`, 409},
		"a push that is not taken":    {"ticket", ``, 409},
		"nothing to revoke":           {"revoke", `{"appid":"` + official + `"}`, 409},
		"an unknown lever":            {"nonsense", ``, 404},
	} {
		if response, body := w.do("POST", "/_sandbox/"+row.target, row.body); response.StatusCode != row.status {
			t.Errorf("%s: %d %s", name, response.StatusCode, body)
		}
	}
	if response, _ := w.do("POST", "/_sandbox/authorize", `{"appid":"`+official+`"}`); response.StatusCode != 409 {
		t.Error("authorising hides that the push failed")
	}
	if n := len(w.Calls()); n != 0 {
		t.Errorf("%d levers stand in the history of the API", n)
	}
}

func TestEveryLeverIsDocumented(t *testing.T) {
	read := func(name string) string {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	doc, readme, source := read("doc.go"), read("README.md"), read("control.go")
	var levers []string
	for _, match := range regexp.MustCompile(`(?:lever\(mux, "[A-Z]+ |show\(")([a-z-]+)"`).FindAllStringSubmatch(source, -1) {
		levers = append(levers, match[1])
	}
	slices.Sort(levers)
	levers = slices.Compact(levers)
	if len(levers) < 25 {
		t.Fatalf("only %d levers found: %v", len(levers), levers)
	}
	for _, name := range levers {
		if !regexp.MustCompile(`(?m)^//\t(GET|POST|DELETE) +` + name + `\b`).MatchString(doc) {
			t.Errorf("doc.go does not list %s", name)
		}
		if !strings.Contains(readme, "_sandbox/"+name) {
			t.Errorf("README.md has no curl line for %s", name)
		}
	}
}
