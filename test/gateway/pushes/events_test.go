// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// tenants is a gateway with two applications of different accounts, one that may act
// for both, and one of the platform itself.
type tenants struct {
	*gwtest.Gateway
	t                         *testing.T
	first, second, both, team *gwtest.Application
}

const (
	firstAccount  = gwtest.OfficialAccount
	secondAccount = gwtest.MiniProgram
)

func startTenants(t *testing.T, o gwtest.Options) *tenants {
	t.Helper()
	w := &tenants{t: t, first: gwtest.NewApplication(), second: gwtest.NewApplication(), both: gwtest.NewApplication(), team: gwtest.NewApplication()}
	block := func(name, rights string, app *gwtest.Application) string {
		return fmt.Sprintf("client %s {\nsecret %s-secret-0123456789abcdef0123456789\n%s\ndeliver %s/hook {\ntoken %sTOKEN\n}\n}\n",
			name, name, rights, gwtest.Serve(t, app), strings.ToUpper(name))
	}
	o.Clients = gwtest.ShopClient + block("first", "authorizers "+firstAccount, w.first) + block("second", "authorizers "+secondAccount, w.second) +
		block("both", "authorizers *", w.both) + block("team", "component_api", w.team)
	w.Gateway = gwtest.Start(t, o)
	return w
}

// eventually is the function of that name, for the test of this world.
func (w *tenants) eventually(what string, condition func() bool) {
	w.t.Helper()
	eventually(w.t, what, condition, w.Logs)
}

// push pushes a text and pushes it again, signed anew.
func (w *tenants) push(plain string) {
	w.t.Helper()
	for range 2 {
		if answer, err := w.WeChat.Push(w.t.Context(), sandbox.Push{Plain: plain, Attempts: 1}); err != nil || answer.Body != "success" {
			w.t.Fatalf("%+v, %v\n%s", answer, err, w.Logs())
		}
	}
}

// The results of one request of the platform come in one event: each tenant gets
// those of its own accounts.
func TestAListOfAccountsIsSharedAmongTenants(t *testing.T) {
	w := startTenants(t, gwtest.Options{Quiet: true})
	head := "<xml><AppId>" + sandbox.DefaultComponent + "</AppId><CreateTime>1700000000</CreateTime><InfoType>order_path_apply_result_notify</InfoType>"
	entry := func(appid string) string { return "<list><appid>" + appid + "</appid><ret_code>0</ret_code></list>" }
	w.push(head + entry(firstAccount) + entry(secondAccount) + "</xml>")
	want := map[*gwtest.Application]string{
		w.first:  head + entry(firstAccount) + "</xml>",
		w.second: head + entry(secondAccount) + "</xml>",
		w.both:   head + entry(firstAccount) + entry(secondAccount) + "</xml>",
		w.team:   head + entry(firstAccount) + entry(secondAccount) + "</xml>",
	}
	appids := map[*gwtest.Application]string{w.first: firstAccount, w.second: secondAccount, w.both: firstAccount, w.team: sandbox.DefaultComponent}
	ids := make(map[string]bool)
	for app, body := range want {
		w.eventually("every application gets it", func() bool { return app.Count("order_path") == 1 })
		got := app.Deliveries()[0]
		if got.Body != body || got.Query.Get("appid") != appids[app] {
			t.Errorf("appid %s: %s\nwant %s: %s", got.Query.Get("appid"), got.Body, appids[app], body)
		}
		ids[got.Query.Get("event_id")] = true
	}
	if len(ids) != 1 {
		t.Errorf("event ids %v, want one", ids)
	}
	w.onceEach("order_path")
}

// onceEach checks that no application got an event twice, after another one came
// that was pushed later.
func (w *tenants) onceEach(part string) {
	w.t.Helper()
	w.push("<xml><AppId>" + sandbox.DefaultComponent + "</AppId><InfoType>the_last</InfoType><list><appid>" + firstAccount +
		"</appid></list><list><appid>" + secondAccount + "</appid></list></xml>")
	for _, app := range []*gwtest.Application{w.first, w.second, w.both, w.team} {
		w.eventually("the last event comes", func() bool { return app.Count("the_last") == 1 })
		if n := app.Count(part); n > 1 {
			w.t.Errorf("%d deliveries of %s", n, part)
		}
	}
}

// Some notices are documented as JSON.
func TestAnEventInJSONIsDelivered(t *testing.T) {
	w := startTenants(t, gwtest.Options{Quiet: true})
	w.push(`{"AppId":"` + sandbox.DefaultComponent + `","CreateTime":1700000000,"InfoType":"notify_3rd_wxa_auth","appid":"` + firstAccount +
		`","auth_code":"queryauthcode@@@x","info":{"name":"a` + "\x1d" + `b","access_token":"y"}}`)
	w.eventually("the tenant gets it", func() bool { return w.first.Count("notify_3rd_wxa_auth") == 1 })
	want := `{"AppId":"` + sandbox.DefaultComponent + `","CreateTime":1700000000,"InfoType":"notify_3rd_wxa_auth","appid":"` + firstAccount +
		`","auth_code":null,"info":{"name":"a b","access_token":null}}`
	if got := w.first.Deliveries()[0]; got.Body != want || got.Query.Get("appid") != firstAccount {
		t.Errorf("%s: %s", got.Query.Get("appid"), got.Body)
	}
	w.onceEach("notify_3rd_wxa_auth")
	if w.second.Count("notify_3rd_wxa_auth") != 0 || w.team.Count("notify_3rd_wxa_auth") != 0 {
		t.Error("an application without the account got it")
	}
}

// What cannot be read without its credentials is not acknowledged; tickets go on.
func TestAnEventThatCannotBeRedactedIsNotAcknowledged(t *testing.T) {
	w := startTenants(t, gwtest.Options{Quiet: true})
	deep := `{"AppId":"` + sandbox.DefaultComponent + `","InfoType":"notify_3rd_wxa_auth","appid":"` + firstAccount + `","a":` +
		strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`
	answer, err := w.WeChat.Push(t.Context(), sandbox.Push{Plain: deep})
	if err == nil || answer.Status != http.StatusServiceUnavailable || answer.Attempts != 3 {
		t.Errorf("%+v, %v", answer, err)
	}
	if err := w.WeChat.PushTicket(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestControlCharactersDoNotLoseAnEvent(t *testing.T) {
	w := startTenants(t, gwtest.Options{Quiet: true})
	if err := w.WeChat.PushEvent(t.Context(), "notify_3rd_wxa_auth", "<appid>"+firstAccount+"</appid><name><![CDATA[a\x1db]]></name>"); err != nil {
		t.Fatal(err)
	}
	w.eventually("the tenant gets it", func() bool { return w.first.Count("<name>a b</name>") == 1 })
}

// Several events without any mark of their own come within a second. Those that
// differ are two; the same one in several copies, each signed anew, is one.
func TestAnEventIsKnownByItsText(t *testing.T) {
	w := startTenants(t, gwtest.Options{Quiet: true})
	text := func(id int) string {
		return fmt.Sprintf("<xml><AppId>%s</AppId><CreateTime>1700000000</CreateTime><InfoType>notify_icpfiling_verify_result</InfoType>"+
			"<appid>%s</appid><audit_id>%d</audit_id></xml>", sandbox.DefaultComponent, firstAccount, id)
	}
	var pushes sync.WaitGroup
	for range 3 {
		for id := range 4 {
			pushes.Go(func() { w.push(text(id)) })
		}
	}
	pushes.Wait()
	w.eventually("all come", func() bool { return w.first.Count("icpfiling") >= 4 })
	w.onceEach("nothing")
	for id := range 4 {
		if n := w.first.Count(fmt.Sprintf("<audit_id>%d<", id)); n != 1 {
			t.Errorf("%d deliveries of event %d", n, id)
		}
	}
}
