// SPDX-License-Identifier: Apache-2.0

// Package operate_test shows that an operator sees what goes on in a whole gateway, and
// can act on it.
package operate_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// operated is a gateway with its operator.
type operated struct {
	*gwtest.Gateway
	t *testing.T
}

func start(t *testing.T, o gwtest.Options) operated {
	t.Helper()
	o.Watch = true
	return operated{gwtest.Start(t, o), t}
}

// ask makes a request to the admin API and reads its answer into one of these.
func (g operated) ask(method, uri string, answer any) (status int) {
	g.t.Helper()
	status, body := g.Admin(method, uri)
	if err := json.Unmarshal(body, answer); err != nil {
		g.t.Fatalf("%s %s: %d %s: %v", method, uri, status, body, err)
	}
	return status
}

// must is ask for a request that succeeds.
func must[Answer any](g operated, method, uri string) (answer Answer) {
	g.t.Helper()
	if status := g.ask(method, uri, &answer); status != http.StatusOK {
		g.t.Fatalf("%s %s: %d", method, uri, status)
	}
	return answer
}

// eventually waits until something has happened, as long as a busy machine may need.
func (g operated) eventually(what string, happened func() bool) {
	g.t.Helper()
	for end := time.Now().Add(time.Minute); !happened(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			g.t.Fatalf("in vain: %s", what)
		}
	}
}

func account(action ...string) string {
	return strings.Join(append([]string{"/wechat/accounts/" + gwtest.OfficialAccount}, action...), "/")
}

// An operator's first questions: is it well, which accounts are there, what has WeChat
// pushed; and what is there to see of an account that has left, until it is forgotten.
func TestAnOperatorSeesWhatGoesOn(t *testing.T) {
	g := start(t, gwtest.Options{})
	g.Settle()
	var s operate.Status
	g.eventually("all accounts are counted", func() bool {
		s = must[operate.Status](g, http.MethodGet, "/wechat/status")
		return s.Components[0].Accounts.Counted && s.Components[0].Accounts.Authorized == 2
	})
	if s.Level != operate.LevelWell || len(s.Warnings) != 0 || s.Components[0].Received.IsZero() || s.Components[0].Expires.IsZero() || !s.Storage.OK || s.Version == "" {
		t.Errorf("the status is %+v", s)
	}
	if ready := must[operate.Live](g, http.MethodGet, "/wechat/health/ready"); ready.Status != "ok" {
		t.Errorf("it is %+v", ready)
	}
	list := must[operate.Accounts](g, http.MethodGet, "/wechat/accounts")
	if len(list.Items) != 2 || list.Items[0].AppID != gwtest.OfficialAccount || list.Items[0].Kind != "official_account" || list.Items[1].Kind != "mini_program" ||
		list.Items[0].Name == "" || len(list.Items[0].Permissions) == 0 || !slices.Equal(list.Items[0].Clients, []string{"shop"}) {
		t.Errorf("the accounts are %+v", list)
	}
	var seen []string
	for _, p := range must[operate.Pushes](g, http.MethodGet, "/wechat/pushes").Items {
		seen = append(seen, p.What+" "+p.Outcome)
	}
	if slices.Sort(seen); fmt.Sprint(slices.Compact(seen)) != "[authorized acknowledged component_verify_ticket acknowledged]" {
		t.Errorf("the pushes are %q", seen)
	}

	if err := g.WeChat.Revoke(t.Context(), gwtest.OfficialAccount); err != nil {
		t.Fatal(err)
	}
	left := must[operate.AccountDetail](g, http.MethodGet, account())
	if left.State != "unauthorized" || left.Cause.Since.IsZero() || left.Cause.Text == "" || left.Principal == "" {
		t.Errorf("after its withdrawal: %+v", left)
	}
	gone := must[operate.Accounts](g, http.MethodGet, "/wechat/accounts?state=unauthorized")
	if len(gone.Items) != 1 || gone.Items[0].AppID != gwtest.OfficialAccount {
		t.Errorf("those that have withdrawn are %+v", gone)
	}
	if n := must[operate.Count](g, http.MethodPost, account("forget")); n.Count != 1 {
		t.Errorf("forgotten: %+v", n)
	}
	var told operate.Error
	if status := g.ask(http.MethodGet, account(), &told); status != http.StatusNotFound || told.Remedy == "" {
		t.Errorf("after it was forgotten: %d %+v", status, told)
	}
	if list := must[operate.Accounts](g, http.MethodGet, "/wechat/accounts"); len(list.Items) != 1 {
		t.Errorf("after it was forgotten: %+v", list)
	}
	if status := g.ask(http.MethodPost, "/wechat/accounts/"+gwtest.MiniProgram+"/forget", &told); status != http.StatusConflict || told.Remedy == "" {
		t.Errorf("one that is authorized is forgotten: %d %+v", status, told)
	}
}

// accounts returns what is stored of the accounts.
func (g operated) accounts() map[string]string {
	files := g.StoredRecords(g.t)
	maps.DeleteFunc(files, func(path, _ string) bool {
		return !strings.Contains(path, "/authorizers/") && !strings.Contains(path, "/profiles/")
	})
	return files
}

// Whoever only looks changes no account, not even where the request would be an action
// with another method.
func TestLookingChangesNothing(t *testing.T) {
	g := start(t, gwtest.Options{})
	g.Settle()
	before := g.accounts()
	for _, uri := range []string{
		"/wechat/status", "/wechat/health/live", "/wechat/health/ready", "/wechat/accounts", "/wechat/accounts?q=a", "/wechat/accounts?state=failing",
		account(), account("renew"), account("reread"), account("forget"), "/wechat/pushes", "/wechat/usage", "/wechat/events",
		"/wechat/events/replay?all=true", "/wechat/events/discard?all=true", "/wechat/sync", "/wechat/reseal", "/wechat/doctor",
	} {
		g.Admin(http.MethodGet, uri)
	}
	if after := g.accounts(); len(before) != 4 || !maps.Equal(before, after) {
		t.Errorf("the files were\n%v\nand are\n%v", before, after)
	}
}

// WeChat has refused for a while: the account says why, and once the cause is gone an
// operator need not wait for the end of the cool-down.
func TestAnOperatorEndsACoolDown(t *testing.T) {
	for _, action := range []string{"renew", "reread"} {
		t.Run(action, func(t *testing.T) {
			g := start(t, gwtest.Options{})
			g.WantSuccess(t, gwtest.OfficialAccount)
			token := g.Token(gwtest.OfficialAccount)
			call := func() gwtest.Reply { return g.AskGet("/cgi-bin/get_api_domain_ip?access_token=" + token) }
			g.WeChat.Inject(sandbox.Fault{
				Path: "/cgi-bin/component/api_authorizer_token", ErrCode: 61004,
				ErrMsg: "access clientip is not registered requestIP: 192.0.2.9 rid: 12345678-12345678-12345678",
			})
			g.WeChat.KillTokens(gwtest.OfficialAccount)
			if reply := call(); reply.ErrCode == 0 {
				t.Fatalf("WeChat refuses to issue tokens, and a call is answered %+v", reply)
			}
			var told operate.Error
			if status := g.ask(http.MethodPost, account("renew"), &told); status != http.StatusBadGateway || !strings.Contains(told.Remedy, "192.0.2.9") {
				t.Errorf("while WeChat refuses: %d %+v", status, told)
			}
			var d operate.AccountDetail
			g.eventually("the account is failing", func() bool {
				d = must[operate.AccountDetail](g, http.MethodGet, account())
				return d.State == "failing"
			})
			if d.LastFailure.Text == "" || d.CoolingUntil.IsZero() || d.Cause.Errcode != 61004 || d.Cause.RID == "" || !strings.Contains(d.Cause.Remedy, "192.0.2.9") ||
				strings.Contains(fmt.Sprint(d, told), "access clientip") {
				t.Errorf("the account is %+v", d)
			}
			if failing := must[operate.Accounts](g, http.MethodGet, "/wechat/accounts?state=failing"); len(failing.Items) != 1 {
				t.Errorf("failing are %+v", failing)
			}
			g.WeChat.ClearFaults()
			if d = must[operate.AccountDetail](g, http.MethodPost, account(action)); !d.CoolingUntil.IsZero() || d.LastFailure.Text != "" {
				t.Errorf("afterwards: %+v", d)
			}
			if reply := call(); reply.ErrCode != 0 {
				t.Errorf("the next call is answered %+v", reply)
			}
			g.eventually("the account is well", func() bool {
				return must[operate.AccountDetail](g, http.MethodGet, account()).State == "authorized"
			})
		})
	}
}

// What operators do stands in the log of the audit.
func TestActionsAreSaidInTheLog(t *testing.T) {
	g := start(t, gwtest.Options{Wechat: "audit off\n"})
	must[operate.AccountDetail](g, http.MethodPost, account("reread"))
	synced := must[operate.Synced](g, http.MethodPost, "/wechat/sync")
	if synced.Total != 2 || synced.Next != 2 || synced.New != 0 {
		t.Errorf("synced: %+v", synced)
	}
	for _, want := range []string{
		`"operator":"admin","action":"reread","object":"` + g.WeChat.Component() + "/" + gwtest.OfficialAccount + `","before":"authorized","after":"authorized"`,
		`"operator":"admin","action":"sync","object":"` + g.WeChat.Component() + `"`,
	} {
		g.eventually(want, func() bool { return strings.Contains(g.Logs(), want) })
	}
}

// A site tells a load balancer whether to send requests; a storage that breaks later is a
// warning, and no reason to send pushes elsewhere.
func TestASiteTellsItsHealth(t *testing.T) {
	g := start(t, gwtest.Options{Sites: "http://localhost:18083 {\nwechat_health /up\nrespond 404\n}"})
	site := func(path string) (int, string) {
		request, err := http.NewRequest(http.MethodGet, "http://"+g.Sites+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "localhost:18083"
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var body struct{ Status, Error string }
		_ = json.NewDecoder(response.Body).Decode(&body)
		return response.StatusCode, body.Status + body.Error
	}
	for path, want := range map[string]int{"/up/live": 200, "/up/ready": 200, "/up": 404, "/wechat/health/ready": 404} {
		if status, body := site(path); status != want || want == 200 && body != "ok" {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
	}
	defer g.BreakStorage(t)()
	g.eventually("the status says that storage fails", func() bool {
		s := must[operate.Status](g, http.MethodGet, "/wechat/status")
		return s.Level == operate.LevelBroken && len(s.Warnings) > 0
	})
	if status, body := site("/up/ready"); status != 200 {
		t.Errorf("while storage fails: %d %s", status, body)
	}
}
