// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// ticketPath is where applications fetch the tickets with which they sign.
const ticketPath = "/cgi-bin/ticket/getticket"

// ticketOf reads an answer that must have the form of WeChat's.
func ticketOf(t testing.TB, answer gwtest.Reply) string {
	t.Helper()
	var read struct {
		Errcode *int
		Errmsg  string
		Ticket  string
		Expires int `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(answer.Body), &read); err != nil || answer.Status != 200 || answer.Slug != "" || read.Errcode == nil ||
		*read.Errcode != 0 || read.Errmsg != "ok" || read.Ticket == "" || read.Expires < 7100 || read.Expires > 7200 {
		t.Fatalf("answered %d %s", answer.Status, answer.Body)
	}
	return read.Ticket
}

// Many processes of many applications ask at once, in all ways in which SDKs ask: WeChat
// sees one call, and nobody gets another account's ticket or one of another type.
func TestTwoHundredCallersShareATicket(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	g.WeChat.Inject(sandbox.Fault{Path: ticketPath, Latency: 300 * time.Millisecond})
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	var all sync.WaitGroup
	for _, appid := range []string{gwtest.OfficialAccount, gwtest.MiniProgram} {
		token := "access_token=" + tokenOf(t, g, appid, gwtest.ClientSecret)
		platform := "access_token=" + tokenOf(t, g, appid, gwtest.PlatformSecret)
		for _, kind := range []string{sandbox.KindJSAPI, sandbox.KindCard} {
			valid := func(answer gwtest.Reply) {
				if got, want := ticketOf(t, answer), g.WeChat.ValidToken(kind, appid); got != want {
					t.Errorf("%s of %s is %s, want %s", kind, appid, got, want)
				}
			}
			for range 9 {
				all.Go(func() { valid(g.AskGet(ticketPath + "?" + token + "&type=" + kind)) })
				all.Go(func() { valid(g.AskGet(ticketPath + "?type=" + kind + "&" + platform)) })
				all.Go(func() { valid(g.Ask("GET", ticketPath+"?type="+kind, "", gwtest.Bearer(gwtest.ClientSecret, appid))) })
				all.Go(func() { valid(g.Ask("POST", ticketPath+"?"+token+"&type="+kind, "", nil)) })
				all.Go(func() { valid(g.Ask("POST", ticketPath+"?"+token, `{"type":"`+kind+`"}`, nil)) })
				all.Go(func() { valid(g.Ask("POST", ticketPath+"?"+token, "type="+kind, form)) })
			}
		}
	}
	all.Wait()
	for _, appid := range []string{gwtest.OfficialAccount, gwtest.MiniProgram} {
		for _, kind := range []string{sandbox.KindJSAPI, sandbox.KindCard} {
			n := 0
			for _, call := range callsOf(g, ticketPath) {
				if call.TokenAppID == appid && strings.Contains(call.RawQuery, "type="+kind+"&") {
					n++
				}
			}
			if n != 1 {
				t.Errorf("WeChat saw %d calls for %s of %s", n, kind, appid)
			}
			if ticket := g.WeChat.ValidToken(kind, appid); strings.Contains(g.Logs(), ticket) {
				t.Errorf("the ticket stands in the log")
			}
		}
	}
}

// A ticket in memory is for those who may ask WeChat for it.
func TestRightsToASharedTicket(t *testing.T) {
	clients := gwtest.ManyClients() + `
		client reader {
			secret reader-secret-0123456789abcdef0123456789
			authorizers *
			allow GET /cgi-bin/ticket/getticket
		}
		client elsewhere {
			secret elsewhere-secret-0123456789abcdef01234567
			authorizers *
			from 192.0.2.1
		}`
	const readerSecret, elsewhereSecret = "reader-secret-0123456789abcdef0123456789", "elsewhere-secret-0123456789abcdef01234567"
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: clients})
	query := ticketPath + "?type=jsapi"
	hour := time.Now().Add(time.Hour)
	rows := map[string]struct {
		method, path string
		header       http.Header
		code         int
		slug         string
	}{
		"a client without the account":         {"GET", query, gwtest.Bearer(gwtest.SoloSecret, gwtest.MiniProgram), 61003, "not_authorized"},
		"its token for the account":            {"GET", query + "&access_token=" + g.Issue(t, "solo", gwtest.SoloSecret, gwtest.MiniProgram, hour), nil, 61003, "not_authorized"},
		"a client without any account":         {"GET", query, gwtest.Bearer(gwtest.IdleSecret, gwtest.OfficialAccount), 61003, "not_authorized"},
		"an account that has not authorized":   {"GET", query, gwtest.Bearer(gwtest.ClientSecret, "wxcccccccccccccccc"), 61003, "not_authorized"},
		"a client without the path":            {"GET", query, gwtest.Bearer(gwtest.NarrowSecret, gwtest.OfficialAccount), 48001, "not_allowed"},
		"a client without the method":          {"POST", query, gwtest.Bearer(readerSecret, gwtest.OfficialAccount), 48001, "not_allowed"},
		"a client without the spelling":        {"GET", "/cgi-bin/ticket/GetTicket?type=jsapi", gwtest.Bearer(readerSecret, gwtest.OfficialAccount), 48001, "not_allowed"},
		"a client from elsewhere":              {"GET", query, gwtest.Bearer(elsewhereSecret, gwtest.OfficialAccount), 40164, "address"},
		"a component's token":                  {"GET", query + "&access_token=" + g.Issue(t, "platform", gwtest.PlatformSecret, "", hour), nil, 61015, "want_authorizer"},
		"a platform's token with another name": {"GET", query + "&component_access_token=" + g.Issue(t, "platform", gwtest.PlatformSecret, "", hour), nil, 61015, "want_authorizer"},
		"nobody":                               {"GET", query, nil, 41001, "token_missing"},
		"a stranger":                           {"GET", query, gwtest.Bearer(gwtest.UnknownSecret, gwtest.OfficialAccount), 40125, "bearer"},
		"a forged token":                       {"GET", query + "&access_token=" + g.Issue(t, "shop", gwtest.UnknownSecret, gwtest.OfficialAccount, hour), nil, 40001, "token_unknown"},
		"a token that has expired":             {"GET", query + "&access_token=" + g.Issue(t, "shop", gwtest.ClientSecret, gwtest.OfficialAccount, time.Now().Add(-time.Second)), nil, 42001, "token_expired"},
	}
	for _, inMemory := range []bool{false, true} {
		if inMemory {
			for _, appid := range []string{gwtest.OfficialAccount, gwtest.MiniProgram} {
				ticketOf(t, g.Ask("GET", query, "", gwtest.Bearer(readerSecret, appid)))
			}
		}
		g.WeChat.ResetCounts()
		for name, row := range rows {
			answer := g.Ask(row.method, row.path, "", row.header)
			if answer.ErrCode != row.code || answer.Slug != row.slug || strings.Contains(answer.Body, "TICKET") {
				t.Errorf("%s, in memory %v: answered %d %s", name, inMemory, answer.Status, answer.Body)
			}
		}
		if n := g.WeChat.Count(ticketPath); n != 0 {
			t.Errorf("in memory %v: WeChat saw %d calls", inMemory, n)
		}
	}
}

// What is no call for a shared ticket goes to WeChat as it is, each time.
func TestOtherCallsOfTheTicketPathAreRelayed(t *testing.T) {
	var seen []string
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{ticketPath: func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, query, _ := strings.Cut(r.URL.RawQuery, "&") // behind the token
		seen = append(seen, r.Method+" "+query+" "+string(body))
		says(`{"errcode":0,"errmsg":"ok","ticket":"fresh","expires_in":1}`)(w, r)
	}})
	long := `{"type":"jsapi","pad":"` + strings.Repeat("x", 20<<10) + `"}`
	for _, row := range []struct{ method, query, body string }{
		{"GET", "", ""},
		{"GET", "type=", ""},
		{"GET", "type=1", ""},
		{"GET", "type=JSAPI", ""},
		{"GET", "Type=jsapi", ""},
		{"GET", "type=jsapi&type=wx_card", ""},
		{"GET", "type=jsapi&offset_type=1", ""},
		{"GET", "type=wx_card&%zz", ""},
		{"GET", "type=jsapi", "a body"},
		{"HEAD", "type=jsapi", ""},
		{"POST", "", ""},
		{"POST", "type=jsapi", "no JSON"},
		{"POST", "type=jsapi", `{"type":"wx_card"}`},
		{"POST", "type=jsapi", `{"type":"jsapi","agent":1}`},
		{"POST", "", `{"type":"other"}`},
		{"POST", "", long},
	} {
		seen = nil
		for range 2 {
			answer := g.Ask(row.method, ticketPath+"?"+row.query, row.body, gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
			if row.method != "HEAD" && !strings.Contains(answer.Body, "fresh") || answer.Slug != "" {
				t.Errorf("%.80v: answered %d %s", row, answer.Status, answer.Body)
			}
		}
		if want := row.method + " " + row.query + " " + row.body; len(seen) != 2 || seen[0] != want || seen[1] != want {
			t.Errorf("%.80v: WeChat saw %.200q", row, seen)
		}
	}
}

// What WeChat refuses, the caller reads as WeChat says it, and the next call is made.
func TestRefusedSharedTicket(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	own := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
	for name, row := range map[string]struct {
		fault      sandbox.Fault
		code       int
		slug, text string
		status     int
	}{
		"no permission":           {sandbox.Fault{ErrCode: 48001, ErrMsg: "api unauthorized"}, 48001, "", "api unauthorized", 200},
		"no quota":                {sandbox.Fault{ErrCode: 45009, ErrMsg: "reach max api daily quota limit"}, 45009, "", "quota", 200},
		"the token, as it is bad": {sandbox.Fault{ErrCode: 40001, ErrMsg: "invalid credential"}, 48001, "rejected", "alive", 200},
		"nothing to read":         {sandbox.Fault{Empty: true}, -1, "unreachable", "(gateway)", 502},
		"a page of some server":   {sandbox.Fault{HTML: true}, -1, "unreachable", "(gateway)", 502},
		"what was sent":           {sandbox.Fault{Echo: "plain"}, -1, "unreachable", "(gateway)", 502},
	} {
		row.fault.Path = ticketPath
		g.WeChat.Inject(row.fault)
		g.WeChat.ResetCounts()
		for range 2 {
			answer := g.Ask("GET", ticketPath+"?type=jsapi", "", own)
			if answer.ErrCode != row.code || answer.Slug != row.slug || answer.Status != row.status || !strings.Contains(answer.ErrMsg, row.text) {
				t.Errorf("%s: answered %d %s", name, answer.Status, answer.Body)
			}
		}
		if n := g.WeChat.Count(ticketPath); n != 2 {
			t.Errorf("%s: WeChat saw %d calls", name, n)
		}
		g.WeChat.ClearFaults()
	}
	ticketOf(t, g.Ask("GET", ticketPath+"?type=jsapi", "", own))
}

// A real token that has died costs the caller nothing.
func TestSharedTicketWithATokenThatHasDied(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	own := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
	g.WeChat.KillTokens(gwtest.OfficialAccount)
	ticketOf(t, g.Ask("GET", ticketPath+"?type=jsapi", "", own))
	if n := g.WeChat.Count(ticketPath); n != 2 {
		t.Errorf("WeChat saw %d calls", n)
	}
}
