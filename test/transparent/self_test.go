// SPDX-License-Identifier: Apache-2.0

package transparent_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

const greetingJSON = `{"touser":"o-alice","msgtype":"text","text":{"content":"你好"}}`

// turn makes the gateway take api for WeChat.
func turn(g *gwtest.Gateway, api ...string) {
	g.Change(func(o *gwtest.Options) { o.API = api })
	http.DefaultClient.CloseIdleConnections() // those of the servers before
}

// send sends a customer message with a gateway token.
func send(g *gwtest.Gateway, token string) (status int, slug, body string) {
	response, body := g.Do(http.MethodPost, sendPath+"?access_token="+token, greetingJSON, http.Header{"Content-Type": {"application/json"}})
	return response.StatusCode, response.Header.Get("Wechat-Gateway-Error"), body
}

// Where DNS leads the gateway to itself as well, and the machine does not trust
// Caddy's authority, nothing is sent: neither an application's call with the
// real token, nor the gateway's own with the app secret.
func TestGatewayDoesNotTrustItself(t *testing.T) {
	t.Run("with tokens", func(t *testing.T) {
		g := start(t, gwtest.Options{})
		if status, slug, _ := logInAs(g, "nobody"); status != http.StatusOK || slug != "" { // WeChat refuses the code
			t.Fatalf("answered %d %s", status, slug)
		}
		wantNothingSentToItself(t, g)
	})
	t.Run("without tokens", func(t *testing.T) {
		g := start(t, gwtest.Options{Quiet: true})
		if err := g.WeChat.PushTicket(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantNothingSentToItself(t, g)
	})
}

func logInAs(g *gwtest.Gateway, code string) (status int, slug, body string) {
	query := url.Values{"appid": {gwtest.MiniProgram}, "secret": {gwtest.ClientSecret}, "js_code": {code}, "grant_type": {"authorization_code"}}
	response, body := g.Do(http.MethodGet, "/sns/jscode2session?"+query.Encode(), "", nil)
	return response.StatusCode, response.Header.Get("Wechat-Gateway-Error"), body
}

func wantNothingSentToItself(t *testing.T, g *gwtest.Gateway) {
	t.Helper()
	turn(g, "https://"+strings.Replace(g.Sites, "127.0.0.1", host, 1))
	if status, slug, body := logInAs(g, "nobody"); status != http.StatusBadGateway || slug != "unreachable" {
		t.Errorf("answered %d %s %s, want 502 unreachable", status, slug, body)
	}
	if !strings.Contains(g.Logs(), "certificate signed by unknown authority") {
		t.Error("the log does not say that the certificate is not trusted")
	}
	if found := requests(g); len(found) != 0 {
		t.Errorf("the gateway sent itself %+v", found)
	}
}

// Where the machine does trust Caddy's authority, the gateway calls itself,
// notices, and says so. That ends once api names other hosts.
func TestGatewayThatCalledItselfRecovers(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	if status, _, body := send(g, token); status != http.StatusOK || !strings.Contains(body, `"errcode":0`) {
		t.Fatalf("answered %d %s", status, body)
	}
	g.WeChat.ResetCounts()
	turn(g, g.Proxy)
	if status, slug, body := send(g, token); slug != "loop" {
		t.Errorf("answered %d %s %s, want loop", status, slug, body)
	}
	if n := g.WeChat.Count(sendPath); n != 0 {
		t.Errorf("WeChat saw %d sends, want none", n)
	}
	turn(g, g.API)
	await(t, g, "the gateway to recover", func() bool {
		_, _, body := send(g, token)
		return strings.Contains(body, `"errcode":0`)
	})
}
