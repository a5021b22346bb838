// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"net/http"
	"net/url"
	"regexp"
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

// WeChat must be shown where the pages stand, and nobody else what is in them. The
// state and its cookie are made when the button is pressed, not by a view of the
// page.
func TestPageHeaders(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	b := gwtest.NewBrowser(t)
	view, page := b.Get(g.LaunchURL(""), "")
	press, next := b.Press(g.LaunchURL(""))
	nonce := regexp.MustCompile(`<script nonce="([^"]{26})">`)
	for name, answer := range map[string]*http.Response{"launch page": view, "page after it": press} {
		for header, want := range map[string]string{
			"Cache-Control":          "no-store",
			"Referrer-Policy":        "strict-origin-when-cross-origin",
			"X-Robots-Tag":           "noindex, nofollow",
			"X-Content-Type-Options": "nosniff",
			"Location":               "",
		} {
			if got := answer.Header.Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s, want 200", name, answer.Status)
		}
	}
	policy := regexp.MustCompile(`^default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'nonce-(.{26})'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'$`)
	permitted, script := policy.FindStringSubmatch(press.Header.Get("Content-Security-Policy")), nonce.FindStringSubmatch(next)
	if permitted == nil || script == nil || permitted[1] != script[1] || strings.Count(next, "<script") != 1 {
		t.Errorf("Content-Security-Policy is %q, the script begins %q", press.Header.Get("Content-Security-Policy"), script)
	}
	if other := policy.FindStringSubmatch(view.Header.Get("Content-Security-Policy")); other == nil || permitted != nil && other[1] == permitted[1] {
		t.Errorf("Content-Security-Policy of the launch page is %q", view.Header.Get("Content-Security-Policy"))
	}
	if !strings.Contains(page, "data:image/png;base64,") || gwtest.LaunchLink(page) != "" {
		t.Error("no QR code on a desktop, or a link before the button is pressed")
	}
	if cookie := view.Header.Get("Set-Cookie"); cookie != "" {
		t.Errorf("a view of the page sets the cookie %q", cookie)
	}
	if cookie := press.Header.Get("Set-Cookie"); !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Lax") {
		t.Errorf("Set-Cookie is %q", cookie)
	}
}

func TestPagesTakeTheirMethodsOnly(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	for _, row := range []struct{ method, path, allow string }{
		{http.MethodPut, "/wechat/authorize", "GET, POST"},
		{http.MethodDelete, "/wechat/authorize", "GET, POST"},
		{http.MethodPost, "/wechat/authorize/callback", "GET"},
	} {
		response, _ := gwtest.NewBrowser(t).Send(row.method, g.Platform+row.path, http.Header{})
		if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != row.allow {
			t.Errorf("%s %s: %s, Allow %q", row.method, row.path, response.Status, response.Header.Get("Allow"))
		}
	}
}

// An admin must know to whom he grants.
func TestPagesNameThePlatform(t *testing.T) {
	for option, names := range map[string]struct{ english, chinese string }{
		"":                         {"the platform", "第三方平台"},
		`display_name "示例 & Sons"`: {"示例 &amp; Sons", "示例 &amp; Sons"},
	} {
		g := gwtest.StartUnauthorized(t, gwtest.Options{Component: option})
		b := gwtest.NewBrowser(t)
		if _, page := b.Get(g.LaunchURL(""), ""); !strings.Contains(page, "<h1>Authorize "+names.english+"</h1>") {
			t.Errorf("%q: the launch page is %s", option, page)
		}
		if _, page := b.Get(b.Agree(g, b.Launch(g, ""), gwtest.MiniProgram), ""); !strings.Contains(page, "has authorized "+names.english+".") {
			t.Errorf("%q: the result page is %s", option, page)
		}
		b.Language = "zh"
		if _, page := b.Get(g.LaunchURL(""), ""); !strings.Contains(page, "<h1>授权给"+names.chinese+"</h1>") {
			t.Errorf("%q: the launch page is %s", option, page)
		}
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
			address := g.LaunchURL(strings.ReplaceAll(query, `\`, "%5C"))
			if response, page := gwtest.NewBrowser(t).Get(address, ""); response.StatusCode != http.StatusBadRequest || strings.Contains(page, "<form") {
				t.Errorf("answer to GET %s", response.Status)
			}
			if response, page := gwtest.NewBrowser(t).Press(address); response.StatusCode != http.StatusBadRequest || gwtest.LaunchLink(page) != "" {
				t.Errorf("answer to POST %s", response.Status)
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
		} else if !strings.Contains(page, "<p>The authorization code is missing, spent or expired. Start again.</p>") {
			t.Errorf("code %.30q: the page says something else, or something after the full stop\n%s", code, page)
		}
	}
}

func TestLaunchPageWithoutTicketSaysTryLater(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{Quiet: true, API: []string{"http://127.0.0.1:1"}}) // nor can WeChat be asked for one
	response, page := gwtest.NewBrowser(t).Press(g.LaunchURL("auth_type=1"))
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != "60" || !strings.Contains(page, "Try again in 60 seconds") {
		t.Errorf("answer %s\n%s", response.Status, page)
	}
	if !strings.Contains(page, `href="`+g.LaunchURL("auth_type=1")+`">Start again`) {
		t.Errorf("the page is a dead end\n%s", page)
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

// Behind a proxy that ends TLS the browser still talks https: no other host of
// the domain may plant the cookie that binds the state to the browser.
func TestCookieCannotBePlantedOverHTTPS(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{Platform: "public_url https://open.example.com"})
	response, _ := gwtest.NewBrowser(t).Press(g.LaunchURL(""))
	cookie := response.Header.Get("Set-Cookie")
	if !strings.HasPrefix(cookie, "__Host-") || !strings.Contains(cookie, "Secure") || strings.Contains(cookie, "Domain") {
		t.Errorf("Set-Cookie is %q", cookie)
	}
}
