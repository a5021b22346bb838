// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// sharedTicket is an account's call of ticket/getticket.
func (w *world) sharedTicket(token, kind string) answer {
	w.t.Helper()
	return w.get("/cgi-bin/ticket/getticket?access_token=" + token + "&type=" + kind)
}

func TestSharedTicketIsTheSameWhileItLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Config{})
		component := w.componentToken()
		token, _ := w.authorizer(component, official)
		other, _ := w.authorizer(component, mini)
		first := w.sharedTicket(token, "jsapi")
		if !strings.HasPrefix(first.text("ticket"), "JSAPITICKET-") || first["expires_in"] != 7200.0 || first["errmsg"] != "ok" {
			t.Errorf("%v", first)
		}
		card, others := w.sharedTicket(token, "wx_card").text("ticket"), w.sharedTicket(other, "jsapi").text("ticket")
		if card == "" || others == "" || card == others || card == first.text("ticket") || others == first.text("ticket") {
			t.Errorf("tickets of two kinds or accounts are the same: %s %s", card, others)
		}
		if w.ValidToken(sandbox.KindJSAPI, official) != first.text("ticket") || w.ValidToken(sandbox.KindCard, official) != card {
			t.Error("ValidToken does not know the tickets")
		}
		time.Sleep(time.Hour)
		if again := w.sharedTicket(token, "jsapi"); again.text("ticket") != first.text("ticket") || again["expires_in"] != 3600.0 {
			t.Errorf("after an hour %v, want %v", again, first)
		}
		time.Sleep(time.Hour)
		if got := w.ValidToken(sandbox.KindJSAPI, official); got != "" {
			t.Errorf("%s is said to be valid after two hours", got)
		}
		token, _ = w.authorizer(w.componentToken(), official)
		if next := w.sharedTicket(token, "jsapi"); next.text("ticket") == first.text("ticket") || next["expires_in"] != 7200.0 {
			t.Errorf("after two hours %v", next)
		}
		w.wantCode("another type", w.sharedTicket(token, "other"), 40097)
		w.wantCode("by POST", w.post("/cgi-bin/ticket/getticket?type=jsapi&access_token="+token, "{}"), 43001)
		w.wantCode("a component's token", w.sharedTicket(w.componentToken(), "jsapi"), 61015)
	})
}

func TestSharedTicketIsAnotherWhereWeChatSaysSo(t *testing.T) {
	w := newWorld(t, sandbox.Config{Switches: sandbox.Switches{NewSharedTickets: true}})
	token, _ := w.authorizer(w.componentToken(), official)
	first, second := w.sharedTicket(token, "jsapi").text("ticket"), w.sharedTicket(token, "jsapi").text("ticket")
	if first == second || w.ValidToken(sandbox.KindJSAPI, official) != second {
		t.Errorf("%s, then %s", first, second)
	}
	w.must(w.Revoke(t.Context(), official))
	if got := w.ValidToken(sandbox.KindJSAPI, official); got != "" {
		t.Errorf("%s outlives the authorization", got)
	}
}
