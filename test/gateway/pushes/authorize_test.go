// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

func TestAdminAuthorizes(t *testing.T) {
	for name, switches := range map[string]sandbox.Switches{
		"push and redirect carry the same code":   {},
		"push and redirect carry different codes": {DifferentCodes: true},
		"no event is pushed":                      {NoAuthorizedPush: true},
	} {
		t.Run(name, func(t *testing.T) {
			g := gwtest.StartUnauthorized(t, gwtest.Options{Sandbox: sandbox.Config{Switches: switches}})
			b := gwtest.NewBrowser(t)
			back := b.Agree(g, b.Launch(g, "auth_type=1"), gwtest.OfficialAccount)
			response, page := b.Get(back, "")
			if response.StatusCode != http.StatusOK || !strings.Contains(page, gwtest.OfficialAccount) {
				t.Fatalf("result page: %s\n%s\n%s", response.Status, page, g.Logs())
			}
			g.WantSuccess(t, gwtest.OfficialAccount)
		})
	}
}

// The browser may come back twice, and the event may come before, after, or
// again: the result is the same, and the code is exchanged once.
func TestRepeatedCallbackShowsTheSameResult(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	b := gwtest.NewBrowser(t)
	back := b.Agree(g, b.Launch(g, ""), gwtest.MiniProgram)
	for range 3 {
		if response, page := b.Get(back, ""); response.StatusCode != http.StatusOK || !strings.Contains(page, gwtest.MiniProgram) {
			t.Fatalf("result page: %s\n%s", response.Status, page)
		}
	}
	if err := g.WeChat.PushAuthorized(t.Context(), gwtest.MiniProgram); err != nil {
		t.Error(err)
	}
	g.WantSuccess(t, gwtest.MiniProgram)
	if n := g.WeChat.Count("/cgi-bin/component/api_query_auth"); n != 1 {
		t.Errorf("%d api_query_auth calls, want 1", n)
	}
}

func TestLaunchPageLinksToTheRightPage(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	desktop, inside := gwtest.NewBrowser(t), gwtest.NewBrowser(t)
	inside.UserAgent += " MicroMessenger/8.0"

	link := desktop.Launch(g, "auth_type=2&biz_appid="+gwtest.MiniProgram+"&category_id_list=17|18")
	if link.Path != "/cgi-bin/componentloginpage" {
		t.Errorf("desktop link leads to %s", link.Path)
	}
	for name, want := range map[string]string{
		"component_appid": g.WeChat.Component(), "auth_type": "2", "biz_appid": gwtest.MiniProgram, "category_id_list": "17|18",
	} {
		if got := link.Query().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	link = inside.Launch(g, "")
	if link.Path != "/wxaopen/safe/bindcomponent" || link.Fragment != "wechat_redirect" ||
		link.Query().Get("action") != "bindcomponent" || link.Query().Get("no_scan") != "1" {
		t.Errorf("link inside WeChat is %s", link)
	}
}

// The page carries a code and must show WeChat where it stands.
func TestLaunchPageHeaders(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	response, page := gwtest.NewBrowser(t).Get(g.LaunchURL(""), "")
	for name, want := range map[string]string{
		"Cache-Control":           "no-store",
		"Referrer-Policy":         "strict-origin-when-cross-origin",
		"X-Robots-Tag":            "noindex, nofollow",
		"X-Content-Type-Options":  "nosniff",
		"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
	} {
		if got := response.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if !strings.Contains(page, "data:image/png;base64,") {
		t.Error("no QR code on a desktop")
	}
	if cookie := response.Header.Get("Set-Cookie"); !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Lax") {
		t.Errorf("Set-Cookie is %q", cookie)
	}
}

func TestPagesSpeakChineseAndEnglish(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	for accepted, want := range map[string]string{
		"zh-CN,zh;q=0.9,en;q=0.8": "前往微信授权", "en-GB,en;q=0.9": "Continue to WeChat", "": "前往微信授权", "fr": "Continue to WeChat",
	} {
		b := gwtest.NewBrowser(t)
		b.Language = accepted
		if _, page := b.Get(g.LaunchURL(""), ""); !strings.Contains(page, want) {
			t.Errorf("a browser that accepts %q is not shown %q", accepted, want)
		}
	}
}

func TestLaunchRefusesWrongParameters(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{Component: "return_url https://console.example.com/done/*\nreturn_url https://exact.example.com/a"})
	for name, query := range map[string]string{
		"another component":            "component=wxffffffffffffffff",
		"auth_type 7":                  "auth_type=7",
		"auth_type in words":           "auth_type=all",
		"a bad biz_appid":              "biz_appid=wx1",
		"a bad category list":          "category_id_list=1,2",
		"a return_url not listed":      "return_url=https://evil.example.com/done/",
		"a return_url with userinfo":   "return_url=https://console.example.com@evil.example.com/done/",
		"a return_url with backslash":  `return_url=https://console.example.com\@evil.example.com/done/`,
		"a return_url that climbs":     "return_url=https://console.example.com/done/../other",
		"a return_url by another host": "return_url=https://console.example.com.evil.example.com/done/",
		"a return_url in plain http":   "return_url=http://console.example.com/done/x",
		"a return_url beside":          "return_url=https://console.example.com/other",
		"a return_url that goes on":    "return_url=https://exact.example.com/ab",
		"a relative return_url":        "return_url=//evil.example.com/",
		"a javascript return_url":      "return_url=javascript:alert(1)",
		"a state too long":             "state=" + strings.Repeat("s", 513),
	} {
		t.Run(name, func(t *testing.T) {
			response, page := gwtest.NewBrowser(t).Get(g.LaunchURL(strings.ReplaceAll(query, `\`, "%5C")), "")
			if response.StatusCode != http.StatusBadRequest || gwtest.LaunchLink(page) != "" {
				t.Errorf("answer %s", response.Status)
			}
		})
	}
	if n := g.WeChat.Count("/cgi-bin/component/api_create_preauthcode"); n != 0 {
		t.Errorf("%d pre_auth_codes were spent", n)
	}
}

func TestAdminIsSentToTheReturnURL(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{Component: "return_url https://console.example.com/done/*"})
	b := gwtest.NewBrowser(t)
	link := b.Launch(g, "return_url="+url.QueryEscape("https://console.example.com/done/x?y=1")+"&state="+url.QueryEscape("a&b=c"))
	response, _ := b.Get(b.Agree(g, link, gwtest.OfficialAccount), "")
	want := "https://console.example.com/done/x?y=1&appid=" + gwtest.OfficialAccount + "&state=a%26b%3Dc"
	if got := response.Header.Get("Location"); response.StatusCode != http.StatusSeeOther || got != want {
		t.Errorf("sent to %q (%s), want %q", got, response.Status, want)
	}
}

// An attacker who began an authorisation of his own must not be able to make
// an admin finish it, nor the other way round.
func TestCallbackRefusesForeignState(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	attacker, admin := gwtest.NewBrowser(t), gwtest.NewBrowser(t)
	back := attacker.Agree(g, attacker.Launch(g, ""), gwtest.OfficialAccount)
	before := g.WeChat.Count("/cgi-bin/component/api_query_auth")
	admin.Launch(g, "") // the admin's browser has a cookie, of its own
	state := func(change func(string) string) string {
		u, _ := url.Parse(back)
		q := u.Query()
		q.Set("state", change(q.Get("state")))
		u.RawQuery = q.Encode()
		return u.String()
	}
	for name, visit := range map[string]struct {
		who     *gwtest.Browser
		address string
	}{
		"in another browser":          {admin, back},
		"in a browser without cookie": {gwtest.NewBrowser(t), back},
		"with a changed state":        {attacker, state(func(s string) string { return "x" + s })},
		"with a changed signature":    {attacker, state(func(s string) string { return s[:len(s)-2] + "AA" })},
		"without state":               {attacker, state(func(string) string { return "" })},
	} {
		if response, _ := visit.who.Get(visit.address, ""); response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s, want 400", name, response.Status)
		}
	}
	if n := g.WeChat.Count("/cgi-bin/component/api_query_auth"); n > before+1 { // the event's own exchange
		t.Errorf("%d codes were exchanged", n-before)
	}
}

func TestCallbackWithWrongCodeSaysSo(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	b := gwtest.NewBrowser(t)
	back := b.Launch(g, "").Query().Get("redirect_uri")
	for _, code := range []string{"", "&auth_code=", "&auth_code=queryauthcode@@@made-up", "&auth_code=" + strings.Repeat("c", 600)} {
		if response, page := b.Get(back+code, ""); response.StatusCode != http.StatusBadRequest || !strings.Contains(page, `href="`+g.Platform+`/wechat/authorize?component=`+g.WeChat.Component()+`">Start again`) {
			t.Errorf("code %.30q: %s", code, response.Status)
		}
	}
}

// The page is public and every visit spends a code of WeChat's quota.
func TestLaunchPageIsRationed(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	refused := 0
	for range 75 {
		response, _ := gwtest.NewBrowser(t).Get(g.LaunchURL(""), "")
		if response.StatusCode == http.StatusTooManyRequests {
			refused++
			if response.Header.Get("Retry-After") == "" {
				t.Error("a refusal does not say when to try again")
			}
		}
	}
	if spent := g.WeChat.Count("/cgi-bin/component/api_create_preauthcode"); refused == 0 || spent+refused != 75 {
		t.Errorf("%d codes spent, %d visits refused", spent, refused)
	}
}

func TestRobotsSpendNoCode(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	for _, agent := range []string{"Mozilla/5.0 (compatible; Googlebot/2.1)", "Baiduspider", "Slackbot-LinkExpanding 1.0", "facebookexternalhit/1.1"} {
		b := gwtest.NewBrowser(t)
		b.UserAgent = agent
		if response, _ := b.Get(g.LaunchURL(""), ""); response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s, want 403", agent, response.Status)
		}
	}
	response, err := http.Head(g.LaunchURL(""))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if n := g.WeChat.Count("/cgi-bin/component/api_create_preauthcode"); n != 0 {
		t.Errorf("%d pre_auth_codes were spent", n)
	}
}

func TestLaunchPageWithoutTicketSaysTryLater(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{Quiet: true, API: []string{"http://127.0.0.1:1"}}) // nor can WeChat be asked for one
	response, page := gwtest.NewBrowser(t).Get(g.LaunchURL(""), "")
	if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(page, "Try again in a minute") {
		t.Errorf("answer %s\n%s", response.Status, page)
	}
}

// Behind another proxy the browser sees another host than we do.
func TestPublicURLIsWhereTheBrowserComesBack(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{Platform: "public_url https://open.example.com"})
	back := gwtest.NewBrowser(t).Launch(g, "").Query().Get("redirect_uri")
	if !strings.HasPrefix(back, "https://open.example.com/wechat/authorize/callback?state=") {
		t.Errorf("redirect_uri is %s", back)
	}
}

// A return_url may not bring an appid of its own: the application would read
// that one and not the one that has authorized.
func TestReturnURLCannotBringAnAppIDOfItsOwn(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{Component: "return_url https://console.example.com/*"})
	b := gwtest.NewBrowser(t)
	link := b.Launch(g, "state=mine&return_url="+url.QueryEscape("https://console.example.com/?appid=wxffffffffffffffff&a=1&state=x"))
	response, _ := b.Get(b.Agree(g, link, gwtest.OfficialAccount), "")
	want := "https://console.example.com/?a=1&appid=" + gwtest.OfficialAccount + "&state=mine"
	if got := response.Header.Get("Location"); got != want {
		t.Errorf("sent to %q, want %q", got, want)
	}
}

// Somebody who has a valid state makes up codes: WeChat's quota for exchanges
// must not pay for it, or no account could authorise any more.
func TestMadeUpCodesAreRationed(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	b := gwtest.NewBrowser(t)
	back := b.Launch(g, "").Query().Get("redirect_uri")
	for i := range 90 {
		b.Get(back+"&auth_code=queryauthcode@@@made-up"+strings.Repeat("x", i), "")
	}
	if n := g.WeChat.Count("/cgi-bin/component/api_query_auth"); n > 65 {
		t.Errorf("%d questions for 90 made-up codes", n)
	}
}

// Behind a proxy that ends TLS the browser still talks https: no other host of
// the domain may plant the cookie that binds the state to the browser.
func TestCookieCannotBePlantedOverHTTPS(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{Platform: "public_url https://open.example.com"})
	response, _ := gwtest.NewBrowser(t).Get(g.LaunchURL(""), "")
	cookie := response.Header.Get("Set-Cookie")
	if !strings.HasPrefix(cookie, "__Host-") || !strings.Contains(cookie, "Secure") || strings.Contains(cookie, "Domain") {
		t.Errorf("Set-Cookie is %q", cookie)
	}
}
