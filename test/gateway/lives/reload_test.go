// SPDX-License-Identifier: Apache-2.0

// Package lives_test tests what outlives a configuration or a process: what
// becomes of calls, tokens and secrets over reloads and restarts, over the loss
// of storage and its faults, and while a secret is replaced by a new one.
package lives_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// A configuration is changed while applications call: no call fails, not even a
// POST, which clients do not repeat by themselves, and the tokens in memory
// outlive the configuration that fetched them. Without drain a fifth of these
// calls would be dropped unread. What TLS and HTTP/2 do with their connections is
// nothing of drain.go, and no less a promise.
func TestReloadUnderLoad(t *testing.T) {
	for name, test := range map[string]struct {
		sites   string
		scheme  string
		http2   bool
		workers int
	}{
		"HTTP":     {sites: "http://localhost:18083 {\nwechat_proxy\n}", scheme: "http", workers: 20},
		"HTTPS":    {sites: "https://localhost:18083 {\ntls internal\nwechat_proxy\n}", scheme: "https", workers: 10},
		"HTTPS, 2": {sites: "https://localhost:18083 {\ntls internal\nwechat_proxy\n}", scheme: "https", http2: true, workers: 10},
	} {
		t.Run(name, func(t *testing.T) {
			g := gwtest.StartWithTokens(t, gwtest.Options{Global: "skip_install_trust\nauto_https disable_redirects\nservers {\nprotocols h1 h2\n}", Sites: test.sites})
			g.Proxy = test.scheme + "://localhost:18083"
			reloadUnderLoad(t, g, test.workers, &http.Client{Transport: &http.Transport{
				MaxIdleConnsPerHost: test.workers,
				ForceAttemptHTTP2:   test.http2,
				TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, g.Sites)
				},
			}})
		})
	}
}

func reloadUnderLoad(t *testing.T, g *gwtest.Gateway, workers int, client *http.Client) {
	const reloads, pause = 10, 20 * time.Millisecond
	defer client.CloseIdleConnections()
	var token string
	for end := time.Now().Add(time.Minute); token == ""; { // Caddy makes the certificate in the background
		answer, err := g.Try(client, http.MethodGet, gwtest.TokenPath(gwtest.OfficialAccount, gwtest.ClientSecret), "", nil)
		if token = answer.Token; token == "" && time.Now().After(end) {
			t.Fatal(answer.Body, err)
		}
	}

	var done atomic.Bool
	var calls atomic.Int64
	var callers sync.WaitGroup
	fault := make(chan string, workers)
	for range workers {
		callers.Go(func() {
			for !done.Load() {
				answer, err := g.Try(client, http.MethodPost, gwtest.SendPath+"?access_token="+token,
					`{"touser":"o1","msgtype":"text","text":{"content":"x"}}`, nil)
				time.Sleep(pause)
				switch {
				case err != nil:
					fault <- err.Error()
					return
				case answer.Status != 200 || answer.ErrCode != 0:
					fault <- answer.Body
					return
				default:
					calls.Add(1)
				}
			}
		})
	}
	for range reloads {
		// Each configuration serves before the next one takes its place.
		for seen := calls.Load(); calls.Load() < seen+int64(workers) && len(fault) == 0; {
			_, _ = g.Try(client, http.MethodGet, gwtest.AuthorizerPath+"?access_token="+token, "", nil)
		}
		g.Load()
	}
	done.Store(true)
	callers.Wait()
	close(fault)
	for text := range fault {
		t.Fatalf("a call failed: %s", text)
	}
	for _, path := range []string{gwtest.RenewalPath, "/cgi-bin/component/api_component_token", "/cgi-bin/component/api_query_auth", "/cgi-bin/component/api_start_push_ticket"} {
		if n := g.WeChat.Count(path); n != 0 {
			t.Errorf("%d calls to %s, want none", n, path)
		}
	}
	if sent := g.WeChat.Count(gwtest.SendPath); int64(sent) != calls.Load() {
		t.Errorf("WeChat saw %d calls, %d were answered", sent, calls.Load())
	}
	t.Logf("%d calls over %d reloads", calls.Load(), reloads)
}

// A call that began under one configuration ends well under the next, renewal
// of its token included.
func TestReloadWithinACall(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	var seen []gwtest.SeenRequest
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: gwtest.Record(&seen, func(w http.ResponseWriter, r *http.Request) {
		if len(seen) == 1 {
			began <- struct{}{}
			<-goOn
			gwtest.Answer("application/json", `{"errcode":40001,"errmsg":"invalid credential"}`, false)(w, r)
			return
		}
		gwtest.AnswerOK(w, r)
	})})
	answers := make(chan gwtest.Reply)
	go func() {
		answers <- g.Ask(http.MethodPost, gwtest.SendPath, "{}", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	}()
	<-began
	g.Load()
	g.WeChat.KillTokens(gwtest.OfficialAccount)
	goOn <- struct{}{}
	if answer := <-answers; answer.Status != 200 || answer.ErrCode != 0 {
		t.Errorf("answered %d %s", answer.Status, answer.Body)
	}
	if len(seen) != 2 || g.WeChat.Count(gwtest.RenewalPath) != 1 {
		t.Errorf("WeChat saw %d calls and %d renewals", len(seen), g.WeChat.Count(gwtest.RenewalPath))
	}
}

// What the gateway knows of a refused token or of an account's troubles is not
// forgotten by a reload: else each one would allow another dozen renewals.
func TestTroublesSurviveReload(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	g.WeChat.KillTokens(gwtest.OfficialAccount)
	g.WeChat.Inject(sandbox.Fault{Path: gwtest.RenewalPath, ErrCode: 61003})
	for range 3 {
		if answer := g.AskGet(gwtest.AuthorizerPath + "?access_token=" + token); answer.ErrCode != 61003 {
			t.Errorf("answered %s", answer.Body)
		}
		g.Load()
	}
	if n := g.WeChat.Count(gwtest.RenewalPath); n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
}

// WeChat is slow to issue a token, over two reloads: the storage of the
// configuration under which the renewal began is closed meanwhile. The call ends
// well, the token is stored, and no lock stands; else gwtest fails the test.
func TestReloadsWhileWeChatIsSlow(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	var weChat http.Handler
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.RenewalPath: func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-goOn
		weChat.ServeHTTP(w, r)
	}})
	weChat = g.WeChat
	g.WeChat.KillTokens(gwtest.OfficialAccount)
	answers := make(chan gwtest.Reply)
	go func() {
		answers <- g.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	}()
	<-began
	g.Load()
	g.Load()
	close(goOn)
	if answer := <-answers; answer.Status != 200 || answer.ErrCode != 0 {
		t.Errorf("answered %d %s", answer.Status, answer.Body)
	}
	if n := g.WeChat.Count(gwtest.RenewalPath); n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
	g.Restart(t, func() {})
	if answer := g.AskGet(gwtest.AuthorizerPath + "?access_token=" + g.Token(gwtest.OfficialAccount)); answer.ErrCode != 0 {
		t.Errorf("answered %s", answer.Body)
	}
	if n := g.WeChat.Count(gwtest.RenewalPath); n != 0 {
		t.Error("the token was not stored")
	}
}

// The process ends while WeChat is slow: the lock of the account does not stand
// until it goes stale, so the next process does not wait for it; else gwtest fails
// the test.
func TestStopWhileWeChatIsSlow(t *testing.T) {
	began, goOn := make(chan struct{}, 1), make(chan struct{})
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.RenewalPath: func(http.ResponseWriter, *http.Request) {
		began <- struct{}{}
		<-goOn
	}})
	g.WeChat.KillTokens(gwtest.OfficialAccount)
	var call sync.WaitGroup
	call.Go(func() {
		_ = g.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	})
	<-began
	g.Restart(t, func() {})
	close(goOn)
	call.Wait()
}
