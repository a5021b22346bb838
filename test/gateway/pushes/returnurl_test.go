// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// startConsole starts a gateway, which delivers to an application and sends admins
// back to it.
func startConsole(t *testing.T) (*gwtest.Gateway, *console) {
	t.Helper()
	c := newConsole()
	c.Self = gwtest.Serve(t, c)
	g := gwtest.StartUnauthorized(t, gwtest.Options{
		Component: "return_url " + c.Self + "/connected",
		Clients: fmt.Sprintf("client console {\n secret %s\n authorizers *\n deliver %s/wechat {\n token %s\n encoding_aes_key %s\n }\n}",
			gwtest.ClientSecret, c.Self, c.token, c.aesKey),
	})
	c.LaunchPage = g.Platform + "/wechat/authorize"
	return g, c
}

// customer is one who is logged in at a console.
type customer struct {
	*gwtest.Browser
	console *console
	session string // the cookie
}

func (c *console) customer(t *testing.T, name string) *customer {
	return &customer{gwtest.NewBrowser(t), c, c.Login(name).String()}
}

// at opens an address of the console in the session of the customer.
func (c *customer) at(method, address string) (*http.Response, string) {
	return c.Send(method, address, http.Header{"Cookie": {c.session}})
}

// connect begins for an account, and returns the launch page to which it leads.
func (c *customer) connect(appid string) *url.URL {
	response, _ := c.at(http.MethodPost, c.console.Self+"/connect?appid="+appid)
	launch, _ := response.Location()
	return launch
}

// agree does what the customer does at gateway and WeChat, and returns the address
// to which he is sent in the end.
func (c *customer) agree(g *gwtest.Gateway, launch *url.URL, appid string) string {
	back := c.Agree(g, c.Launch(g, launch.RawQuery), appid)
	response, _ := c.Get(back, "")
	return response.Header.Get("Location")
}

// returnURL is the return_url as somebody types it.
func (c *console) returnURL(appid, state string) string {
	return c.Self + "/connected?" + url.Values{"appid": {appid}, "state": {state}}.Encode()
}

func TestCustomerConnectsHisAccount(t *testing.T) {
	g, c := startConsole(t)
	alice := c.customer(t, "alice")
	launch := alice.connect(gwtest.OfficialAccount)
	back := alice.agree(g, launch, gwtest.OfficialAccount)
	if back != c.returnURL(gwtest.OfficialAccount, launch.Query().Get("state")) {
		t.Errorf("alice is sent to %s", back)
	}
	c.Await(t, "authorized "+gwtest.OfficialAccount)
	if response, page := alice.at(http.MethodGet, back); response.StatusCode != http.StatusOK || !strings.Contains(page, "is connected") {
		t.Errorf("alice is shown %s %s", response.Status, page)
	}
	if owner := c.Owner(gwtest.OfficialAccount); owner != "alice" {
		t.Errorf("the account is connected to %q", owner)
	}
	if response, _ := alice.at(http.MethodGet, back); response.StatusCode != http.StatusForbidden {
		t.Errorf("the same address again: %s, want 403", response.Status)
	}
}

// appid and state at the return_url can be typed by anybody: in an application that
// does it right, that connects no account to anybody.
func TestTypedReturnURLAchievesNothing(t *testing.T) {
	g, c := startConsole(t)
	alice, mallory, nobody := c.customer(t, "alice"), c.customer(t, "mallory"), &customer{Browser: gwtest.NewBrowser(t)}
	launch := alice.connect(gwtest.OfficialAccount)
	open := launch.Query().Get("state")
	own := mallory.connect(gwtest.MiniProgram).Query().Get("state") // which she may not administer

	typed := func(when string) {
		t.Helper()
		for name, visit := range map[string]struct {
			who          *customer
			appid, state string
		}{
			"without a session":                         {nobody, gwtest.OfficialAccount, open},
			"without state":                             {mallory, gwtest.OfficialAccount, ""},
			"with a state that is made up":              {mallory, gwtest.OfficialAccount, strings.Repeat("A", 26)},
			"with a state of another session":           {mallory, gwtest.OfficialAccount, open},
			"by a link that is sent to another session": {alice, gwtest.MiniProgram, own},
		} {
			if response, _ := visit.who.at(http.MethodGet, c.returnURL(visit.appid, visit.state)); response.StatusCode != http.StatusForbidden {
				t.Errorf("%s, %s: %s, want 403", when, name, response.Status)
			}
		}
	}
	typed("before alice agrees")
	back := alice.agree(g, launch, gwtest.OfficialAccount)
	c.Await(t, "authorized "+gwtest.OfficialAccount)
	typed("after alice has agreed")
	alice.at(http.MethodGet, back)

	// Her own state, which she may use, with the account of another.
	if _, page := mallory.at(http.MethodGet, c.returnURL(gwtest.OfficialAccount, own)); !strings.Contains(page, "waiting") {
		t.Errorf("mallory is shown %s", page)
	}
	// She begins for it, and WeChat repeats the event.
	own = mallory.connect(gwtest.OfficialAccount).Query().Get("state")
	if err := g.WeChat.PushEvent(t.Context(), "updateauthorized", "<AuthorizerAppid>"+gwtest.OfficialAccount+"</AuthorizerAppid>"); err != nil {
		t.Fatal(err)
	}
	c.Await(t, "updateauthorized "+gwtest.OfficialAccount)
	if _, page := mallory.at(http.MethodGet, c.returnURL(gwtest.OfficialAccount, own)); !strings.Contains(page, "waiting") {
		t.Errorf("mallory is shown %s", page)
	}
	if owner := c.Owner(gwtest.OfficialAccount); owner != "alice" {
		t.Errorf("alice's account is connected to %q", owner)
	}
	if owner := c.Owner(gwtest.MiniProgram); owner != "" {
		t.Errorf("an account that has not authorised is connected to %q", owner)
	}
}

// Mallory begins for the account of alice and waits until alice agrees.
func TestAccountForWhichTwoHaveBegunIsConnectedToNobody(t *testing.T) {
	g, c := startConsole(t)
	alice, mallory := c.customer(t, "alice"), c.customer(t, "mallory")
	state := mallory.connect(gwtest.OfficialAccount).Query().Get("state")
	alice.agree(g, alice.connect(gwtest.OfficialAccount), gwtest.OfficialAccount)
	c.Await(t, "authorized "+gwtest.OfficialAccount)
	mallory.at(http.MethodGet, c.returnURL(gwtest.OfficialAccount, state))
	if owner := c.Owner(gwtest.OfficialAccount); owner != "" {
		t.Errorf("the account is connected to %q", owner)
	}
}

// The deliveries come to an address that anybody may know.
func TestForgedDeliveryConnectsNothing(t *testing.T) {
	_, c := startConsole(t)
	c.customer(t, "mallory").connect(gwtest.OfficialAccount)
	response, err := http.Post(c.Self+"/wechat?appid="+gwtest.OfficialAccount+"&timestamp=1&nonce=2&msg_signature=3", "text/xml",
		strings.NewReader("<xml><InfoType>authorized</InfoType><AuthorizerAppid>"+gwtest.OfficialAccount+"</AuthorizerAppid></xml>"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden || c.Owner(gwtest.OfficialAccount) != "" {
		t.Errorf("answer %s, connected to %q", response.Status, c.Owner(gwtest.OfficialAccount))
	}
}
