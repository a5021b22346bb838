// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics/metricstest"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	callsTotal   = "caddy_wechat_calls_total"
	answersTotal = "caddy_wechat_answers_total"
)

// A countedCall is a call and where it is to be counted. WeChat's answers to it, if
// there are any, are counted for the same client.
type countedCall struct {
	name    string
	do      func()
	client  string
	outcome string
	answers []string
}

// Calls of every kind, each of which has one outcome and belongs to one client: the sum
// of calls_total is the number of calls.
func TestEveryCallIsCountedOnce(t *testing.T) {
	blocked, release := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(release) })
	g := gwtest.StartWithRoutes(t, gwtest.Options{Clients: gwtest.ManyClients()}, map[string]http.HandlerFunc{
		"/answers/ok":      says(`{"errcode":0,"errmsg":"ok"}`),
		"/answers/picture": gwtest.Answer("image/jpeg", "\xff\xd8\xff", true),
		"/answers/quota":   says(`{"errcode":45009,"errmsg":"reach max api daily quota limit rid: 1-2-3"}`),
		"/answers/odd":     says(`{"errcode":47001,"errmsg":"data format error"}`),
		"/answers/html": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html>Bad Gateway</html>")
		},
		"/answers/json": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"errcode":-1,"errmsg":"system error"}`)
		},
		"/answers/cut": hijacked("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"),
		"/answers/never": func(_ http.ResponseWriter, r *http.Request) {
			blocked <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		},
		"/answers/gateway": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(openapi.GatewayHeader, "loop") },
		"/sns/userinfo":    says(`{"errcode":40003,"errmsg":"invalid openid"}`),
	})
	official, mini := gwtest.OfficialAccount, gwtest.MiniProgram
	shop := gwtest.Bearer(gwtest.ClientSecret, official)
	calls, sum := float64(0), metricstest.Sum(t, callsTotal)
	for _, c := range kindsOfCalls(t, g, shop, official, mini, blocked) {
		before := metricstest.Value(t, callsTotal, c.client, c.outcome)
		var answers []float64
		for _, label := range c.answers {
			answers = append(answers, metricstest.Value(t, answersTotal, c.client, label))
		}
		c.do()
		calls++
		wantSoon(t, c.name+" is counted as "+c.client+" "+c.outcome, func() bool {
			return metricstest.Value(t, callsTotal, c.client, c.outcome) == before+1
		})
		for i, label := range c.answers {
			if n := metricstest.Value(t, answersTotal, c.client, label) - answers[i]; n < 1 {
				t.Errorf("%s: an answer with errcode %s is counted %v times", c.name, label, n)
			}
		}
	}
	if n := metricstest.Sum(t, callsTotal) - sum; n != calls {
		t.Errorf("%v calls are counted, want %v", n, calls)
	}
	if n := metricstest.Sum(t, "caddy_wechat_call_duration_seconds"); n < calls {
		t.Errorf("the time of %v calls is known, want %v", n, calls)
	}
}

func kindsOfCalls(t *testing.T, g *gwtest.Gateway, shop http.Header, official, mini string, blocked <-chan struct{}) []countedCall {
	get := func(path string, header http.Header) func() {
		return func() { g.Ask(http.MethodGet, path, "", header) }
	}
	solo, token := gwtest.Bearer(gwtest.SoloSecret, ""), g.Issue(t, "shop", gwtest.ClientSecret, official, time.Now().Add(time.Hour))
	session := func(query url.Values) string { return "/sns/jscode2session?" + query.Encode() }
	return []countedCall{
		{"a relayed call", get("/answers/ok", shop), "shop", "relayed", []string{"0"}},
		{"of another client", get("/answers/ok", solo), "solo", "relayed", []string{"0"}},
		{"an answer that is no JSON", get("/answers/picture", shop), "shop", "relayed", []string{"0"}},
		{"an answer to HEAD", func() { g.Ask(http.MethodHead, "/answers/ok", "", shop) }, "shop", "relayed", []string{"0"}},
		{"an upload", func() { g.Ask(http.MethodPost, "/answers/ok", strings.Repeat("x", 200_000), shop) }, "shop", "relayed", []string{"0"}},
		{"a spent quota", get("/answers/quota", shop), "shop", "relayed", []string{"45009"}},
		{"an errcode without a label", get("/answers/odd", shop), "shop", "relayed", []string{"other"}},
		{"a page of HTML", get("/answers/html", shop), "shop", "relayed", []string{"http_502"}},
		{"an errcode with another status", get("/answers/json", shop), "shop", "relayed", []string{"-1"}},
		{"an answer that breaks off", func() { _, _ = g.Try(http.DefaultClient, http.MethodPost, "/answers/cut", "{}", shop) }, "shop", "relayed", []string{"0"}},
		{"a rejected token", func() {
			g.WeChat.KillTokens(official)
			get(gwtest.AuthorizerPath, shop)()
		}, "shop", "repeated", []string{"0", "40001"}},
		{"a caller that does not wait", func() { leave(t, g, "/answers/never", shop, blocked) }, "shop", "client_gone", nil},
		{"a gateway in WeChat's place", get("/answers/gateway", shop), "shop", "loop", nil},
		{"an end user's call", get("/sns/userinfo?access_token=users&openid=o", nil), "none", "relayed", []string{"40003"}},
		{"a login", get(session(url.Values{"appid": {mini}, "secret": {gwtest.ClientSecret}, "js_code": {g.WeChat.NewUserCode(mini, "alice")}}), nil), "shop", "relayed", []string{"0"}},
		{"a login without a client", get("/sns/oauth2/refresh_token?appid="+official+"&refresh_token=r", nil), "none", "relayed", nil},
		{"a login without an appid", get(session(url.Values{"secret": {gwtest.ClientSecret}}), nil), "shop", "appid_missing", nil},
		{"a token", get(gwtest.TokenPath(official, gwtest.ClientSecret), nil), "shop", "answered", nil},
		{"a shared ticket", get("/cgi-bin/ticket/getticket?type=jsapi", shop), "shop", "answered", nil},
		{"a refusal to the gateway", func() {
			g.WeChat.Inject(sandbox.Fault{Path: gwtest.InfoPath, ErrCode: 45009})
			g.Ask(http.MethodPost, gwtest.InfoPath, `{"authorizer_appid":"`+official+`"}`, gwtest.Bearer(gwtest.PlatformSecret, ""))
			g.WeChat.ClearFaults()
		}, "platform", "answered", nil},
		{"a wrong secret at a token endpoint", get(gwtest.TokenPath(official, gwtest.UnknownSecret), nil), "none", "client_secret", nil},
		{"a wrong secret", get("/answers/ok", gwtest.Bearer(gwtest.UnknownSecret, official)), "none", "bearer", nil},
		{"no credential", get("/answers/ok", nil), "none", "token_missing", nil},
		{"a forged token", get("/answers/ok?access_token=gw1.forged", nil), "none", "token_unknown", nil},
		{"an account that is none", get("/answers/ok", gwtest.Bearer(gwtest.ClientSecret, "wx0123456789abcdef")), "shop", "not_authorized", nil},
		{"another client's account", get("/answers/ok", gwtest.Bearer(gwtest.SoloSecret, mini)), "solo", "not_authorized", nil},
		{"a path that is not allowed", get("/answers/ok", gwtest.Bearer(gwtest.NarrowSecret, official)), "narrow", "not_allowed", nil},
		{"a path that is not plain", get("/answers//ok", shop), "none", "not_allowed", nil},
		{"a query that cannot be read", get("/cgi-bin/token?a=%zz", nil), "none", "bad_request", nil},
		{"another method", func() { g.Ask(http.MethodPut, "/answers/ok", "", shop) }, "none", "not_allowed", nil},
		{"a component's path with an account's token", get("/cgi-bin/component/api_create_preauthcode?access_token="+token, nil), "shop", "want_component", nil},
		{"too many parameters", func() { g.Ask(http.MethodPost, "/cgi-bin/stable_token", strings.Repeat("x", 17<<10), nil) }, "none", "too_large", nil},
		{"a loop", get("/answers/ok", http.Header{openapi.HopHeader: {"1"}}), "none", "loop", nil},
	}
}

// leave makes a call and goes when WeChat has it.
func leave(t *testing.T, g *gwtest.Gateway, path string, header http.Header, blocked <-chan struct{}) {
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.Proxy+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if response, err := http.DefaultClient.Do(r); err == nil {
			response.Body.Close()
		}
	}()
	<-blocked
	cancel()
	<-gone
}

// What a client has is shown as long as a configuration has the client, and what is left
// goes on counting.
func TestClientThatIsTakenOutIsNotShown(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	g.AskGet(gwtest.TokenPath(gwtest.OfficialAccount, gwtest.SoloSecret))
	if !metricstest.Exists(t, callsTotal, "idle", "relayed") || !metricstest.Exists(t, answersTotal, "none", "61004") {
		t.Error("a client that has not called is not shown")
	}
	g.Change(func(o *gwtest.Options) { o.Clients = gwtest.ShopClient })
	wantSoon(t, "the clients that are gone are not shown", func() bool {
		return !metricstest.Exists(t, callsTotal, "solo", "answered") && !metricstest.Exists(t, answersTotal, "idle", "0")
	})
	before := metricstest.Value(t, callsTotal, "shop", "answered")
	g.AskGet(gwtest.TokenPath(gwtest.OfficialAccount, gwtest.ClientSecret))
	wantSoon(t, "the one that stays is counted", func() bool { return metricstest.Value(t, callsTotal, "shop", "answered") == before+1 })
}
