// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"image/jpeg"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]sandbox.Config{
		"a component that is no appid": {Component: "gh_1"},
		"a token with punctuation":     {Token: "a-b-c"},
		"an AES key of 42 characters":  {EncodingAESKey: strings.Repeat("a", 42)},
		"a clock that runs backwards":  {Speed: -1},
	} {
		if _, err := sandbox.New(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := sandbox.New(sandbox.Config{}); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	if len(sandbox.DefaultAppSecret) != 32 {
		t.Error("the default app secret is not 32 characters long")
	}
}

func TestAnswersLookLikeWeChats(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	user := userTokenOf(w, component)
	errorAt := func(target string) (contentType, body string) {
		response, body := w.do("GET", target, "")
		if response.StatusCode != 200 {
			t.Errorf("an error with status %d", response.StatusCode)
		}
		return response.Header.Get("Content-Type"), body
	}
	if contentType, body := errorAt("/x?access_token=junk"); contentType != "application/json; encoding=utf-8" || !strings.HasPrefix(body, `{"errcode":40014,"errmsg":"invalid access_token rid: `) {
		t.Errorf("%s %s", contentType, body)
	}
	if contentType, _ := errorAt("/sns/auth?access_token=" + user); contentType != "text/plain" {
		t.Errorf("/sns/ answers %s", contentType)
	}
	w.SetSwitches(sandbox.Switches{TextPlain: true, StringErrCodes: true})
	if contentType, body := errorAt("/x?access_token=junk"); contentType != "text/plain" || !strings.HasPrefix(body, `{"errcode":"40014"`) {
		t.Errorf("switched: %s %s", contentType, body)
	}
	if response, _ := w.do("GET", ipPath+component, ""); response.Header.Get("Content-Type") == "text/plain" {
		t.Error("TextPlain is for errors")
	}
	w.SetSwitches(sandbox.Switches{ErrorType: "image/jpeg", ErrMsgFirst: true, ErrorBOM: true})
	if contentType, body := errorAt("/x?access_token=junk"); contentType != "image/jpeg" || !strings.HasPrefix(body, "\uFEFF"+`{"errmsg":"invalid access_token rid: `) || !strings.HasSuffix(body, `,"errcode":40014}`) {
		t.Errorf("switched: %s %s", contentType, body)
	}
	w.SetSwitches(sandbox.Switches{ErrorType: "none"})
	if contentType, body := errorAt("/x?access_token=junk"); contentType != "" || !strings.HasPrefix(body, `{"errcode":40014`) {
		t.Errorf("switched: %s %s", contentType, body)
	}
	w.SetSwitches(sandbox.Switches{Gzip: true})
	response, body := w.do("GET", ipPath+component, "", "Accept-Encoding", "gzip")
	zipped, err := gzip.NewReader(strings.NewReader(body))
	w.must(err)
	plain, err := io.ReadAll(zipped)
	if err != nil || response.Header.Get("Content-Encoding") != "gzip" || !json.Valid(plain) {
		t.Errorf("gzip: %q, %v", plain, err)
	}
	if response, _ := w.do("GET", ipPath+component, "", "Accept-Encoding", "identity"); response.Header.Get("Content-Encoding") != "" {
		t.Error("compressed for a caller who did not ask")
	}
}

func userTokenOf(w *world, component string) string {
	w.t.Helper()
	w.authorizer(component, official)
	return userToken(w, component)
}

func TestExpiresInVariants(t *testing.T) {
	w := newWorld(t, sandbox.Config{PreAuthCodeLifetime: 600 * time.Second})
	component := w.componentToken()
	if got := w.component("api_create_preauthcode", component); got["expires_in"] != 600.0 {
		t.Errorf("pre_auth_code %v", got)
	}
	w.SetSwitches(sandbox.Switches{ExpiresIn: 30, StringExpiresIn: true})
	if got := w.tokenFor(w.ValidToken(sandbox.KindTicket, "")); got["expires_in"] != "30" {
		t.Errorf("token %v", got)
	}
}

func TestComponent42006(t *testing.T) {
	w := newWorld(t, sandbox.Config{Switches: sandbox.Switches{Component42006: true}})
	component := w.componentToken()
	token, _ := w.authorizer(component, official)
	w.ExpireTokens("")
	w.wantCode("the component's", w.get(ipPath+component), 42006)
	w.wantCode("an account's", w.get("/x?access_token="+token), 42001)
}

func TestDailyQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const path = "/cgi-bin/user/get"
		w := newWorld(t, sandbox.Config{TokenLifetime: 100 * time.Hour, Quota: map[string]int{path: 2}})
		component := w.componentToken()
		token, _ := w.authorizer(component, official)
		other, _ := w.authorizer(component, mini)
		spend := func(token string, codes ...int) {
			t.Helper()
			for i, code := range codes {
				w.wantCode(fmt.Sprint("call ", i), w.get(path+"?access_token="+token), code)
			}
		}
		spend(token, 0, 0, 45009)
		spend(other, 0)
		got := w.post("/cgi-bin/openapi/quota/get?access_token="+token, `{"cgi_path":"`+path+`"}`).in("quota")
		if diff := cmp.Diff(answer{"daily_limit": 2.0, "used": 2.0, "remain": 0.0}, got); diff != "" {
			t.Error(diff)
		}
		clear := func() answer {
			return w.post("/cgi-bin/clear_quota?access_token="+token, `{"appid":"`+official+`"}`)
		}
		w.wantCode("clearing", clear(), 0)
		spend(token, 0, 0, 45009)
		time.Sleep(24 * time.Hour)
		spend(token, 0, 0, 45009)
		bySecret := `{"component_appid":"` + sandbox.DefaultComponent + `","appsecret":"` + sandbox.DefaultAppSecret + `","appid":"` + official + `"}`
		w.wantCode("clearing by secret", w.post("/cgi-bin/component/clear_quota/v2", bySecret), 0)
		spend(token, 0)
		for range 8 {
			w.wantCode("clearing again", clear(), 0)
		}
		w.wantCode("the eleventh clearing of a month", clear(), 48006)
		w.wantCode("token and appid of different subjects", w.post("/cgi-bin/clear_quota?access_token="+component, `{"appid":"`+official+`"}`), 40013)
		w.wantCode("a wrong secret", w.post("/cgi-bin/component/clear_quota/v2", strings.Replace(bySecret, "REAL", "", 1)), 40125)
		w.wantCode("quota of /sns/", w.post("/cgi-bin/openapi/quota/get?access_token="+token, `{"cgi_path":"/sns/userinfo"}`), 76022)
		w.SetQuota(path, -1)
		spend(token, 0, 0, 0, 0)
	})
}

func TestRidGetShowsTheTokenOfARefusedCall(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	token, _ := w.authorizer(component, official)
	refused := w.post("/cgi-bin/message/custom/send?access_token="+token, `{"msgtype":"text"}`)
	_, rid, _ := strings.Cut(refused.text("errmsg"), " rid: ")
	ask := func(token string) answer {
		return w.post("/cgi-bin/openapi/rid/get?access_token="+token, `{"rid":"`+rid+`"}`)
	}
	if got := ask(token).in("request"); !strings.Contains(got.text("request_url"), token) || got.text("request_body") != `{"msgtype":"text"}` {
		t.Errorf("request %v", got)
	}
	w.wantCode("somebody else asks", ask(component), 76002)
	rid = "0-0-0"
	w.wantCode("an unknown rid", ask(token), 76001)
}

func TestCallerWhiteList(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	token, _ := w.authorizer(component, official)
	w.SetAllowIPs("10.0.0.1")
	w.wantCode("the component API", w.tokenFor("x"), 61004)
	if got := w.get("/x?access_token=" + token); got.code() != 40164 || !strings.Contains(got.text("errmsg"), "127.0.0.1") {
		t.Errorf("an account's API: %v", got)
	}
	w.SetAllowIPs("10.0.0.1", "127.0.0.1")
	w.wantCode("once listed", w.get("/x?access_token="+token), 0)
}

func TestHistoryAndCounts(t *testing.T) {
	w := newWorld(t, sandbox.Config{History: 5})
	component := w.componentToken()
	token, _ := w.authorizer(component, official)
	for range 7 {
		w.post("/wxa/anything?a=%41&access_token="+token, `{"x":1}`)
	}
	w.get("/wxa/anything?access_token=junk")
	calls := w.Calls()
	if len(calls) != 5 || w.Count("/wxa/anything") != 8 || w.CountToken("/wxa/anything", token) != 7 {
		t.Errorf("%d calls, count %d, by token %d", len(calls), w.Count("/wxa/anything"), w.CountToken("/wxa/anything", token))
	}
	want := sandbox.Call{
		Method: "POST", Host: "api.weixin.qq.com", Path: "/wxa/anything", RawQuery: "a=%41&access_token=" + token,
		ClientIP: "127.0.0.1", TokenKind: sandbox.KindAuthorizer, TokenAppID: official, TokenGeneration: 1, Status: 200, BodySize: 7,
		BodySHA256: "5041bf1f713df204784353e82f6a4a535931cb64f1f4b4a5aeaffcb720918b22",
	}
	got := calls[3]
	got.Time, got.Header = time.Time{}, nil
	if got.RawQuery != want.RawQuery || got.TokenKind != want.TokenKind || got.TokenGeneration != 1 || got.BodySHA256 != want.BodySHA256 ||
		got.Method != "POST" || got.Host != want.Host || got.TokenAppID != official || got.ClientIP != want.ClientIP || got.BodySize != 7 {
		t.Errorf("noted %+v", got)
	}
	if last := calls[4]; last.TokenKind != sandbox.KindUnknown || last.ErrCode != 40014 {
		t.Errorf("noted %+v", last)
	}
	w.ResetCounts()
	if len(w.Calls()) != 0 || w.Count("/wxa/anything") != 0 {
		t.Error("ResetCounts leaves something")
	}
}

func TestMessages(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	token, _ := w.authorizer(w.componentToken(), official)
	send := "/cgi-bin/message/custom/send?access_token=" + token
	w.wantCode("a text", w.post(send, `{"touser":"o1","msgtype":"text","text":{"content":"你好 <b>"}}`), 0)
	w.wantCode("no touser", w.post(send, `{"msgtype":"text","text":{}}`), 40003)
	w.wantCode("no content", w.post(send, `{"touser":"o1","msgtype":"text"}`), 40008)
	w.wantCode("no JSON", w.post(send, `touser=o1`), 47001)
	w.wantCode("an array", w.post(send, `[]`), 47001)
	template := w.post("/cgi-bin/message/template/send?access_token="+token, `{"touser":"o2","template_id":"t","data":{}}`)
	if template["msgid"] == nil {
		t.Errorf("template %v", template)
	}
	w.wantCode("no template", w.post("/cgi-bin/message/template/send?access_token="+token, `{"touser":"o2"}`), 40037)
	sent := w.SentMessages()
	if len(sent) != 2 || sent[0].ToUser != "o1" || sent[0].AppID != official || !strings.Contains(string(sent[0].Body), "你好 <b>") || sent[1].MsgType != "template" {
		t.Errorf("sent %+v", sent)
	}
}

func TestBusinessAPIs(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	token, _ := w.authorizer(component, mini)
	at := func(path string) string { return path + "?access_token=" + token }
	w.wantCode("no menu yet", w.get(at("/cgi-bin/menu/get")), 46003)
	w.wantCode("a menu without buttons", w.post(at("/cgi-bin/menu/create"), `{}`), 40016)
	w.wantCode("a menu", w.post(at("/cgi-bin/menu/create"), `{"button":[{"name":"菜单"}]}`), 0)
	if _, body := w.do("GET", at("/cgi-bin/menu/get"), ""); !strings.Contains(body, "菜单") {
		t.Errorf("menu %s", body)
	}
	w.wantCode("its end", w.get(at("/cgi-bin/menu/delete")), 0)
	w.wantCode("no menu any more", w.get(at("/cgi-bin/menu/get")), 46003)

	for target, field := range map[string]string{
		at("/cgi-bin/user/get"):                         "data",
		at("/cgi-bin/user/info") + "&openid=o":          "subscribe",
		at("/cgi-bin/ticket/getticket") + "&type=jsapi": "ticket",
		at("/cgi-bin/get_api_domain_ip"):                "ip_list",
		ipPath + component:                              "ip_list",
	} {
		if got := w.get(target); got[field] == nil {
			t.Errorf("%s: %v", target, got)
		}
	}
	if got := w.post(at("/wxa/msg_sec_check"), `{"content":"x"}`); got.in("result").text("suggest") != "pass" {
		t.Errorf("msg_sec_check %v", got)
	}
	if got := w.post(at("/datacube/getusersummary"), `{"begin_date":"2026-01-01","end_date":"2026-01-02"}`); got["list"] == nil {
		t.Errorf("datacube %v", got)
	}
	w.wantCode("datacube without dates", w.post(at("/datacube/getusersummary"), `{}`), 61501)

	response, picture := w.do("POST", at("/wxa/getwxacodeunlimit"), `{"scene":"a=1"}`)
	if _, err := jpeg.Decode(strings.NewReader(picture)); err != nil || response.Header.Get("Content-Type") != "image/jpeg" {
		t.Errorf("picture: %v, %v", err, response.Header)
	}
	w.wantCode("a picture of nothing", w.post(at("/wxa/getwxacodeunlimit"), `{}`), 40169)
	w.wantCode("a picture of no path", w.post(at("/wxa/getwxacode"), `{}`), 40159)
}

func TestConcurrentUse(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	_, refresh := w.authorizer(component, official)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				w.component("api_authorizer_token", component, "authorizer_appid", official, "authorizer_refresh_token", refresh)
				_ = w.PushTicket(t.Context())
				w.ExpireTokens(official)
				w.get("/_sandbox/")
				w.Inject(sandbox.Fault{Path: "/none", Times: 1})
				w.Calls()
			}
		})
	}
	group.Wait()
	if got := w.Count("/cgi-bin/component/api_authorizer_token"); got != 160 {
		t.Errorf("%d calls counted", got)
	}
}
