// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// StartUnauthorized starts a gateway with a ticket that nobody has authorized
// yet. WeChat's page accepts the Referer of the gateway's platform alone.
func StartUnauthorized(t testing.TB, o Options) *Gateway {
	t.Helper()
	o.Quiet = true
	g := Start(t, o)
	if err := g.WeChat.PushTicket(t.Context()); err != nil {
		t.Fatalf("pushing ticket: %v\n%s", err, g.Logs())
	}
	g.WeChat.SetLaunchDomain(strings.TrimPrefix(g.Platform, "http://"))
	return g
}

// LaunchURL returns the address of the page at which an authorization begins.
func (g *Gateway) LaunchURL(query string) string {
	return g.Platform + "/wechat/authorize?" + query
}

var (
	launchLink = regexp.MustCompile(`id="authorize"[^>]* href="([^"]+)"`)
	agreeLink  = regexp.MustCompile(`data-appid="([^"]+)" href="([^"]+)"`)
)

// LaunchLink returns where the link of a launch page leads to; "" if the page
// has none.
func LaunchLink(page string) string {
	if found := launchLink.FindStringSubmatch(page); found != nil {
		return html.UnescapeString(found[1])
	}
	return ""
}

// Browser is the browser of an account's admin as far as HTTP goes: it keeps
// cookies and sends a Referer. It does not follow redirects.
type Browser struct {
	UserAgent string
	Language  string // that it accepts

	t      testing.TB
	client *http.Client
}

// NewBrowser returns a browser that speaks English and knows no cookie yet.
func NewBrowser(t testing.TB) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Browser{t: t, UserAgent: "Mozilla/5.0", Language: "en", client: &http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Get opens an address and returns the answer and its body. An empty referer is
// not sent.
func (b *Browser) Get(address, referer string) (*http.Response, string) {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("User-Agent", b.UserAgent)
	r.Header.Set("Accept-Language", b.Language)
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

// Launch opens the launch page and returns the address its link leads to.
func (b *Browser) Launch(g *Gateway, query string) *url.URL {
	b.t.Helper()
	response, page := b.Get(g.LaunchURL(query), "")
	address := LaunchLink(page)
	if response.StatusCode != http.StatusOK || address == "" {
		b.t.Fatalf("launch page: %s\n%s\n%s", response.Status, page, g.Logs())
	}
	link, err := url.Parse(address)
	if err != nil {
		b.t.Fatal(err)
	}
	return link
}

// Agree follows the link of a launch page, chooses the account, and returns the
// address to which WeChat sends the browser back.
func (b *Browser) Agree(g *Gateway, link *url.URL, appid string) string {
	b.t.Helper()
	_, choices := b.Get(link.String(), g.LaunchURL(""))
	for _, choice := range agreeLink.FindAllStringSubmatch(choices, -1) {
		if choice[1] == appid {
			response, _ := b.Get(g.API+html.UnescapeString(choice[2]), link.String())
			return response.Header.Get("Location")
		}
	}
	b.t.Fatalf("WeChat does not offer %s: %s", appid, choices)
	return ""
}
