// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Every endpoint that takes a component_appid wants its own, and a proper body.
func TestEveryComponentEndpointChecksItsBody(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	token := w.componentToken()
	for _, endpoint := range []string{
		"api_component_token", "api_start_push_ticket", "clear_quota/v2", "api_create_preauthcode",
		"api_query_auth", "api_authorizer_token", "api_get_authorizer_info", "api_get_authorizer_list",
	} {
		for body, code := range map[string]int{
			``:                       44002,
			`component_appid=wx`:     47001,
			`{}`:                     41018,
			`{"component_appid":""}`: 41018,
			`{"component_appid":"wx0000000000000000"}`: 40013,
			`{"component_appid":7}`:                    47001,
		} {
			w.wantCode(endpoint+" with "+body, w.post("/cgi-bin/component/"+endpoint+"?access_token="+token, body), code)
		}
	}
}

// Every endpoint that needs a component token says so in the same way.
func TestEveryComponentEndpointChecksItsToken(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	authorizer, _ := w.authorizer(w.componentToken(), official)
	for _, endpoint := range []string{
		"api_create_preauthcode", "api_query_auth", "api_authorizer_token", "api_get_authorizer_info",
		"api_get_authorizer_list", "api_get_authorizer_option", "api_set_authorizer_option",
	} {
		for token, code := range map[string]int{"": 41001, "junk": 40014, authorizer: 61014} {
			for _, name := range []string{"access_token", "component_access_token"} {
				w.wantCode(endpoint+" by "+name, w.post("/cgi-bin/component/"+endpoint+"?"+name+"="+token, "{}"), code)
			}
		}
	}
}

func TestRefusalsOfSmallEndpoints(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	token, _ := w.authorizer(component, official)
	for _, row := range []struct {
		what, method, target, token, body string
		code                              int
	}{
		{"a follower without openid", "GET", "/cgi-bin/user/info?access_token=", token, "", 40003},
		{"a template message without touser", "POST", "/cgi-bin/message/template/send?access_token=", token, `{"template_id":"t"}`, 40003},
		{"a template message that is a list", "POST", "/cgi-bin/message/template/send?access_token=", token, `[]`, 47001},
		{"a check of nothing", "POST", "/wxa/msg_sec_check?access_token=", token, `{}`, 44004},
		{"a picture from no JSON", "POST", "/wxa/getwxacodeunlimit?access_token=", token, `scene`, 47001},
		{"an image that is no file", "POST", "/cgi-bin/media/uploadimg?access_token=", token, `{}`, 41005},
		{"a quota of no path", "POST", "/cgi-bin/openapi/quota/get?access_token=", token, `{"cgi_path":"menu"}`, 76003},
		{"a rid that is empty", "POST", "/cgi-bin/openapi/rid/get?access_token=", token, `{"rid":""}`, 76001},
		{"an option of a stranger", "POST", "/cgi-bin/component/api_get_authorizer_option?access_token=", component, `{"authorizer_appid":"wx0000000000000000"}`, 61003},
		{"an option of another component", "POST", "/cgi-bin/component/api_get_authorizer_option?access_token=", component, `{"component_appid":"wx0000000000000000"}`, 40013},
		{"clearing a stranger's quota", "POST", "/cgi-bin/component/clear_quota/v2?x=", "",
			`{"component_appid":"` + sandbox.DefaultComponent + `","appsecret":"` + sandbox.DefaultAppSecret + `","appid":"wx0000000000000000"}`, 61003},
		{"a login at another component", "GET", "/sns/component/jscode2session?component_appid=wx0000000000000000&component_access_token=", component, "", 40013},
		{"the details of another user", "GET", "/sns/userinfo?openid=o&access_token=", userToken(w, component), "", 40003},
	} {
		w.wantCode(row.what, w.json(row.method, row.target+row.token, row.body), row.code)
	}
	_, next := w.do("GET", "/cgi-bin/user/get?next_openid=o&access_token="+token, "")
	if !strings.Contains(next, `"count":0`) {
		t.Errorf("the second page of followers: %s", next)
	}
}

func TestLeversOnNothingFail(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	for what, pull := range map[string]func() error{
		"updating what is not authorised":          func() error { _, err := w.UpdateAuthorized(t.Context(), official); return err },
		"pushing an authorisation that never was":  func() error { return w.PushAuthorized(t.Context(), official) },
		"rotating the token of a stranger":         func() error { _, err := w.RotateToken("wx0000000000000000"); return err },
		"rotating a refresh token that is not yet": func() error { _, err := w.RotateRefreshToken(official); return err },
		"push keys WeChat would not take":          func() error { return w.RotatePushKeys("no!", "") },
	} {
		if err := pull(); err == nil {
			t.Errorf("%s succeeds", what)
		}
	}
	if len(w.receiver.all()) != 0 {
		t.Error("something was pushed")
	}
}

// ValidToken is the model other tests compare a gateway with, so it must itself
// agree with what the API accepts, whatever happens in whatever order.
func TestValidTokenAgreesWithTheAPI(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, sandbox.Config{})
			chance := rand.New(rand.NewPCG(seed, 1))
			steps := []func(){
				func() { w.componentToken() },
				func() { w.authorizer(w.componentToken(), official) },
				func() { _, _ = w.RotateToken(official) },
				func() { _, _ = w.RotateToken(sandbox.DefaultComponent) },
				func() { w.ExpireTokens(official) },
				func() { w.KillTokens("") },
				func() { _ = w.Revoke(t.Context(), official) },
				func() { _, _ = w.RotateRefreshToken(official) },
				func() { time.Sleep(time.Duration(chance.IntN(3)) * time.Hour) },
				func() { w.AdvanceClock(7 * time.Hour) },
			}
			for range 60 {
				steps[chance.IntN(len(steps))]()
				checkModel(w)
			}
		})
		if t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
	}
}

func checkModel(w *world) {
	w.t.Helper()
	component, authorizer := w.ValidToken(sandbox.KindComponent, ""), w.ValidToken(sandbox.KindAuthorizer, official)
	if component != "" {
		w.wantCode("the valid component token", w.get(ipPath+component), 0)
	}
	if authorizer != "" {
		w.wantCode("the valid authorizer token", w.get("/x?access_token="+authorizer), 0)
	}
	ticket := w.ValidToken(sandbox.KindTicket, "")
	if ticket == "" {
		return
	}
	fresh := w.tokenFor(ticket)
	w.wantCode("the valid ticket", fresh, 0)
	if refresh := w.ValidToken(sandbox.KindRefresh, official); refresh != "" {
		renewed := w.component("api_authorizer_token", fresh.text("component_access_token"), "authorizer_appid", official, "authorizer_refresh_token", refresh)
		w.wantCode("the valid refresh token", renewed, 0)
		if renewed.text("authorizer_access_token") != w.ValidToken(sandbox.KindAuthorizer, official) {
			w.t.Error("a renewed token is not the valid one")
		}
	}
}
