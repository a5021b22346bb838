// SPDX-License-Identifier: Apache-2.0

package browser_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

func TestAdminAuthorizes(t *testing.T) {
	for _, language := range []struct{ name, title, done string }{
		{"zh-CN", "授权给示例科技", "授权成功"},
		{"en", "Authorize 示例科技", "Authorized"},
	} {
		t.Run(language.name, func(t *testing.T) {
			g := gwtest.StartUnauthorized(t, gwtest.Options{Component: "display_name 示例科技"})
			b := open(t, "", language.name)
			b.visit(g.Platform + "/wechat/authorize")
			if title := b.text("h1"); title != language.title {
				t.Errorf("the launch page is titled %q, want %q", title, language.title)
			}
			b.text("figure figcaption") // the QR code for phones
			b.picture("launch-" + language.name)
			b.click("#begin", account(gwtest.OfficialAccount))
			b.click(account(gwtest.OfficialAccount), "#appid")
			if title := b.text("h1"); title != language.done {
				t.Errorf("the result page is titled %q, want %q", title, language.done)
			}
			if appid := b.text("#appid"); appid != gwtest.OfficialAccount {
				t.Errorf("the result page shows %q, want %s", appid, gwtest.OfficialAccount)
			}
			b.picture("done-" + language.name)
			b.wantQuiet()
			g.Token(gwtest.OfficialAccount)
		})
	}
}

// WeChat's page wants to see the launch domain in the Referer. That the other
// tests get past it means nothing unless it refuses those who come without.
func TestLinkWithoutRefererIsRefused(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	b := open(t, "", "zh-CN")
	b.visit(g.Platform + "/wechat/authorize")
	link := b.begin().String()
	b.visit("about:blank")
	b.visit(link)
	if text := b.text(".error"); !strings.Contains(text, "授权入口页所在域名：空") {
		t.Errorf("WeChat's page shows %q, want its refusal", text)
	}
}

func TestReturnURLGetsAppIDAndState(t *testing.T) {
	var mu sync.Mutex
	var came []*http.Request
	console := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		came = append(came, r)
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<link rel="icon" href="data:,"><p id="console">console</p>`))
	}))
	defer console.Close()
	g := gwtest.StartUnauthorized(t, gwtest.Options{Component: "return_url " + console.URL + "/console/*"})
	b := open(t, "", "en")
	const state = "订单 42&x=1"
	b.visit(g.Platform + "/wechat/authorize?" + url.Values{"return_url": {console.URL + "/console/back?tab=1"}, "state": {state}}.Encode())
	b.click("#begin", account(gwtest.MiniProgram))
	b.click(account(gwtest.MiniProgram), "#console")

	mu.Lock()
	defer mu.Unlock()
	if len(came) != 1 {
		t.Fatalf("the console was visited %d times, want once", len(came))
	}
	want := url.Values{"tab": {"1"}, "appid": {gwtest.MiniProgram}, "state": {state}}
	if got := came[0].URL; got.Path != "/console/back" || got.Query().Encode() != want.Encode() {
		t.Errorf("the console was visited as %s, want /console/back?%s", got, want.Encode())
	}
	if referer := came[0].Referer(); strings.Contains(referer, "auth_code") || strings.Contains(referer, "pre_auth_code") {
		t.Errorf("the Referer tells the console %s", referer)
	}
	b.wantQuiet()
}

func TestInsideWeChat(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	b := open(t, insideWeChat, "zh-CN")
	b.visit(g.Platform + "/wechat/authorize")
	var figures int
	b.do(count("figure, #address", &figures))
	if figures != 0 {
		t.Error("the page shows a QR code, or its address, to the phone that is in WeChat already")
	}
	b.picture("launch-wechat")
	link := b.begin()
	query := link.Query()
	if link.Path != "/wxaopen/safe/bindcomponent" || link.Fragment != "wechat_redirect" ||
		query.Get("action") != "bindcomponent" || query.Get("no_scan") != "1" {
		t.Errorf("the link is %s, want the form for the browser inside WeChat", link)
	}
	b.visit(g.Platform + "/wechat/authorize")
	b.click("#begin", account(gwtest.MiniProgram))
	b.click(account(gwtest.MiniProgram), "#appid")
	if appid := b.text("#appid"); appid != gwtest.MiniProgram {
		t.Errorf("the result page shows %q, want %s", appid, gwtest.MiniProgram)
	}
	b.wantQuiet()
}

// An admin who is made to follow somebody else's callback link would grant his
// account to the wrong flow: the state belongs to the browser it was made for.
func TestCallbackInAnotherBrowserIsRefused(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	first := open(t, "", "en")
	first.visit(g.Platform + "/wechat/authorize")
	callback := first.begin().Query().Get("redirect_uri") + "&auth_code=stolen&expires_in=600"

	second := open(t, "", "en")
	second.visit(callback)
	if text := second.text("main"); !strings.Contains(text, "another browser") {
		t.Errorf("the callback shows %q, want a refusal", text)
	}
	second.picture("problem")
	if n := g.WeChat.Count("/cgi-bin/component/api_query_auth"); n != 0 {
		t.Errorf("the gateway tried the code %d times, want never", n)
	}
}
