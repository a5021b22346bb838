// SPDX-License-Identifier: Apache-2.0

package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

const preAuthPath = "/cgi-bin/component/api_create_preauthcode"

// Where scripts are turned off, the link leads on; WeChat is shown where it stands.
func TestLinkLeadsOnWithoutScript(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{Component: "display_name 示例科技"})
	for _, language := range []string{"zh-CN", "en"} {
		b := open(t, "", language)
		b.visit(g.Platform + "/wechat/authorize")
		b.begin()
		b.wantFits("the page that goes on")
		b.picture("leave-" + language)
		b.click("#authorize", account(gwtest.MiniProgram))
		b.click(account(gwtest.MiniProgram), "#appid")
		b.wantQuiet()
	}
}

// From WeChat's page one goes back to the launch page, and not to one that asks
// whether a form is to be sent again.
func TestBackFromWeChatLeadsToTheLaunchPage(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	b := open(t, "", "en")
	b.visit(g.Platform + "/wechat/authorize")
	b.click("#begin", account(gwtest.MiniProgram))
	b.do(chromedp.NavigateBack(), chromedp.WaitVisible("#begin", chromedp.ByQuery))
	b.click("#begin", account(gwtest.MiniProgram))
	b.wantQuiet()
}

// A phone outside WeChat cannot scan its own screen: it copies the address. Without
// https the browser has no navigator.clipboard.
func TestPhoneOutsideWeChatCopiesTheAddress(t *testing.T) {
	for name, host := range map[string]string{"with navigator.clipboard": "127.0.0.1", "without": "open.example.test"} {
		t.Run(name, func(t *testing.T) {
			g := gwtest.StartUnauthorized(t, gwtest.Options{Component: "display_name 示例科技"})
			b := open(t, android, "zh-CN")
			b.becomePhone()
			address := strings.Replace(g.Platform, "127.0.0.1", host, 1) + "/wechat/authorize?auth_type=1&state=" + url.QueryEscape("订单 42")
			b.visit(address)
			var figures int
			b.do(count("figure", &figures))
			if figures != 0 {
				t.Error("the page shows a QR code to the phone that it is on")
			}
			if shown := b.text("#address"); shown != address {
				t.Errorf("the page shows %s, want %s", shown, address)
			}
			b.do(chromedp.Click("#copy", chromedp.ByQuery))
			b.do(chromedp.Poll(`document.querySelector("#copy").textContent == "已复制，请到微信中粘贴"`, nil))
			b.wantQuiet()
			if pasted := b.paste(); pasted != address {
				t.Errorf("the clipboard has %q, want %s", pasted, address)
			}
		})
	}
}

// paste returns what is in the clipboard. It leaves the page.
func (b *browser) paste() (text string) {
	b.t.Helper()
	b.do(chromedp.Navigate("data:text/html,<textarea autofocus></textarea>"), chromedp.Focus("textarea", chromedp.ByQuery),
		input.DispatchKeyEvent(input.KeyDown).WithCommands([]string{"paste"}), chromedp.Value("textarea", &text, chromedp.ByQuery))
	return text
}

// On a phone outside WeChat the way over WeChat's QR code is open as well.
func TestPhoneOutsideWeChatGoesOn(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{Component: "display_name 示例科技"})
	for _, language := range []string{"zh-CN", "en"} {
		b := open(t, android, language)
		b.becomePhone()
		b.visit(g.Platform + "/wechat/authorize?auth_type=3&biz_appid=" + gwtest.MiniProgram)
		b.wantFits("the launch page")
		b.picture("launch-phone-" + language)
		b.becomePhone()
		b.click("#begin", account(gwtest.MiniProgram))
		b.click(account(gwtest.MiniProgram), "#appid")
		b.wantQuiet()
	}
}

// The pages fit the smallest phones, and a window as narrow, whatever the operator
// and the visitor write.
func TestPagesFitNarrowScreens(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{Component: "display_name " + strings.Repeat("W", 64)})
	query := "?state=" + strings.Repeat("s", 500)
	for _, agent := range []string{"", android, insideWeChat} {
		for _, language := range []string{"zh-CN", "en"} {
			b := open(t, agent, language)
			for page, query := range map[string]string{"the launch page": query, "a refusal": "?auth_type=7"} {
				b.visit(g.Platform + "/wechat/authorize" + query)
				b.wantFits(fmt.Sprintf("%s, in %s, for %q,", page, language, agent))
			}
		}
	}
	b := open(t, android, "en")
	b.visit(g.Platform + "/wechat/authorize" + query)
	b.begin()
	b.wantFits("the page that goes on")
	b.click("#authorize", account(gwtest.MiniProgram))
	b.click(account(gwtest.MiniProgram), "#appid")
	b.wantFits("the result page")
	b.wantQuiet()
}

// A refusal says when to try again, and leads back.
func TestRefusalLeadsBack(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	for range 6 {
		gwtest.NewBrowser(t).Launch(g, "")
	}
	for language, words := range map[string]string{"zh-CN": "秒后再试", "en": "Try again in "} {
		b := open(t, "", language)
		b.visit(g.Platform + "/wechat/authorize?auth_type=2")
		b.click("#begin", "#again")
		if text := b.text("main"); !strings.Contains(text, words) {
			t.Errorf("the refusal reads %q", text)
		}
		b.wantFits("the refusal")
		b.picture("busy-" + language)
		b.click("#again", "#begin")
		var address string
		b.do(chromedp.Location(&address))
		if address != g.Platform+"/wechat/authorize?auth_type=2" {
			t.Errorf("it leads back to %s", address)
		}
	}
}

// A form of another site, sent by a browser, gets the launch page: nobody has pressed
// our button, which then works as ever.
func TestFormOfAnotherSiteGetsTheLaunchPage(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<link rel="icon" href="data:,"><form method="post" action="%s/wechat/authorize"><button id="lure">x</button></form>`, g.Platform)
	}))
	defer stranger.Close()
	b := open(t, "", "en")
	b.visit(strings.Replace(stranger.URL, "127.0.0.1", "localhost", 1))
	b.click("#lure", "#begin")
	if n := g.WeChat.Count(preAuthPath); n != 0 {
		t.Errorf("%d pre_auth_codes were spent", n)
	}
	b.click("#begin", account(gwtest.MiniProgram))
	b.wantQuiet()
}
