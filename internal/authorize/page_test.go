// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const (
	self    = "https://open.example.com/wechat/authorize"
	iPhone  = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
	cubot   = "Mozilla/5.0 (Linux; Android 12; CUBOT P60) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36"
	chrome  = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
	weixin  = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.49 NetType/WIFI Language/zh_CN"
	harmony = "Mozilla/5.0 (Phone; OpenHarmony 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/114.0.0.0 Safari/537.36 ArkWeb/4.1.6.1 Mobile"
)

// pages have no Tokens: whatever is served with them made no call to WeChat.
var pages = &Pages{Platforms: map[string]*Platform{
	"wx134c8103faa5a59e": {AppID: "wx134c8103faa5a59e", DisplayName: "示例 <科技>"},
}}

// serve serves a request, and returns the answer and its page.
func serve(t *testing.T, method, query string, header http.Header) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, "http://10.0.0.1/wechat/authorize?"+query, nil)
	r.Header = header
	w := httptest.NewRecorder()
	handler := pages.Launch
	if method == http.MethodPost {
		handler = func(w http.ResponseWriter, r *http.Request, self string) error {
			return pages.Begin(w, r, self, netip.Addr{})
		}
	}
	if err := handler(w, r, self); err != nil {
		t.Fatal(err)
	}
	return w.Result(), html.UnescapeString(w.Body.String())
}

// A phone outside WeChat cannot scan a QR code that it shows itself.
func TestEachDeviceIsShownItsWay(t *testing.T) {
	for name, row := range map[string]struct {
		agent, mobile string
		qr, copies    bool
	}{
		"a desktop":                  {chrome, "", true, false},
		"an iPhone":                  {iPhone, "", false, true},
		"an Android phone":           {cubot, "", false, true},
		"a HarmonyOS phone":          {harmony, "", false, true},
		"a phone by its client hint": {chrome, "?1", false, true},
		"a phone inside WeChat":      {weixin, "?1", false, false},
		"no User-Agent":              {"", "", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, page := serve(t, http.MethodGet, "auth_type=1&state=a%26b", http.Header{"User-Agent": {row.agent}, "Sec-Ch-Ua-Mobile": {row.mobile}})
			const same = self + "?auth_type=1&state=a%26b"
			if got := strings.Contains(page, `src="`+string(qrCode(same))+`"`); got != row.qr || strings.Contains(page, "<img") != row.qr {
				t.Errorf("a QR code that leads to the same page: %t, want %t", got, row.qr)
			}
			if got := strings.Contains(page, `<code id="address">`+same+`</code>`) && strings.Contains(page, `id="copy"`); got != row.copies {
				t.Errorf("the address to copy: %t, want %t", got, row.copies)
			}
			if !strings.Contains(page, `<form method="post"><button`) {
				t.Error("no button")
			}
			if !strings.Contains(page, "授权给示例 <科技>") {
				t.Error("it is not said to whom one grants")
			}
		})
	}
}

// What only looks like a robot is none.
func TestRobots(t *testing.T) {
	for agent, robot := range map[string]bool{
		"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)": true, "bot": true, "SomeBot": true,
		"Baiduspider": true, "WhatsApp LinkPreview": true, "Slackbot-LinkExpanding 1.0": true, "facebookexternalhit/1.1": true,
		cubot: false, iPhone: false, chrome: false, weixin: false, harmony: false, "": false,
	} {
		if got := isRobot(&http.Request{Header: http.Header{"User-Agent": {agent}}}); got != robot {
			t.Errorf("%s: robot %t, want %t", agent, got, robot)
		}
	}
}

// A form of another site is answered with the launch page: the visitor has not
// pressed our button. The server may see another host than the browser does.
func TestFormOfAnotherSiteGetsTheLaunchPage(t *testing.T) {
	for name, header := range map[string]http.Header{
		"another site":                     {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}},
		"another site without Origin":      {"Sec-Fetch-Site": {"cross-site"}},
		"another site that claims ours":    {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://open.example.com"}},
		"another host of the same domain":  {"Sec-Fetch-Site": {"same-site"}, "Origin": {"https://blog.example.com"}},
		"an older browser, another origin": {"Origin": {"https://evil.example"}},
		"an older browser, same domain":    {"Origin": {"https://blog.example.com"}},
		"an older browser, another port":   {"Origin": {"https://open.example.com:8443"}},
		"an older browser, no origin":      {"Origin": {"null"}},
		"the host that the server sees":    {"Origin": {"http://10.0.0.1"}},
	} {
		response, page := serve(t, http.MethodPost, "", header)
		if response.StatusCode != http.StatusOK || !strings.Contains(page, `<form method="post">`) || response.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %s, cookie %q\n%s", name, response.Status, response.Header.Get("Set-Cookie"), page)
		}
	}
	for name, header := range map[string]http.Header{
		"a browser":            {"Sec-Fetch-Site": {"same-origin"}, "Origin": {"https://open.example.com"}},
		"one that hides where": {"Sec-Fetch-Site": {"same-origin"}, "Origin": {"null"}},
		"an older browser":     {"Origin": {"https://open.example.com"}},
		"no browser":           {},
	} {
		if !fromOurPage(&http.Request{Method: http.MethodPost, Header: header, Host: "10.0.0.1"}, self) {
			t.Errorf("%s is refused", name)
		}
	}
}

// What is shown after a text must be announced by it, and what a text announces must be
// shown: "Start again.refused" helps nobody.
func TestTextsOfProblemsEndAsTheyAreShown(t *testing.T) {
	for _, in := range translations {
		for problem, detail := range map[string]bool{
			problemParameter: true, problemWeChat: true, problemRobot: false, problemBusy: false, problemState: false, problemCode: false,
		} {
			text := in.text["problem."+problem]
			if ends := strings.HasSuffix(text, ".") || strings.HasSuffix(text, "。"); text == "" || ends == detail {
				t.Errorf("%s, %s: %q ends a sentence: %t, but a detail follows: %t", in.lang, problem, text, ends, detail)
			}
		}
	}
}

// A refusal says how long to wait, to people and to programs.
func TestRefusalSaysWhenToTryAgain(t *testing.T) {
	for _, row := range []struct {
		wait     time.Duration
		language string
		header   string
		words    string
	}{
		{41*time.Second + 1, "en", "42", "Try again in 42 seconds."},
		{41 * time.Second, "zh-CN", "41", "请在 41 秒后再试。"},
		{time.Millisecond, "en", "2", "Try again in 2 seconds."},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header.Set("Accept-Language", row.language)
		if err := show(w, r, http.StatusTooManyRequests, page{Kind: "problem", Problem: problemBusy, Wait: row.wait}); err != nil {
			t.Fatal(err)
		}
		if got := w.Header().Get("Retry-After"); got != row.header || !strings.Contains(w.Body.String(), row.words) {
			t.Errorf("after %s: Retry-After %s, want %s, and in words %q\n%s", row.wait, got, row.header, row.words, w.Body)
		}
	}
}

// Both languages have the same texts, and none of them is missing.
func TestTranslationsAreComplete(t *testing.T) {
	for _, other := range translations[1:] {
		for key, text := range translations[0].text {
			if translated := other.text[key]; translated == "" || strings.Contains(text, "{wait}") != strings.Contains(translated, "{wait}") ||
				strings.Contains(text, "{platform}") != strings.Contains(translated, "{platform}") {
				t.Errorf("%s: %q in %s", key, translated, other.lang)
			}
		}
		if len(other.text) != len(translations[0].text) {
			t.Errorf("%d texts in %s, want %d", len(other.text), other.lang, len(translations[0].text))
		}
	}
}
