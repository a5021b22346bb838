// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

const (
	preAuthPath   = "/cgi-bin/component/api_create_preauthcode"
	queryAuthPath = "/cgi-bin/component/api_query_auth"
)

// visitor returns a browser at an address of its own. The gateway needs
// gwtest.TrustProxies.
func visitor(t *testing.T, address string) *gwtest.Browser {
	b := gwtest.NewBrowser(t)
	b.From = address
	return b
}

// Anybody can fetch an address as often as he likes, and programs do so with every
// link that is sent in a chat.
func TestViewsOfTheLaunchPageCostWeChatNothing(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	b := gwtest.NewBrowser(t)
	for i := range 100 {
		if response, _ := b.Get(g.LaunchURL("auth_type=1"), ""); response.StatusCode != http.StatusOK {
			t.Fatalf("view %d: %s", i, response.Status)
		}
		if response, _ := b.Send(http.MethodHead, g.LaunchURL(""), http.Header{}); response.StatusCode != http.StatusOK {
			t.Fatalf("HEAD %d: %s", i, response.Status)
		}
	}
	for _, call := range g.WeChat.Calls() {
		if call.Path != "/cgi-bin/component/api_start_push_ticket" { // which the gateway calls when it starts
			t.Errorf("%s was called for views of the page", call.Path)
		}
	}
	b.Launch(g, "auth_type=1") // and they take nothing from the share of the address
}

// Robots are told to stay away, and cause no call even where they press buttons.
func TestRobotsSpendNoCode(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	for _, agent := range []string{"Mozilla/5.0 (compatible; Googlebot/2.1)", "Baiduspider", "Slackbot-LinkExpanding 1.0", "facebookexternalhit/1.1"} {
		b := gwtest.NewBrowser(t)
		b.UserAgent = agent
		if response, _ := b.Get(g.LaunchURL(""), ""); response.StatusCode != http.StatusForbidden {
			t.Errorf("GET by %s: %s, want 403", agent, response.Status)
		}
		if response, _ := b.Press(g.LaunchURL("")); response.StatusCode != http.StatusForbidden {
			t.Errorf("POST by %s: %s, want 403", agent, response.Status)
		}
	}
	if n := g.WeChat.Count(preAuthPath); n != 0 {
		t.Errorf("%d pre_auth_codes were spent", n)
	}
}

// One machine presses the button without an end, from an IPv4 address or from all
// addresses of an IPv6 network: no admin anywhere else notices.
func TestOneVisitorCannotShutTheLaunchPage(t *testing.T) {
	for name, row := range map[string]struct {
		address func(i int) string
		share   int
	}{
		"an address":             {func(int) string { return "192.0.2.1" }, 6},
		"the same in two forms":  {func(i int) string { return []string{"192.0.2.1", "::ffff:192.0.2.1"}[i%2] }, 6},
		"a network of /64":       {func(i int) string { return fmt.Sprintf("2001:db8::%x", i+1) }, 6},
		"networks of one of /48": {func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i) }, 12},
	} {
		t.Run(name, func(t *testing.T) {
			g := gwtest.StartUnauthorized(t, gwtest.Options{Global: gwtest.TrustProxies})
			permitted := 0
			for i := range 70 {
				response, page := visitor(t, row.address(i)).Press(g.LaunchURL("auth_type=2"))
				if response.StatusCode == http.StatusOK {
					permitted++
					continue
				}
				seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
				if response.StatusCode != http.StatusTooManyRequests || err != nil || seconds > 60 ||
					!strings.Contains(page, fmt.Sprintf("Try again in %d seconds", seconds)) || !strings.Contains(page, `href="`+g.LaunchURL("auth_type=2")+`">Start again`) {
					t.Fatalf("a refusal: %s, Retry-After %d\n%s", response.Status, seconds, page)
				}
			}
			if spent := g.WeChat.Count(preAuthPath); permitted != row.share || spent != row.share {
				t.Errorf("%d presses were permitted and %d codes spent, want %d", permitted, spent, row.share)
			}
			for _, elsewhere := range []string{"198.51.100.7", "192.0.2.2", "2001:db8:1::1"} {
				admin := visitor(t, elsewhere)
				admin.Get(admin.Agree(g, admin.Launch(g, ""), gwtest.OfficialAccount), "")
			}
			g.WantSuccess(t, gwtest.OfficialAccount)
		})
	}
}

// What a visitor writes into X-Forwarded-For is not his address.
func TestForgedAddressIsNotBelieved(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	for i := range 20 {
		visitor(t, fmt.Sprint("192.0.2.", i)).Press(g.LaunchURL(""))
	}
	if spent := g.WeChat.Count(preAuthPath); spent != 6 {
		t.Errorf("%d codes spent, want 6", spent)
	}
}

// The shares hold through a reload: otherwise each would permit a new burst.
func TestReloadGivesNoNewShare(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	for range 3 {
		for range 6 {
			gwtest.NewBrowser(t).Press(g.LaunchURL(""))
		}
		g.Load()
		http.DefaultClient.CloseIdleConnections() // those of the configuration before
	}
	if spent := g.WeChat.Count(preAuthPath); spent != 6 {
		t.Errorf("%d codes spent, want 6", spent)
	}
}

// A page of another site sends our form with the browser of an admin, who would pay
// for it with the share of his address.
func TestFormOfAnotherSiteSpendsNoCode(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{})
	for name, header := range map[string]http.Header{
		"a browser":        {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}},
		"an older browser": {"Origin": {"https://evil.example"}},
	} {
		b := gwtest.NewBrowser(t)
		response, page := b.Send(http.MethodPost, g.LaunchURL("auth_type=1"), header)
		if response.StatusCode != http.StatusOK || !strings.Contains(page, `<form method="post">`) || response.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %s, want the launch page\n%s", name, response.Status, page)
		}
	}
	if n := g.WeChat.Count(preAuthPath); n != 0 {
		t.Errorf("%d pre_auth_codes were spent", n)
	}
}

// A body adds nothing to the query, which was checked.
func TestBodyOfTheFormIsNotRead(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{Component: "return_url https://console.example.com/*"})
	response, err := http.Post(g.LaunchURL("auth_type=1"), "application/x-www-form-urlencoded",
		strings.NewReader("auth_type=7&component=wxffffffffffffffff&return_url=https://evil.example.com/"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("answer %s", response.Status)
	}
}

// One valid state and sixty codes that somebody has made up: another admin, who
// comes back with a real code, is not kept waiting.
func TestMadeUpCodesCannotShutTheCallback(t *testing.T) {
	for name, address := range map[string]func(i int) string{
		"from one address":    func(int) string { return "192.0.2.1" },
		"from many addresses": func(i int) string { return fmt.Sprint("192.0.2.", i) },
	} {
		t.Run(name, func(t *testing.T) {
			g := gwtest.StartUnauthorized(t, gwtest.Options{Global: gwtest.TrustProxies})
			attacker := visitor(t, "192.0.2.1")
			back := attacker.Launch(g, "").Query().Get("redirect_uri")
			for i := range 70 {
				attacker.From = address(i)
				response, page := attacker.Get(fmt.Sprintf("%s&auth_code=queryauthcode@@@made-up-%d", back, i), "")
				if response.StatusCode == http.StatusTooManyRequests && (response.Header.Get("Retry-After") == "" || !strings.Contains(page, `href="">Try again`)) {
					t.Fatalf("a refusal does not say when, or is a dead end\n%s", page)
				}
			}
			if n := g.WeChat.Count(queryAuthPath); n != 6 {
				t.Errorf("%d questions for 70 made-up codes, want 6", n)
			}
			admin := visitor(t, "198.51.100.7")
			response, page := admin.Get(admin.Agree(g, admin.Launch(g, ""), gwtest.MiniProgram), "")
			if response.StatusCode != http.StatusOK || !strings.Contains(page, gwtest.MiniProgram) {
				t.Errorf("the admin is shown %s\n%s", response.Status, page)
			}
		})
	}
}

// A code that WeChat has refused, or that was exchanged, is not asked about again. The
// result page may be loaded as often as one likes.
func TestKnownCodesCostWeChatNoSecondCall(t *testing.T) {
	g := gwtest.StartUnauthorized(t, gwtest.Options{Global: gwtest.TrustProxies})
	b := visitor(t, "192.0.2.1")
	made := b.Launch(g, "").Query().Get("redirect_uri") + "&auth_code=queryauthcode@@@made-up"
	for range 4 {
		if response, _ := b.Get(made, ""); response.StatusCode != http.StatusBadRequest {
			t.Errorf("a code that was made up: %s", response.Status)
		}
	}
	if n := g.WeChat.Count(queryAuthPath); n != 1 {
		t.Errorf("%d questions for one code, want 1", n)
	}
	admin := visitor(t, "198.51.100.7")
	back := admin.Agree(g, admin.Launch(g, ""), gwtest.OfficialAccount)
	for range 20 {
		if response, page := admin.Get(back, ""); response.StatusCode != http.StatusOK || !strings.Contains(page, gwtest.OfficialAccount) {
			t.Fatalf("the result: %s\n%s", response.Status, page)
		}
	}
	if n := g.WeChat.Count(queryAuthPath); n != 2 {
		t.Errorf("%d questions for two codes, want 2", n)
	}
}
