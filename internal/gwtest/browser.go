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

// TrustProxies is a global option with which Caddy believes the addresses that
// Browser.From tells.
const TrustProxies = "servers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}"

var (
	launchLink = regexp.MustCompile(`id="authorize"[^>]* href="([^"]+)"`)
	agreeLink  = regexp.MustCompile(`data-appid="([^"]+)" href="([^"]+)"`)
)

// LaunchLink returns where the link leads to of the page that follows the launch
// page; "" if the page has none.
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
	From      string // the address from which a proxy says that it comes; "" without a proxy

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
	header := http.Header{}
	if referer != "" {
		header.Set("Referer", referer)
	}
	return b.Send(http.MethodGet, address, header)
}

// Press presses the button of the page at an address, a form of that page with an
// empty body.
func (b *Browser) Press(address string) (*http.Response, string) {
	b.t.Helper()
	page, err := url.Parse(address)
	if err != nil {
		b.t.Fatal(err)
	}
	origin := page.Scheme + "://" + page.Host
	return b.Send(http.MethodPost, address, http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"},
		"Origin":       {origin}, "Referer": {address}, "Sec-Fetch-Site": {"same-origin"},
	})
}

// Send sends a request without a body, and returns the answer and its body.
func (b *Browser) Send(method, address string, header http.Header) (*http.Response, string) {
	b.t.Helper()
	r, err := http.NewRequest(method, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header = header
	r.Header.Set("User-Agent", b.UserAgent)
	r.Header.Set("Accept-Language", b.Language)
	if b.From != "" {
		r.Header.Set("X-Forwarded-For", b.From)
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

// Launch opens the launch page, presses its button, and returns the address at
// WeChat to which the next page leads.
func (b *Browser) Launch(g *Gateway, query string) *url.URL {
	b.t.Helper()
	response, page := b.Get(g.LaunchURL(query), "")
	if response.StatusCode != http.StatusOK || !strings.Contains(page, `<form method="post">`) {
		b.t.Fatalf("launch page: %s\n%s\n%s", response.Status, page, g.Logs())
	}
	response, page = b.Press(g.LaunchURL(query))
	address := LaunchLink(page)
	if response.StatusCode != http.StatusOK || address == "" {
		b.t.Fatalf("page after the launch page: %s\n%s\n%s", response.Status, page, g.Logs())
	}
	link, err := url.Parse(address)
	if err != nil {
		b.t.Fatal(err)
	}
	return link
}

// Agree follows the link to WeChat, chooses the account, and returns the
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
