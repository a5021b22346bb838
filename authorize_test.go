// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// browser is an admin's browser as far as HTTP goes: it keeps cookies and
// sends a Referer. It does not follow redirects.
type browser struct {
	t         *testing.T
	client    *http.Client
	userAgent string
	language  string
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, userAgent: "Mozilla/5.0", language: "en", client: &http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (b *browser) get(address, referer string) (*http.Response, string) {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("User-Agent", b.userAgent)
	r.Header.Set("Accept-Language", b.language)
	if referer != "" {
		r.Header.Set("Referer", referer)
	}
	response, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response, string(body)
}

var (
	launchLink = regexp.MustCompile(`id="authorize"[^>]* href="([^"]+)"`)
	agreeLink  = regexp.MustCompile(`data-appid="([^"]+)" href="([^"]+)"`)
)

func launchURL(g *gwtest.Gateway, query string) string {
	return g.Platform + "/wechat/authorize?" + query
}

// link opens the launch page and returns the address its link leads to.
func (b *browser) link(g *gwtest.Gateway, query string) *url.URL {
	b.t.Helper()
	response, page := b.get(launchURL(g, query), "")
	found := launchLink.FindStringSubmatch(page)
	if response.StatusCode != http.StatusOK || found == nil {
		b.t.Fatalf("launch page: %s\n%s\n%s", response.Status, page, g.Logs())
	}
	link, err := url.Parse(html.UnescapeString(found[1]))
	if err != nil {
		b.t.Fatal(err)
	}
	return link
}

// agree follows the link, chooses the account, and returns the address to
// which WeChat sends the browser back.
func (b *browser) agree(g *gwtest.Gateway, link *url.URL, appid string) string {
	b.t.Helper()
	_, choices := b.get(link.String(), launchURL(g, ""))
	for _, choice := range agreeLink.FindAllStringSubmatch(choices, -1) {
		if choice[1] == appid {
			response, _ := b.get(g.API+html.UnescapeString(choice[2]), link.String())
			return response.Header.Get("Location")
		}
	}
	b.t.Fatalf("WeChat does not offer %s: %s", appid, choices)
	return ""
}

// unauthorized is a gateway with a ticket that nobody has authorized yet.
func unauthorized(t *testing.T, o gwtest.Options) *gwtest.Gateway {
	t.Helper()
	o.Quiet = true
	g := gwtest.Start(t, o)
	if err := g.WeChat.PushTicket(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.WeChat.SetLaunchDomain(strings.TrimPrefix(g.Platform, "http://"))
	return g
}

func works(t *testing.T, g *gwtest.Gateway, appid string) {
	t.Helper()
	if answer := g.Get("/cgi-bin/get_api_domain_ip?access_token=" + g.Token(appid)); !strings.Contains(answer, "ip_list") {
		t.Errorf("a call for %s answers %s\n%s", appid, answer, g.Logs())
	}
}

func TestAdminAuthorizes(t *testing.T) {
	for name, switches := range map[string]sandbox.Switches{
		"push and redirect carry the same code":   {},
		"push and redirect carry different codes": {DifferentCodes: true},
		"no event is pushed":                      {NoAuthorizedPush: true},
	} {
		t.Run(name, func(t *testing.T) {
			g := unauthorized(t, gwtest.Options{Sandbox: sandbox.Config{Switches: switches}})
			b := newBrowser(t)
			back := b.agree(g, b.link(g, "auth_type=1"), gwtest.OfficialAccount)
			response, page := b.get(back, "")
			if response.StatusCode != http.StatusOK || !strings.Contains(page, gwtest.OfficialAccount) {
				t.Fatalf("result page: %s\n%s\n%s", response.Status, page, g.Logs())
			}
			works(t, g, gwtest.OfficialAccount)
		})
	}
}

// The browser may come back twice, and the event may come before, after, or
// again: the result is the same, and the code is exchanged once.
func TestRepeatedCallbackShowsTheSameResult(t *testing.T) {
	g := unauthorized(t, gwtest.Options{})
	b := newBrowser(t)
	back := b.agree(g, b.link(g, ""), gwtest.MiniProgram)
	for range 3 {
		if response, page := b.get(back, ""); response.StatusCode != http.StatusOK || !strings.Contains(page, gwtest.MiniProgram) {
			t.Fatalf("result page: %s\n%s", response.Status, page)
		}
	}
	if err := g.WeChat.PushAuthorized(t.Context(), gwtest.MiniProgram); err != nil {
		t.Error(err)
	}
	works(t, g, gwtest.MiniProgram)
	if n := g.WeChat.Count("/cgi-bin/component/api_query_auth"); n != 1 {
		t.Errorf("%d api_query_auth calls, want 1", n)
	}
}

func TestLaunchPageLinksToTheRightPage(t *testing.T) {
	g := unauthorized(t, gwtest.Options{})
	desktop, inside := newBrowser(t), newBrowser(t)
	inside.userAgent += " MicroMessenger/8.0"

	link := desktop.link(g, "auth_type=2&biz_appid="+gwtest.MiniProgram+"&category_id_list=17|18")
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
	link = inside.link(g, "")
	if link.Path != "/wxaopen/safe/bindcomponent" || link.Fragment != "wechat_redirect" ||
		link.Query().Get("action") != "bindcomponent" || link.Query().Get("no_scan") != "1" {
		t.Errorf("link inside WeChat is %s", link)
	}
}

// The page carries a code and must show WeChat where it stands.
func TestLaunchPageHeaders(t *testing.T) {
	g := unauthorized(t, gwtest.Options{})
	response, page := newBrowser(t).get(launchURL(g, ""), "")
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
	g := unauthorized(t, gwtest.Options{})
	for accepted, want := range map[string]string{
		"zh-CN,zh;q=0.9,en;q=0.8": "前往微信授权", "en-GB,en;q=0.9": "Continue to WeChat", "": "前往微信授权", "fr": "Continue to WeChat",
	} {
		b := newBrowser(t)
		b.language = accepted
		if _, page := b.get(launchURL(g, ""), ""); !strings.Contains(page, want) {
			t.Errorf("a browser that accepts %q is not shown %q", accepted, want)
		}
	}
}

func TestLaunchRefusesWrongParameters(t *testing.T) {
	g := unauthorized(t, gwtest.Options{Component: "return_url https://console.example.com/done/*\nreturn_url https://exact.example.com/a"})
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
			response, page := newBrowser(t).get(launchURL(g, strings.ReplaceAll(query, `\`, "%5C")), "")
			if response.StatusCode != http.StatusBadRequest || launchLink.MatchString(page) {
				t.Errorf("answer %s", response.Status)
			}
		})
	}
	if n := g.WeChat.Count("/cgi-bin/component/api_create_preauthcode"); n != 0 {
		t.Errorf("%d pre_auth_codes were spent", n)
	}
}

func TestAdminIsSentToTheReturnURL(t *testing.T) {
	g := unauthorized(t, gwtest.Options{Component: "return_url https://console.example.com/done/*"})
	b := newBrowser(t)
	link := b.link(g, "return_url="+url.QueryEscape("https://console.example.com/done/x?y=1")+"&state="+url.QueryEscape("a&b=c"))
	response, _ := b.get(b.agree(g, link, gwtest.OfficialAccount), "")
	want := "https://console.example.com/done/x?y=1&appid=" + gwtest.OfficialAccount + "&state=a%26b%3Dc"
	if got := response.Header.Get("Location"); response.StatusCode != http.StatusSeeOther || got != want {
		t.Errorf("sent to %q (%s), want %q", got, response.Status, want)
	}
}

// An attacker who began an authorisation of his own must not be able to make
// an admin finish it, nor the other way round.
func TestCallbackRefusesForeignState(t *testing.T) {
	g := unauthorized(t, gwtest.Options{})
	attacker, admin := newBrowser(t), newBrowser(t)
	back := attacker.agree(g, attacker.link(g, ""), gwtest.OfficialAccount)
	before := g.WeChat.Count("/cgi-bin/component/api_query_auth")
	admin.link(g, "") // the admin's browser has a cookie, of its own
	state := func(change func(string) string) string {
		u, _ := url.Parse(back)
		q := u.Query()
		q.Set("state", change(q.Get("state")))
		u.RawQuery = q.Encode()
		return u.String()
	}
	for name, visit := range map[string]struct {
		who     *browser
		address string
	}{
		"in another browser":          {admin, back},
		"in a browser without cookie": {newBrowser(t), back},
		"with a changed state":        {attacker, state(func(s string) string { return "x" + s })},
		"with a changed signature":    {attacker, state(func(s string) string { return s[:len(s)-2] + "AA" })},
		"without state":               {attacker, state(func(string) string { return "" })},
	} {
		if response, _ := visit.who.get(visit.address, ""); response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s, want 400", name, response.Status)
		}
	}
	if n := g.WeChat.Count("/cgi-bin/component/api_query_auth"); n > before+1 { // the event's own exchange
		t.Errorf("%d codes were exchanged", n-before)
	}
}

func TestCallbackWithWrongCodeSaysSo(t *testing.T) {
	g := unauthorized(t, gwtest.Options{})
	b := newBrowser(t)
	back := b.link(g, "").Query().Get("redirect_uri")
	for _, code := range []string{"", "&auth_code=", "&auth_code=queryauthcode@@@made-up", "&auth_code=" + strings.Repeat("c", 600)} {
		if response, page := b.get(back+code, ""); response.StatusCode != http.StatusBadRequest || !strings.Contains(page, `href="`+g.Platform+`/wechat/authorize?component=`+g.WeChat.Component()+`">Start again`) {
			t.Errorf("code %.30q: %s", code, response.Status)
		}
	}
}

// The page is public and every visit spends a code of WeChat's quota.
func TestLaunchPageIsRationed(t *testing.T) {
	g := unauthorized(t, gwtest.Options{})
	refused := 0
	for range 75 {
		response, _ := newBrowser(t).get(launchURL(g, ""), "")
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
	g := unauthorized(t, gwtest.Options{})
	for _, agent := range []string{"Mozilla/5.0 (compatible; Googlebot/2.1)", "Baiduspider", "Slackbot-LinkExpanding 1.0", "facebookexternalhit/1.1"} {
		b := newBrowser(t)
		b.userAgent = agent
		if response, _ := b.get(launchURL(g, ""), ""); response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s, want 403", agent, response.Status)
		}
	}
	response, err := http.Head(launchURL(g, ""))
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
	response, page := newBrowser(t).get(launchURL(g, ""), "")
	if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(page, "Try again in a minute") {
		t.Errorf("answer %s\n%s", response.Status, page)
	}
}

// Behind another proxy the browser sees another host than we do.
func TestPublicURLIsWhereTheBrowserComesBack(t *testing.T) {
	g := unauthorized(t, gwtest.Options{Platform: "public_url https://open.example.com"})
	back := newBrowser(t).link(g, "").Query().Get("redirect_uri")
	if !strings.HasPrefix(back, "https://open.example.com/wechat/authorize/callback?state=") {
		t.Errorf("redirect_uri is %s", back)
	}
}

// A return_url may not bring an appid of its own: the application would read
// that one and not the one that has authorized.
func TestReturnURLCannotBringAnAppIDOfItsOwn(t *testing.T) {
	g := unauthorized(t, gwtest.Options{Component: "return_url https://console.example.com/*"})
	b := newBrowser(t)
	link := b.link(g, "state=mine&return_url="+url.QueryEscape("https://console.example.com/?appid=wxffffffffffffffff&a=1&state=x"))
	response, _ := b.get(b.agree(g, link, gwtest.OfficialAccount), "")
	want := "https://console.example.com/?a=1&appid=" + gwtest.OfficialAccount + "&state=mine"
	if got := response.Header.Get("Location"); got != want {
		t.Errorf("sent to %q, want %q", got, want)
	}
}

// Somebody who has a valid state makes up codes: WeChat's quota for exchanges
// must not pay for it, or no account could authorise any more.
func TestMadeUpCodesAreRationed(t *testing.T) {
	g := unauthorized(t, gwtest.Options{})
	b := newBrowser(t)
	back := b.link(g, "").Query().Get("redirect_uri")
	for i := range 90 {
		b.get(back+"&auth_code=queryauthcode@@@made-up"+strings.Repeat("x", i), "")
	}
	if n := g.WeChat.Count("/cgi-bin/component/api_query_auth"); n > 65 {
		t.Errorf("%d questions for 90 made-up codes", n)
	}
}

// Behind a proxy that ends TLS the browser still talks https: no other host of
// the domain may plant the cookie that binds the state to the browser.
func TestCookieCannotBePlantedOverHTTPS(t *testing.T) {
	g := unauthorized(t, gwtest.Options{Platform: "public_url https://open.example.com"})
	response, _ := newBrowser(t).get(launchURL(g, ""), "")
	cookie := response.Header.Get("Set-Cookie")
	if !strings.HasPrefix(cookie, "__Host-") || !strings.Contains(cookie, "Secure") || strings.Contains(cookie, "Domain") {
		t.Errorf("Set-Cookie is %q", cookie)
	}
}
