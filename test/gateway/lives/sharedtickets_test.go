// SPDX-License-Identifier: Apache-2.0

package lives_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Tickets with which applications sign outlive a configuration, but not the process, nor
// the account's authorization, nor the client that has fetched them.
func TestSharedTicketsOverReloadsAndRestarts(t *testing.T) {
	const path = "/cgi-bin/ticket/getticket"
	g := gwtest.StartSettled(t, gwtest.Options{
		Sandbox: sandbox.Config{Switches: sandbox.Switches{NewSharedTickets: true}},
		Clients: gwtest.ManyClients(),
		Wechat:  "seal_key " + base64.StdEncoding.EncodeToString(make([]byte, 32)),
	})
	ask := func(clientSecret string) gwtest.Reply {
		return g.Ask(http.MethodGet, path+"?type=jsapi", "", gwtest.Bearer(clientSecret, gwtest.OfficialAccount))
	}
	var served string
	same := func(when string) {
		t.Helper()
		answer := ask(gwtest.ClientSecret)
		if ticket := g.WeChat.ValidToken(sandbox.KindJSAPI, gwtest.OfficialAccount); !strings.Contains(answer.Body, `"ticket":"`+ticket+`"`) {
			t.Errorf("%s: answered %s", when, answer.Body)
		} else if served != "" && ticket != served {
			t.Errorf("%s: WeChat was asked again", when)
		} else {
			served = ticket
		}
	}
	same("at first")
	g.Load()
	same("after a reload")
	g.WeChat.RotateAppSecret("")
	g.Load()
	same("with another app secret")
	g.Change(func(o *gwtest.Options) { o.Clients = gwtest.ShopClient })
	same("without the other clients")
	if answer := ask(gwtest.SoloSecret); answer.Slug != "bearer" {
		t.Errorf("a client that is gone is answered %s", answer.Body)
	}
	g.Change(func(o *gwtest.Options) {
		o.Clients = strings.Replace(gwtest.ShopClient, "authorizers *", "authorizers "+gwtest.MiniProgram, 1)
	})
	if answer := ask(gwtest.ClientSecret); answer.ErrCode != 61003 || answer.Slug != "not_authorized" {
		t.Errorf("a client that has lost the account is answered %s", answer.Body)
	}
	g.Change(func(o *gwtest.Options) { o.Clients = gwtest.ManyClients() })
	same("with the account again")

	g.Restart(t, func() {})
	before := served
	served = ""
	same("after a restart")
	if served == before {
		t.Error("the ticket outlived the process")
	}
	for name, file := range g.StoredRecords(t) {
		if strings.Contains(file, served) {
			t.Errorf("the ticket stands in %s", name)
		}
	}
	if err := g.WeChat.Revoke(t.Context(), gwtest.OfficialAccount); err != nil {
		t.Fatal(err)
	}
	if answer := ask(gwtest.ClientSecret); answer.ErrCode != 61003 || answer.Slug != "not_authorized" {
		t.Errorf("after the withdrawal answered %s", answer.Body)
	}
}
