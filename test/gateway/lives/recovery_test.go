// SPDX-License-Identifier: Apache-2.0

package lives_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

const userPath = "/cgi-bin/user/get?access_token="

// A restart costs WeChat nothing: tokens are found in storage, and gateway
// tokens issued before go on working.
func TestRestartFindsEverythingInStorage(t *testing.T) {
	g := gwtest.StartSettled(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	g.Restart(t, func() {})
	if answer := g.Get(userPath + token); strings.Contains(answer, "errcode") {
		t.Errorf("answer %s", answer)
	}
	for _, call := range g.WeChat.Calls() {
		if strings.HasPrefix(call.Path, "/cgi-bin/component/") {
			t.Errorf("the restart cost a call of %s", call.Path)
		}
	}
}

// The worst day of the others, all refresh tokens lost: here every authorizer
// comes back by itself from the app secret and the next ticket.
func TestEmptiedStorageRebuildsItself(t *testing.T) {
	g := gwtest.StartSettled(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	g.Restart(t, func() {
		if err := os.RemoveAll(filepath.Join(g.Storage, "wechat")); err != nil {
			t.Fatal(err)
		}
	})
	if err := g.WeChat.PushTicket(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if answer := g.Get(userPath + token); strings.Contains(answer, "errcode") {
			t.Errorf("the gateway token issued before answers %s", answer)
		}
		g.WantSuccess(t, gwtest.MiniProgram)
	}
	if n := g.WeChat.Count("/cgi-bin/component/api_get_authorizer_info"); n != 2 {
		t.Errorf("%d api_get_authorizer_info calls for two authorizers", n)
	}
}

// A wrong seal key must not cost what the right one can still open.
func TestWrongAppSecretKeepsRecordsAside(t *testing.T) {
	g := gwtest.StartSettled(t, gwtest.Options{})
	appSecret, _, _ := g.WeChat.Keys()
	before := g.StoredRecords(t)
	config := strings.Replace(g.Caddyfile(), appSecret, strings.Repeat("w", 32), 1)
	g.Restart(t, func() {})
	g.LoadCaddyfile(config)
	_ = g.WeChat.PushTicket(t.Context())
	g.Get("/cgi-bin/token?grant_type=client_credential&appid=" + gwtest.OfficialAccount + "&secret=" + gwtest.ClientSecret)

	if !strings.Contains(g.Logs(), "stored record does not open") || !strings.Contains(g.Logs(), "configure the previous one as well") {
		t.Error("the log does not say what is wrong and what to do")
	}
	after := g.StoredRecords(t)
	for path, content := range before {
		kept := after[path] == content
		for other, aside := range after {
			kept = kept || strings.HasPrefix(other, path+".unreadable-") && aside == content
		}
		if !kept {
			t.Errorf("%s is lost", filepath.Base(path))
		}
	}
}

// A change of the app secret: the current and the previous one are
// configured, and nothing has to be fetched anew.
func TestAppSecretIsExchangedWithoutLoss(t *testing.T) {
	g := gwtest.StartSettled(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	old, _, _ := g.WeChat.Keys()
	next := g.WeChat.RotateAppSecret("")
	g.WeChat.ResetCounts()
	g.LoadCaddyfile(strings.Replace(g.Caddyfile(), next, next+" "+old, 1))
	if answer := g.Get(userPath + token); strings.Contains(answer, "errcode") {
		t.Errorf("a gateway token issued before answers %s", answer)
	}
	g.WantSuccess(t, gwtest.MiniProgram)
	if n := g.WeChat.Count("/cgi-bin/component/api_get_authorizer_info"); n != 0 {
		t.Errorf("%d records had to be rebuilt", n)
	}
}

// After the account withdraws, its calls end with 61003 and WeChat is not
// asked again and again; a new authorisation revives it.
func TestWithdrawnAuthorizerIsRefusedUntilItAuthorizesAgain(t *testing.T) {
	g := gwtest.StartSettled(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	if err := g.WeChat.Revoke(t.Context(), gwtest.OfficialAccount); err != nil {
		t.Fatal(err)
	}
	g.WeChat.ResetCounts()
	for range 10 {
		if answer := g.Get(userPath + token); !strings.Contains(answer, `"errcode":61003`) {
			t.Fatalf("answer %s", answer)
		}
	}
	if answer := g.Get("/cgi-bin/token?grant_type=client_credential&appid=" + gwtest.OfficialAccount + "&secret=" + gwtest.ClientSecret); !strings.Contains(answer, `"errcode":61003`) {
		t.Errorf("the token endpoint answers %s", answer)
	}
	if n := len(g.WeChat.Calls()); n != 0 {
		t.Errorf("WeChat was called %d times for an account that has withdrawn", n)
	}
	if _, err := g.WeChat.Authorize(t.Context(), gwtest.OfficialAccount); err != nil {
		t.Fatal(err)
	}
	if answer := g.Get(userPath + token); strings.Contains(answer, "errcode") {
		t.Errorf("after the account has authorized again: %s\n%s", answer, g.Logs())
	}
}

// The unauthorized event never arrived; the first refused call makes up for it.
func TestLostUnauthorizedEventIsMadeUpFor(t *testing.T) {
	g := gwtest.StartSettled(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	if answer := g.Get(userPath + token); strings.Contains(answer, "errcode") {
		t.Fatal(answer)
	}
	g.WeChat.SetURLs("http://127.0.0.1:1/", "http://127.0.0.1:1/")
	if err := g.WeChat.Revoke(t.Context(), gwtest.OfficialAccount); err == nil {
		t.Fatal("the event has arrived")
	}
	for range 100 {
		g.WeChat.ResetCounts()
		if answer := g.Get(userPath + token); !strings.Contains(answer, "61003") {
			t.Fatalf("answer %s", answer)
		}
		if len(g.WeChat.Calls()) == 0 {
			return // the gateway knows, and no longer asks
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("WeChat is called again and again for an account that has withdrawn")
}
