// SPDX-License-Identifier: Apache-2.0

package lives_test

import (
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// Between the reset in WeChat's console and the reload the component token dies,
// so that the new app secret is needed at once. What needs no new token goes
// on; what does is told so, and comes right by itself after the reload.
func TestRotationOfTheAppSecretWhileTheComponentTokenDies(t *testing.T) {
	r := newRotation(t, "")
	old, _, _ := r.WeChat.Keys()
	next := r.WeChat.RotateAppSecret("")
	r.WeChat.KillTokens(r.WeChat.Component())
	r.WeChat.KillTokens(gwtest.MiniProgram)
	call := func(appid string) gwtest.Reply {
		return r.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, appid))
	}

	if answer := call(gwtest.OfficialAccount); answer.ErrCode != 0 {
		t.Errorf("an account whose token lives: %s", answer.Body)
	}
	for what, answer := range map[string]gwtest.Reply{
		"an account whose token must be renewed": call(gwtest.MiniProgram),
		"a call of the component's level":        r.Ask(http.MethodGet, gwtest.ComponentPath, "", gwtest.Bearer(gwtest.PlatformSecret, "")),
	} {
		if answer.Status != http.StatusServiceUnavailable || answer.ErrCode != -1 || answer.Slug != "rejected" {
			t.Errorf("%s: %d %s %s", what, answer.Status, answer.Slug, answer.Body)
		}
	}
	if !r.logged(`"renewing token failed"`, "check app_secret") {
		t.Error("the log does not say what is wrong")
	}
	if err := r.WeChat.PushTicket(t.Context()); err != nil { // ends the pause; the secret is wrong still
		t.Error(err)
	}
	r.agrees(newAccount) // its code cannot be exchanged yet

	r.give("app_secret", next, old)
	for _, appid := range []string{gwtest.MiniProgram, newAccount} {
		r.until(appid+" works again", func() bool { return call(appid).ErrCode == 0 })
	}
	r.until("the component works again", func() bool {
		return r.Ask(http.MethodGet, gwtest.ComponentPath, "", gwtest.Bearer(gwtest.PlatformSecret, "")).ErrCode == 0
	})
	r.until("the profile of the new account is stored", func() bool { return r.HasProfile(newAccount) })
	if n := r.WeChat.Count(authorizerInfo); n != 1 {
		t.Errorf("%d questions, want one for the new account: records had to be rebuilt", n)
	}
	r.wantNothingLost(newAccount)
}

// The previous app secret is forgotten, and the gateway restarted as well, so
// that it has only what is stored. The log says what to do; accounts that are
// called for come back at one question each; and when the previous one is
// configured after all, everything else is there again.
func TestRotationWithThePreviousAppSecretForgotten(t *testing.T) {
	r := newRotation(t, "")
	old, _, _ := r.WeChat.Keys()
	r.give("app_secret", old)
	token := r.Token(gwtest.OfficialAccount)
	r.app.AnswerWith(func(url.Values, string) (int, string) { return http.StatusInternalServerError, "" })
	event := func(serial string) {
		if err := r.WeChat.PushEvent(t.Context(), "notify_3rd_wxa_auth", "<appid>"+gwtest.MiniProgram+"</appid><Serial>"+serial+"</Serial>"); err != nil {
			t.Fatal(err)
		}
	}
	event("waiting")
	r.until("the event was not delivered", func() bool { return r.app.Count("waiting") > 0 })
	before := r.files()

	next := r.WeChat.RotateAppSecret("")
	r.give("app_secret", next)
	if answer := r.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)); answer.ErrCode != 0 {
		t.Errorf("what is in memory goes on: %s", answer.Body)
	}
	if answer := r.AskGet(gwtest.AuthorizerPath + "?access_token=" + token); answer.ErrCode != 40001 {
		t.Errorf("a gateway token issued before: %s", answer.Body)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	r.WeChat.ResetCounts()
	r.LoadCaddyfile(r.config)
	r.until("the account comes back", func() bool {
		return r.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)).ErrCode == 0
	})
	if n := r.WeChat.Count(authorizerInfo); n != 1 {
		t.Errorf("%d questions for one account", n)
	}
	if !r.logged("stored record does not open", "configure the previous one as well") {
		t.Error("the log does not say what to do")
	}
	r.until("the event is set aside", func() bool { return r.logged("event does not open, set aside") })
	r.wantKept(before)

	r.app.AnswerWith(gwtest.Success)
	r.give("app_secret", next, old)
	if answer := r.AskGet(gwtest.AuthorizerPath + "?access_token=" + token); answer.ErrCode != 0 {
		t.Errorf("a gateway token issued before works again: %s", answer.Body)
	}
	if r.reseal() == 0 {
		t.Error("nothing was sealed anew or put back")
	}
	event("another") // the queue is looked at again
	r.until("both events are delivered", func() bool { return r.app.Count("waiting") > 1 && r.app.Count("another") == 1 })
	r.give("app_secret", next)
	r.wantNothingLost()
}

// Who removes the previous seal key without caddy wechat reseal loses no
// account: those that were idle cost a question each when they are used again.
func TestRotationOfTheSealKeyWithoutReseal(t *testing.T) {
	r := newRotation(t, "seal_key "+sealKey("o"))
	r.give("seal_key", sealKey("n"), sealKey("o"))
	before := r.files()
	r.give("seal_key", sealKey("n"))
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	r.WeChat.ResetCounts()
	r.LoadCaddyfile(r.config)
	r.until("the idle account comes back", func() bool {
		return r.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, idleAccount)).ErrCode == 0
	})
	if n := r.WeChat.Count(authorizerInfo); n != 1 {
		t.Errorf("%d questions for one account", n)
	}
	r.wantKept(before)
}

// wantKept fails unless each of these files stands where it stood, or aside.
// Events, news and the marks of codes that are being exchanged come and go, and nodes note
// when they have compared the index.
func (r *rotation) wantKept(before map[string]string) {
	r.Helper()
	after := r.files()
	for name, content := range before {
		kept := after[name] == content || strings.HasPrefix(name, "events/") || strings.HasPrefix(name, "news/") || strings.HasPrefix(name, "pending/") || path.Dir(name) == "states"
		for other, aside := range after {
			kept = kept || strings.HasPrefix(other, name+".unreadable-") && aside == content
		}
		if !kept {
			r.Errorf("%s is lost", name)
		}
	}
}
