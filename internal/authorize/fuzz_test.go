// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// FuzzLaunch opens the launch page with any query, inside WeChat and on a
// phone: there is a page, and nothing that a visitor writes adds an element or an
// attribute to it.
func FuzzLaunch(f *testing.F) {
	for _, query := range []string{
		"", "component=wx134c8103faa5a59e&auth_type=3", "auth_type=7", "biz_appid=wxaaaaaaaaaaaaaaaa&category_id_list=1|2|99999", "return_url=javascript:alert(1)",
		"state=\"><script>alert(1)</script>", "state='%22%3E<img/src=x>", "a=\u2028</code>", "auth_type=1&auth_type=9", "state=%zz", "a;b=`${1}`",
	} {
		f.Add(query, false)
		f.Add(query, true)
	}
	// There is a QR code on the page for desktops, which takes long to draw.
	agents := map[bool]string{false: weixin, true: iPhone}
	plain, refused := make(map[bool][]string), elements(f, "auth_type=7", weixin)
	for phone, agent := range agents {
		plain[phone] = elements(f, "", agent)
	}
	f.Fuzz(func(t *testing.T, query string, phone bool) {
		if got := elements(t, query, agents[phone]); !slices.Equal(got, plain[phone]) && !slices.Equal(got, refused) {
			t.Errorf("%q has the elements %q", query, got)
		}
	})
}

// elements returns the tags of the launch page with the names of their attributes.
func elements(t testing.TB, query, agent string) (tags []string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://10.0.0.1/wechat/authorize", nil)
	r.URL.RawQuery = query
	r.Header.Set("User-Agent", agent)
	w := httptest.NewRecorder()
	if err := pages.Launch(w, r, self); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusOK && w.Code != http.StatusBadRequest {
		t.Errorf("%q: status %d", query, w.Code)
	}
	for z := html.NewTokenizer(w.Body); z.Next() != html.ErrorToken; {
		token := z.Token()
		if token.Type != html.StartTagToken && token.Type != html.SelfClosingTagToken && token.Type != html.CommentToken {
			continue
		}
		tag := token.Data
		for _, attribute := range token.Attr {
			tag += " " + attribute.Key
		}
		tags = append(tags, tag)
	}
	return tags
}

// FuzzState brings any state to the callback: it opens only if it was signed here
// and has not expired, and then as it was signed. One with a right signature
// is not believed for that alone.
func FuzzState(f *testing.F) {
	now := time.Unix(1_700_000_000, 0)
	platform := &Platform{AppID: "wx134c8103faa5a59e", AppSecrets: []secret.Secret{secret.New(strings.Repeat("a", 32)), secret.New(strings.Repeat("b", 32))}}
	other := &Platform{AppID: "wxfedcba9876543210", AppSecrets: []secret.Secret{secret.New(strings.Repeat("c", 32))}}
	pages := &Pages{Platforms: map[string]*Platform{platform.AppID: platform, other.AppID: other}}
	genuine := launchState{Component: platform.AppID, State: "s", Browser: browserDigest("b"), Expires: now.Unix() + 600}
	text := platform.signState(genuine)
	f.Add(text)
	f.Add(other.signState(genuine))
	f.Add(strings.ReplaceAll(text, ".", "\n."))
	f.Add(text + "=")
	f.Add(text[:len(text)-1])
	f.Add(strings.TrimRight(text, "."))
	f.Add(platform.signState(launchState{Component: other.AppID, Expires: now.Unix() + 600}))
	f.Add(platform.signState(launchState{Component: platform.AppID, Expires: now.Unix()}))
	f.Add(".")
	f.Add("bnVsbA.")
	f.Fuzz(func(t *testing.T, signed string) {
		state, found := pages.openState(signed, now)
		if found == nil {
			if state != (launchState{}) {
				t.Errorf("%q is refused, and yet gives %+v", signed, state)
			}
			return
		}
		if found != platform || state != genuine {
			t.Errorf("%q opens as %+v", signed, state)
		}
		if _, late := pages.openState(signed, now.Add(600*time.Second)); late != nil {
			t.Errorf("%q opens when it has expired", signed)
		}
	})
}

// FuzzReturnURL brings any return_url: one that is allowed leads to the host and
// below the path that the operator has named, with the appid that was authorised
// and no other.
func FuzzReturnURL(f *testing.F) {
	for _, text := range []string{
		"https://console.example.com/done", "https://console.example.com/app/x?appid=wxbbbbbbbbbbbbbbbb&a=1", "https://console.example.com/app/../admin", "https://console.example.com/app/%2e%2E/admin",
		`https://console.example.com\@evil.example/app/`, "https://console.example.com@evil.example/app/", "https://console.example.com:443/done", "https://CONSOLE.example.com/done",
		"https://console.example.com/app//evil", "https://console.example.com/done?%61ppid=x;appid=y&APPID=z", "https://console.example.com/done#x", "//console.example.com/done", "https://console.example.com/app/\t../x",
		"https://console.example.com/app/%00", "https://console.example.com/app/%5c..%5cx",
	} {
		f.Add(text)
	}
	platform := &Platform{}
	for _, rule := range []string{"https://console.example.com/done", "https://console.example.com/app/*"} {
		parsed, err := ParseReturnURL(rule)
		if err != nil {
			f.Fatal(err)
		}
		platform.ReturnURLs = append(platform.ReturnURLs, parsed)
	}
	const appid = "wxaaaaaaaaaaaaaaaa"
	f.Fuzz(func(t *testing.T, text string) {
		if !platform.mayReturnTo(text) {
			return
		}
		to, err := url.Parse(withResult(text, appid, "s"))
		if err != nil || to.Scheme != "https" || to.Host != "console.example.com" || to.User != nil {
			t.Fatalf("%q leads to %v, %v", text, to, err)
		}
		if clean := path.Clean(to.Path); clean != "/done" && clean != "/app" && !strings.HasPrefix(clean, "/app/") {
			t.Errorf("%q leads to the path %q", text, to.Path)
		}
		for segment := range strings.FieldsFuncSeq(to.RawQuery, func(r rune) bool { return r == '&' || r == ';' }) {
			name, value, _ := strings.Cut(segment, "=")
			if name, err := url.QueryUnescape(name); err == nil && strings.EqualFold(name, "appid") && value != appid {
				t.Errorf("%q leads to %q", text, to.RawQuery)
			}
		}
	})
}
