// SPDX-License-Identifier: Apache-2.0

package transparent_test

import (
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// client is an SDK that acts for the mini program with a secret.
type client interface {
	login(secret, code string) (openid string, err error)
	token(secret string) (string, error)
	send(secret, to, text string) error
}

// begin starts a gateway and an SDK that can reach nothing else.
type begin func(t *testing.T) (*gwtest.Gateway, client)

// keepPromises asks of an SDK what it could do at WeChat itself. It speaks the
// protocol.
func keepPromises(t *testing.T, protocol string, begin begin) {
	for name, promise := range map[string]func(*testing.T, *gwtest.Gateway, client){
		"login":                           logsIn,
		"the token is the gateway's":      getsGatewayToken,
		"message":                         sends,
		"a killed token heals unnoticed":  sendsWithKilledToken,
		"a wrong secret is a clear error": learnsOfWrongSecret,
	} {
		t.Run(name, func(t *testing.T) {
			g, sdk := begin(t)
			promise(t, g, sdk)
			wantName(t, g, protocol)
			wantNothingOfOurs(t, g)
		})
	}
}

func logsIn(t *testing.T, g *gwtest.Gateway, sdk client) {
	code := g.WeChat.NewUserCode(gwtest.MiniProgram, "alice")
	openid, err := sdk.login(gwtest.ClientSecret, code)
	if err != nil {
		t.Fatal(err)
	}
	if want := g.WeChat.OpenID(gwtest.MiniProgram, "alice"); openid != want {
		t.Errorf("logged in as %q, want %q", openid, want)
	}
}

func getsGatewayToken(t *testing.T, g *gwtest.Gateway, sdk client) {
	token, err := sdk.token(gwtest.ClientSecret)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(token, "gw1.") {
		t.Errorf("the SDK holds %.8s…, want a gateway token", token)
	}
	wantNoCalls(t, g, "/cgi-bin/token", "/cgi-bin/stable_token")
}

func sends(t *testing.T, g *gwtest.Gateway, sdk client) {
	if err := sdk.send(gwtest.ClientSecret, "o-alice", greeting); err != nil {
		t.Fatal(err)
	}
	wantMessage(t, g, gwtest.MiniProgram, "o-alice")
}

func sendsWithKilledToken(t *testing.T, g *gwtest.Gateway, sdk client) {
	if err := sdk.send(gwtest.ClientSecret, "o-alice", "你好"); err != nil {
		t.Fatal(err)
	}
	g.WeChat.ResetCounts()
	g.WeChat.KillTokens(gwtest.MiniProgram)
	if err := sdk.send(gwtest.ClientSecret, "o-alice", greeting); err != nil {
		t.Fatalf("the SDK noticed: %v", err)
	}
	wantMessage(t, g, gwtest.MiniProgram, "o-alice")
	if n := g.WeChat.Count("/cgi-bin/component/api_authorizer_token"); n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
}

func learnsOfWrongSecret(t *testing.T, g *gwtest.Gateway, sdk client) {
	const wrong = "not-the-secret-0123456789abcdef012345"
	_, atLogin := sdk.login(wrong, g.WeChat.NewUserCode(gwtest.MiniProgram, "alice"))
	_, atToken := sdk.token(wrong)
	for what, err := range map[string]error{"login": atLogin, "token": atToken} {
		if err == nil || !strings.Contains(err.Error(), "invalid appsecret, use the client's secret at the gateway") {
			t.Errorf("%s: %v, want an error that names the secret", what, err)
		}
	}
	wantNoCalls(t, g, "/cgi-bin/token", "/cgi-bin/stable_token", "/sns/jscode2session", "/sns/component/jscode2session")
}

func wantNoCalls(t *testing.T, g *gwtest.Gateway, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if n := g.WeChat.Count(path); n != 0 {
			t.Errorf("WeChat saw %d calls to %s, want none", n, path)
		}
	}
}
