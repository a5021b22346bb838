// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// startWithApplication starts a gateway that knows both accounts, and an application that
// gets what is pushed for them.
func startWithApplication(t *testing.T, o gwtest.Options) (*gwtest.Gateway, *gwtest.Application) {
	t.Helper()
	application := gwtest.NewApplication()
	o.Clients = anyAccount(t, application)
	g := gwtest.Start(t, o)
	awaitProfiles(t, g)
	return g, application
}

// awaitProfiles waits until the gateway knows both accounts.
func awaitProfiles(t *testing.T, g *gwtest.Gateway) {
	t.Helper()
	eventually(t, "both profiles are stored", func() bool { return g.HasProfile(gwtest.OfficialAccount) && g.HasProfile(gwtest.MiniProgram) }, g.Logs)
}

// A push that somebody has captured is delivered to nobody in the path of another account,
// whichever comes first, and after a restart as well. The account itself still gets it.
func TestACapturedPushForAnotherAccount(t *testing.T) {
	g, application := startWithApplication(t, gwtest.Options{Watch: true})
	path := func(appid string) string { return g.Platform + "/wechat/messages/" + appid }
	send := func(push sandbox.Push, appid string) {
		t.Helper()
		push.To, push.Attempts = []string{path(appid)}, 1
		if answer, err := g.WeChat.Push(t.Context(), push); err != nil || answer.Status != http.StatusOK || answer.Shown != sandbox.ShownSilence {
			t.Errorf("%+v, %v", answer, err)
		}
	}
	stolen := g.WeChat.Text(gwtest.OfficialAccount, "follower", "for the official account")
	send(stolen, gwtest.MiniProgram)
	send(sandbox.Push{Replay: true}, gwtest.MiniProgram)
	if n := application.Count("for the official account"); n != 0 {
		t.Fatalf("delivered %d times", n)
	}
	send(sandbox.Push{Replay: true}, gwtest.OfficialAccount)
	eventually(t, "the account gets it", func() bool { return application.Count("for the official account") == 1 })

	g.Restart(t, func() {})
	send(sandbox.Push{Replay: true}, gwtest.MiniProgram)
	send(g.WeChat.Text(gwtest.MiniProgram, "follower", "for the mini program"), gwtest.OfficialAccount)
	if n := application.Count("for the "); n != 1 {
		t.Errorf("delivered %d times", n)
	}
	if warning := "a message of another account was pushed to the path of this one, nobody gets it"; !strings.Contains(g.Logs(), warning) {
		t.Errorf("no warning:\n%s", g.Logs())
	}
}

// An admin who grants other permission sets: the applications are told.
func TestPermissionsChangedIsDelivered(t *testing.T) {
	g, application := startWithApplication(t, gwtest.Options{})
	if err := g.WeChat.AddAccount(sandbox.Account{AppID: gwtest.OfficialAccount, FuncInfo: []int{1, 2, 3, 4, 7, 11, 99}}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.WeChat.UpdateAuthorized(t.Context(), gwtest.OfficialAccount); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the news", func() bool { return application.Count("<InfoType>gateway_permissions_changed</InfoType>") == 1 })
	if application.Count("granted 99; withdrawn 15") != 1 {
		t.Errorf("%+v", application.Deliveries())
	}
}

// Accounts of a release that knew no profiles are learnt by the first call or push, which
// does not wait for it; the gateway needs neither for anything else.
func TestAccountsWithoutAProfile(t *testing.T) {
	const info = "/cgi-bin/component/api_get_authorizer_info"
	application := gwtest.NewApplication()
	g, wechat := startHolding(t, gwtest.Options{Clients: anyAccount(t, application)}, info)
	awaitProfiles(t, g)
	var release func()
	g.Restart(t, func() {
		if err := os.RemoveAll(filepath.Join(g.Storage, "wechat", g.WeChat.Component(), "profiles")); err != nil {
			t.Fatal(err)
		}
		release = wechat.hold(t)
	})
	if answer := g.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)); answer.ErrCode != 0 {
		t.Errorf("%s", answer.Body)
	}
	answer, err := g.WeChat.Push(t.Context(), g.WeChat.Text(gwtest.MiniProgram, "follower", "hello"))
	if err != nil || answer.Shown != sandbox.ShownSilence || answer.Attempts != 1 || application.Count("hello") != 1 {
		t.Errorf("%+v, %v, %d deliveries", answer, err, application.Count("hello"))
	}
	if g.HasProfile(gwtest.OfficialAccount) || g.HasProfile(gwtest.MiniProgram) {
		t.Error("a profile is known that WeChat has not told")
	}
	release()
	awaitProfiles(t, g)
	if n := g.WeChat.Count(info); n != 2 {
		t.Errorf("%d questions", n)
	}
}
