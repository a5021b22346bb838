// SPDX-License-Identifier: Apache-2.0

// Package leaks_test searches for secrets in everything that leaves the gateway,
// whatever happens to it: no credential that it shares with WeChat may stand
// anywhere, and no secret that it shares with clients in a log.
package leaks_test

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// story is a part of a gateway's life. What it proves is asked at its end by
// gwtest: that nothing secret has left the gateway by any way.
type story struct {
	options  gwtest.Options
	routes   map[string]http.HandlerFunc // answered by the test in place of WeChat
	tell     func(t *testing.T, g *gwtest.Gateway)
	answers  int      // callers got at least
	examined bool     // by `caddy wechat doctor`, at the end
	shows    []string // stand in what was searched, or the story was not told
}

// Nothing that the gateway writes, answers, stores or shows has a real
// credential in it, and no log a client's secret or a gateway token, with
// format wechat. Whatever happens.
func TestNothingLeaks(t *testing.T) {
	held, panicking := newInFlight(), new(panicking)
	stories := map[string]story{
		"calls of every kind": {
			options: gwtest.Options{Clients: gwtest.ManyClients()}, tell: everyCall, answers: 150, examined: true,
			shows: []string{`"slug":"client_secret"`, `"slug":"not_allowed"`, `"slug":"token_unknown"`, "image/jpeg", `"ip_list"`},
		},
		"tokens that die": {tell: dyingTokens, answers: 50, shows: []string{
			`"slug":"rejected"`, `"slug":"needs_authorization"`, "stored record does not open", "push not acknowledged",
		}},
		"a WeChat out of order": {
			options: gwtest.Options{Proxy: "transport http {\nresponse_header_timeout 2s\n}"}, tell: faults, answers: 100,
			shows: []string{`"slug":"unreachable"`, `"slug":"timeout"`, `"slug":"rejected"`, "errcode 45009", "HTTP status 502"},
		},
		"a WeChat out of reach": {tell: outOfReach, answers: 10, examined: true, shows: []string{"connection refused", `"slug":"unreachable"`}},
		"a storage out of order": {tell: storageTroubles, answers: 15, examined: true, shows: []string{
			`"slug":"storage"`, "stored record does not open", "not a directory",
		}},
		"panics": {
			options: gwtest.Options{Sandbox: sandbox.Config{Transport: panicking}}, tell: panicking.tell, answers: 15,
			shows: []string{"a panic before the handler", "a panic after the handler", "goroutine "},
		},
		"reloads and restarts": {
			routes: map[string]http.HandlerFunc{slowPath: held.serve}, tell: held.tell, answers: 10,
			shows: []string{`"name":"stopping"`, "admin endpoint started"},
		},
		"pushes": {tell: pushes, answers: 30, shows: []string{"msg_signature does not match", "not encrypted with any of the keys", "parsing event"}},
		"pages": {
			options: gwtest.Options{Component: "return_url https://console.example.com/*", Global: gwtest.TrustProxies}, tell: pages, answers: 20,
			shows: []string{"Continue to WeChat", "Start again", "Too many visits", "Location: https://console.example.com/", "creating pre_auth_code failed"},
		},
		"deliveries": {
			options: gwtest.Options{Secrets: []string{deliverToken, deliverKey, deliverTokenBefore, deliverKeyBefore, deliverWebhook, deliverHeader}}, tell: deliveries, answers: 15,
			shows: []string{"event delivered", "event not delivered", "message not delivered", "MsgSignature"},
		},
	}
	for _, name := range slices.Sorted(maps.Keys(stories)) {
		story := stories[name]
		t.Run(name, func(t *testing.T) {
			story.options.Watch = true
			story.options.Wechat += "\naudit calls"
			story.options.Secrets = append(story.options.Secrets, gwtest.SoloSecret, gwtest.SoloNextSecret, gwtest.HashedSecret, gwtest.NarrowSecret, gwtest.PlatformSecret, gwtest.IdleSecret)
			g := gwtest.StartWithRoutes(t, story.options, story.routes)
			story.tell(t, g)
			if story.examined {
				examine(t, g)
			}
			wantTold(t, g, story)
		})
	}
}

// examine asks for an examination, with Caddy's configuration, as
// `caddy wechat doctor` does, and searches the answer.
func examine(t *testing.T, g *gwtest.Gateway) {
	t.Helper()
	_, config := g.Admin(http.MethodGet, "/config/")
	status, body := g.AdminBody(http.MethodPost, "/wechat/doctor", config)
	g.SearchCredentials("the examination", body)
	if status != http.StatusOK || !strings.Contains(string(body), `"items":[{`) {
		t.Errorf("no examination: HTTP status %d, %s", status, body)
	}
}

// wantTold fails the test if too little has happened for a search to prove
// anything.
func wantTold(t *testing.T, g *gwtest.Gateway, s story) {
	t.Helper()
	var all strings.Builder
	answers := 0
	for _, place := range g.Places() {
		all.Write(place.Data)
		if strings.HasPrefix(place.Name, "the answer to ") {
			answers++
		}
	}
	if answers < s.answers {
		t.Errorf("%d answers were kept, want %d", answers, s.answers)
	}
	for _, text := range append(s.shows, `"msg":"handled request"`, `"level":"debug"`, `"logger":"wechat.audit","msg":"call"`) {
		if !strings.Contains(all.String(), text) {
			t.Errorf("%s stands nowhere: it has not happened", text)
		}
	}
	issued := strings.Join(g.WeChat.Credentials(), " ")
	for _, mark := range []string{"REALAPPSECRET", "REALPUSHTOKEN", "REALAESKEY", "REALTICKET", "REALTOKEN-C", "REALTOKEN-A", "REALREFRESH"} {
		if !strings.Contains(issued, mark) {
			t.Errorf("no credential with %s was ever issued", mark)
		}
	}
}

// both are the accounts.
var both = []string{gwtest.OfficialAccount, gwtest.MiniProgram}

// usual makes the calls that need real tokens, for both accounts.
func usual(g *gwtest.Gateway) {
	for _, appid := range both {
		token := g.AskGet(gwtest.TokenPath(appid, gwtest.ClientSecret)).Token
		g.AskGet(gwtest.AuthorizerPath + "?access_token=" + token)
		g.Ask(http.MethodPost, gwtest.SendPath, `{"touser":"o1","msgtype":"text","text":{"content":"x"}}`, gwtest.Bearer(gwtest.ClientSecret, appid))
		g.AskGet("/sns/jscode2session?grant_type=authorization_code&appid=" + appid + "&secret=" + gwtest.ClientSecret + "&js_code=" + g.WeChat.NewUserCode(appid, "alice"))
	}
}

// renew makes every subject fetch its tokens anew: a ticket and an
// authorisation event end all cool-downs.
func renew(t *testing.T, g *gwtest.Gateway) {
	t.Helper()
	g.WeChat.KillTokens("")
	_ = g.WeChat.PushTicket(t.Context()) // the gateway may be out of order, and the story goes on
	for _, appid := range both {
		_, _ = g.WeChat.UpdateAuthorized(t.Context(), appid)
	}
	usual(g)
}

// dyingTokens lets real tokens and keys end in every way.
func dyingTokens(t *testing.T, g *gwtest.Gateway) {
	for _, end := range []func(){
		func() { g.WeChat.KillTokens("") },
		func() { g.WeChat.ExpireTokens("") },
		func() { g.WeChat.SetSwitches(sandbox.Switches{Component42006: true}); g.WeChat.ExpireTokens("") },
		func() { g.WeChat.SetSwitches(sandbox.Switches{RotateRefreshTokens: true}); g.WeChat.KillTokens("") },
		func() { _, _ = g.WeChat.RotateToken(both[0]); g.WeChat.AdvanceClock(6 * time.Minute) },
		func() { _, _ = g.WeChat.RotateRefreshToken(both[1]); g.WeChat.AdvanceClock(6 * time.Minute) },
		func() { _ = g.WeChat.Revoke(t.Context(), both[0]) },
		func() { _, _ = g.WeChat.Authorize(t.Context(), both[0]) },
	} {
		end()
		usual(g)
		g.Restart(t, func() {}) // or it would be a while until the next rejected token is asked about
		renew(t, g)
		g.Restart(t, func() {})
	}
	g.WeChat.Inject(sandbox.Fault{Path: gwtest.RenewalPath, ErrCode: 61023}) // the refresh token is lost
	g.WeChat.KillTokens(both[1])
	usual(g)
	g.WeChat.ClearFaults()

	g.WeChat.Inject(sandbox.Fault{Path: gwtest.SendPath, ErrCode: 40001})
	for range 15 {
		usual(g)
	}
	g.WeChat.ClearFaults()

	g.WeChat.RotateAppSecret("")
	if err := g.WeChat.RotatePushKeys("", ""); err != nil {
		t.Fatal(err)
	}
	renew(t, g) // refused, until they are configured
	g.Load()
	renew(t, g)
	g.WeChat.AdvanceClock(13 * time.Hour) // the ticket's life
	usual(g)
}

// faults spoils the answers to calls and to renewals.
func faults(t *testing.T, g *gwtest.Gateway) {
	quoting := strings.Join(g.WeChat.Credentials(), " ")
	for i, fault := range []sandbox.Fault{
		{Status: http.StatusBadGateway}, {Status: http.StatusFound}, {HTML: true}, {Empty: true}, {Empty: true, Status: 500},
		{ErrCode: -1}, {ErrCode: 45009, ErrMsg: "quota of " + quoting}, {ErrCode: 61004, ErrMsg: quoting}, {ErrCode: 40001}, {ErrCode: 61003},
		{Reset: true}, {DropAfter: true}, {CutHalf: true}, {Surplus: true},
		{Echo: "plain"}, {Echo: "json"}, {Echo: "percent", Status: 502}, {Echo: "base64"}, {Echo: "gzip"}, {Echo: "gzip gzip"}, {Echo: "deflate"},
	} {
		for j, path := range []string{
			gwtest.RenewalPath, "/cgi-bin/component/api_component_token", "/cgi-bin/component/api_query_auth",
			"/cgi-bin/component/api_get_authorizer_info", "/cgi-bin/component/api_start_push_ticket", gwtest.AuthorizerPath, "/sns/",
			"/cgi-bin/get_api_domain_ip",
		} {
			if fault.ErrMsg != "" && !strings.HasPrefix(path, "/cgi-bin/component/") {
				continue // an answer of the API's own passes
			}
			if (i+j)%2 == 0 && fault.ErrMsg == "" {
				continue // every fault meets half of the paths, every path half of the faults
			}
			fault.Path = path
			g.WeChat.Inject(fault)
			renew(t, g)
			g.WeChat.KillTokens(both[0]) // this one has no code to fall back on
			g.AskGet(gwtest.AuthorizerPath + "?access_token=" + g.AskGet(gwtest.TokenPath(both[0], gwtest.ClientSecret)).Token)
			g.WeChat.ClearFaults()
			g.Restart(t, func() {}) // or it would be a while until the next rejected token is asked about
		}
	}
	g.WeChat.Inject(sandbox.Fault{Path: gwtest.AuthorizerPath, Never: true})
	usual(g)
	g.WeChat.ClearFaults()
	renew(t, g)
}

func outOfReach(t *testing.T, g *gwtest.Gateway) {
	hosts := []string{gwtest.RefusingURL(t), gwtest.RefusingURL(t)}
	g.Change(func(o *gwtest.Options) { o.API = hosts })
	renew(t, g)
	hosts[1] = g.API
	g.Load()
	renew(t, g)
}

// storageTroubles puts a file where storage has its folder, and spoils records.
func storageTroubles(t *testing.T, g *gwtest.Gateway) {
	folder := filepath.Join(g.Storage, "wechat")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Rename(folder, folder+"-away"))
	gwtest.Instead(t, folder, func() error { return os.WriteFile(folder, nil, 0o600) })
	renew(t, g)
	g.Restart(t, func() {})
	usual(g)
	gwtest.Instead(t, folder, func() error { return os.Rename(folder+"-away", folder) })
	renew(t, g)

	g.Restart(t, func() {
		for path, record := range g.StoredRecords(t) {
			must(os.WriteFile(path, []byte(record[:len(record)/2]), 0o600))
		}
	})
	renew(t, g)
}

const slowPath = "/wxa/slow"

// inFlight is an upstream at which calls wait.
type inFlight struct{ began, ends chan struct{} }

func newInFlight() *inFlight { return &inFlight{make(chan struct{}), make(chan struct{})} }

func (f *inFlight) serve(w http.ResponseWriter, r *http.Request) {
	f.began <- struct{}{}
	<-f.ends
	gwtest.AnswerOK(w, r)
}

// tell changes, breaks, stops and starts the configuration while calls are in
// flight, and looks at everything meanwhile.
func (f *inFlight) tell(t *testing.T, g *gwtest.Gateway) {
	during := func(do func()) {
		t.Helper()
		answered := make(chan gwtest.Reply)
		go func() { answered <- g.Ask(http.MethodGet, slowPath, "", gwtest.Bearer(gwtest.ClientSecret, both[0])) }()
		<-f.began
		do()
		f.ends <- struct{}{}
		if answer := <-answered; answer.ErrCode != 0 {
			t.Errorf("the call in flight was answered %s", answer.Body)
		}
	}
	during(g.SearchEverything)
	during(g.Load)
	during(func() { renew(t, g); g.Load(); renew(t, g) })
	appSecret, token, aesKey := g.WeChat.Keys()
	during(func() {
		for _, change := range [][2]string{{token, aesKey}, {aesKey, token}, {appSecret, "{file./nowhere}"}, {"wechat_proxy", "wechat_prxy"}} {
			err := g.TryCaddyfile(strings.ReplaceAll(g.Caddyfile(), change[0], change[1]))
			if err == nil {
				t.Fatal("a bad configuration was loaded")
			}
			g.SearchCredentials("why a configuration is refused", []byte(err.Error()))
		}
	})
	during(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	g.Load()
	renew(t, g)
}
