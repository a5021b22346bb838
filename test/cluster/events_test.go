// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// soon is within how long every node acts on what one node was told.
const soon = time.Minute

// What WeChat tells node A is in force on node B: at once where something must
// be refused or renewed, soon everywhere else.
func TestWhatReachesOneNodeIsInForceOnAll(t *testing.T) {
	for name, test := range map[string]func(c *cluster, a, b *node){
		"the first ticket":                        firstTicket,
		"a ticket in place of a dead one":         nextTicket,
		"an authorization":                        authorization,
		"an authorization after a refusal":        authorizationAfterRefusal,
		"an update of an authorization":           update,
		"a withdrawal, for tokens":                withdrawalForTokens,
		"a withdrawal, for calls":                 withdrawalForCalls,
		"a code, for the browser that comes back": codeForBrowser,
		"a code, for an application":              codeForApplication,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachStorage(t, func(t *testing.T, s storage) {
				t.Parallel()
				// Tickets come from the test alone, not because a node asks.
				c := start(t, s, 2, sandbox.Config{Quota: map[string]int{componentAPI + startPushTicket: 0}})
				c.must(c.weChat.AddAccount(sandbox.Account{AppID: shop}))
				test(c, c.nodes[0], c.nodes[1])
			})
		})
	}
}

func firstTicket(c *cluster, a, b *node) {
	if refused := b.call(component); refused.Slug != "no_ticket" {
		c.Fatalf("without a ticket: %s", refused)
	}
	c.must(c.weChat.PushTicket(c.Context()))
	c.inForce("the ticket", 5*time.Second, func() bool { return b.call(component).ok() })
}

func nextTicket(c *cluster, a, b *node) {
	c.authorize(shop)
	c.weChat.AdvanceClock(13 * time.Hour) // longer than a ticket lives
	c.nextSecond()
	c.must(c.weChat.PushTicket(c.Context()))
	b.wantCall(component)
	b.wantCall(shop)
	c.wantCounts(map[string]int{componentToken: 1, authorizerToken: 1})
}

func authorization(c *cluster, a, b *node) {
	c.must(c.weChat.PushTicket(c.Context()))
	_, err := c.weChat.Authorize(c.Context(), shop)
	c.must(err)
	b.wantCall(shop)
	a.wantCall(shop)
}

func authorizationAfterRefusal(c *cluster, a, b *node) {
	c.must(c.weChat.PushTicket(c.Context()))
	if refused := b.call(shop); refused.Slug != "not_authorized" {
		c.Fatalf("before the authorization: %s", refused)
	}
	_, err := c.weChat.Authorize(c.Context(), shop)
	c.must(err)
	a.wantCall(shop)
	c.inForce("the authorization", soon, func() bool { return b.call(shop).ok() })
}

// The old token lives on for five minutes. When it has ended, node B finds the
// one that node A got for the new code.
func update(c *cluster, a, b *node) {
	c.authorize(shop)
	_, err := c.weChat.UpdateAuthorized(c.Context(), shop)
	c.must(err)
	c.until("the code is exchanged", 10*time.Second, func() bool {
		record, err := c.record(shop)
		return err == nil && record.Code == nil && c.weChat.Count(componentAPI+queryAuth) == 1 &&
			record.Token.Reveal() == c.weChat.ValidToken(sandbox.KindAuthorizer, shop)
	})
	b.wantCall(shop)
	c.weChat.AdvanceClock(6 * time.Minute)
	b.wantCall(shop)
	a.wantCall(shop)
	c.until("the profile is asked for", 10*time.Second, func() bool { return c.weChat.Count(componentAPI+authorizerInfo) > 0 })
	c.wantCounts(map[string]int{queryAuth: 1, authorizerInfo: anyNumber})
}

func withdrawalForTokens(c *cluster, a, b *node) {
	c.authorize(shop)
	for _, n := range c.nodes {
		if got, token := n.token(shop); token == "" {
			c.Fatalf("node %s issues no token: %s", n.name, got)
		}
	}
	c.must(c.weChat.Revoke(c.Context(), shop))
	for _, n := range c.nodes {
		c.inForce("the withdrawal at the token endpoint of node "+n.name, soon, func() bool {
			got, _ := n.token(shop)
			return got.Slug == "not_authorized"
		})
	}
}

// WeChat itself refuses what node B sends before it knows. Later node B does
// not ask any more; and when the account comes back, node B serves it again.
func withdrawalForCalls(c *cluster, a, b *node) {
	c.authorize(shop)
	c.must(c.weChat.Revoke(c.Context(), shop))
	if refused := a.call(shop); refused.Slug != "not_authorized" {
		c.Errorf("node A: %s", refused)
	}
	if refused := b.call(shop); refused.ErrCode != 61003 {
		c.Errorf("node B: %s", refused)
	}
	c.inForce("the withdrawal at node B", soon, func() bool { return b.call(shop).Slug == "not_authorized" })
	_, err := c.weChat.Authorize(c.Context(), shop)
	c.must(err)
	a.wantCall(shop)
	c.inForce("the return at node B", soon, func() bool { return b.call(shop).ok() })
}

// nextSecond waits until pushes have another CreateTime: of two tickets with
// the same one the first stays.
func (c *cluster) nextSecond() {
	second := time.Now().Unix()
	c.until("another second", 2*time.Second, func() bool { return time.Now().Unix() > second })
}

// inForce logs how long it took until something that node A was told was in
// force.
func (c *cluster) inForce(what string, within time.Duration, yes func() bool) {
	c.Helper()
	c.Logf("%s: in force after %s", what, milliseconds(c.until(what+" is in force", within, yes)))
}

var launchLink = regexp.MustCompile(`id="authorize"[^>]* href="([^"]+)"`)

// The admin's browser comes back to another node than the one which served the
// page and which has exchanged the code when WeChat pushed it.
func codeForBrowser(c *cluster, a, b *node) {
	c.must(c.weChat.PushTicket(c.Context()))
	jar, err := cookiejar.New(nil)
	c.must(err)
	browser := &http.Client{Jar: jar, Transport: client.Transport}
	response, err := browser.Post("http://"+a.Platform+"/wechat/authorize", "application/x-www-form-urlencoded", nil)
	c.must(err)
	page := read(response).Body
	found := launchLink.FindStringSubmatch(page)
	if found == nil {
		c.Fatalf("the page after the launch page has no link: %s", page)
	}
	link, err := url.Parse(html.UnescapeString(found[1]))
	c.must(err)
	code := c.exchangedOnA(a)
	back := link.Query().Get("redirect_uri") + "&expires_in=600&auth_code=" + url.QueryEscape(code)
	result := c.visit(browser, strings.Replace(back, a.Platform, b.Platform, 1))
	if !strings.Contains(result, `id="appid"`) || !strings.Contains(result, shop) {
		c.Errorf("node B shows %s", result)
	}
	b.wantCall(shop)
}

func codeForApplication(c *cluster, a, b *node) {
	c.must(c.weChat.PushTicket(c.Context()))
	code := c.exchangedOnA(a)
	asked := b.ask(b.Proxy, componentAPI+queryAuth, fmt.Sprintf(`{"component_appid":%q,"authorization_code":%q}`, component, code),
		http.Header{"Authorization": {"Bearer " + caddy.ClientSecret}})
	var told struct {
		Info struct {
			AppID string `json:"authorizer_appid"`
			Token string `json:"authorizer_access_token"`
		} `json:"authorization_info"`
	}
	_ = json.Unmarshal([]byte(asked.Body), &told)
	if !asked.ok() || told.Info.AppID != shop || told.Info.Token == "" {
		c.Errorf("node B answers %s", asked)
	}
	b.wantCall(shop)
}

// exchangedOnA lets the account authorise and returns the code when node A has
// exchanged and stored it.
func (c *cluster) exchangedOnA(a *node) (code string) {
	c.Helper()
	code, err := c.weChat.Authorize(c.Context(), shop)
	c.must(err)
	a.wantCall(shop)
	if n := c.weChat.Count(componentAPI + queryAuth); n != 1 {
		c.Fatalf("the code was exchanged %d times, want once", n)
	}
	return code
}

// visit opens a page.
func (c *cluster) visit(browser *http.Client, address string) string {
	c.Helper()
	response, err := browser.Get(address)
	c.must(err)
	return read(response).Body
}
