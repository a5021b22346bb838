// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
)

// newTargets returns the applications of a configuration with the client shop, whose
// deliver is this JSON, and the client's targets.
func newTargets(t *testing.T, log *zap.Logger, deliver string) (*applications, []*delivery.Target) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	client := &Client{Secrets: []string{benchSecret}, Authorizers: []string{"*"}}
	if err := json.Unmarshal([]byte(deliver), &client.Deliver); err != nil {
		t.Fatal(err)
	}
	clients := map[string]*Client{"shop": client}
	resolve, err := newResolver((&App{Clients: clients}).resolvables(), log)
	if err != nil {
		t.Fatal(err)
	}
	apps, err := newApplications(ctx, clients, benchApp(t).components, resolve)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(apps.cleanup)
	return apps, delivery.Recipients(apps.receivers)(benchComponent, benchAuthorizer)
}

func send(t *testing.T, target *delivery.Target) delivery.Result {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return target.Send(ctx, delivery.Item{Kind: delivery.KindMessage, AppID: benchAuthorizer, ID: strings.Repeat("0", 32), Body: []byte("<xml></xml>")})
}

func TestATargetHasWhatIsConfigured(t *testing.T) {
	t.Setenv("TEST_VALUE", "RESOLVED")
	t.Setenv("TEST_WEBHOOK", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3")
	core, logs := observer.New(zapcore.DebugLevel)
	_, targets := newTargets(t, zap.New(core), `[
		{"url":"https://a.test/$APPID$","tokens":["{env.TEST_VALUE}","{env.TEST_VALUE}2"],"encoding_aes_keys":["`+strings.Repeat("a", 43)+`","`+strings.Repeat("b", 43)+`"],
		 "webhook_secrets":["{env.TEST_WEBHOOK}","whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4"],"headers":{"X-B":"b","Authorization":"Bearer {env.TEST_VALUE}"},
		 "match":{"msg_type":["text"]},"no_reply":true,"timeout":"5s","retry_for":"7d","concurrency":4,"queue":5,"name":"main"},
		{"url":"https://a.test/$APPID$","token":"abc"}]`)
	if len(targets) != 2 {
		t.Fatal(targets)
	}
	main, other := targets[0], targets[1]
	if main.Place != 0 || other.Place != 1 {
		t.Errorf("their places are %d and %d", main.Place, other.Place)
	}
	type facts struct {
		Queue                   string
		Timeout, RetryFor       time.Duration
		Concurrency, MaxWaiting int
		NoReply                 bool
		Match                   Match
		Tokens, Webhooks        []string
		Keys                    int
		Headers                 []string
	}
	of := func(target *delivery.Target) (f facts) {
		f = facts{fmt.Sprint(target.Queue()), target.Timeout, target.RetryFor, target.Concurrency, target.MaxWaiting, target.NoReply, target.Match, nil, nil, len(target.Keys), nil}
		for _, token := range target.Tokens {
			f.Tokens = append(f.Tokens, token.Reveal())
		}
		for _, webhook := range target.WebhookSecrets {
			f.Webhooks = append(f.Webhooks, webhook.Reveal())
		}
		for _, header := range target.Headers {
			f.Headers = append(f.Headers, header.Name+": "+header.Value.Reveal())
		}
		return f
	}
	want := facts{
		"{" + benchComponent + " shop main}", 5 * time.Second, 7 * 24 * time.Hour, 4, 5, true, Match{MsgTypes: []string{"text"}},
		[]string{"RESOLVED", "RESOLVED2"}, []string{"0123456789abcdef01234567", "fedcba9876543210fedcba98"}, 2, []string{"Authorization: Bearer RESOLVED", "X-B: b"},
	}
	if diff := cmp.Diff(want, of(main)); diff != "" {
		t.Error(diff)
	}
	want = facts{"{" + benchComponent + " shop 73c95d66}", 30 * time.Second, 72 * time.Hour, 16, 10_000, false, Match{}, []string{"abc"}, nil, 0, nil}
	if diff := cmp.Diff(want, of(other)); diff != "" {
		t.Error(diff)
	}
	if main.Transport.(deliverTransport).HTTPTransport == other.Transport.(deliverTransport).HTTPTransport {
		t.Error("two targets share a transport")
	}
	for _, entry := range logs.All() {
		if text := fmt.Sprint(entry.Message, entry.ContextMap()); strings.Contains(text, "RESOLVED") || strings.Contains(text, "fedcba") {
			t.Errorf("logged: %s", text)
		}
	}
}

// Without options a target's limits are those that a reply in time needs, and what
// somebody tunes stays.
func TestTheTransportOfATarget(t *testing.T) {
	_, targets := newTargets(t, zap.NewNop(), `[{"url":"https://a.test","token":"abc"},
		{"url":"https://b.test","token":"abc","transport":{"dial_timeout":"7s","max_conns_per_host":3,"max_response_header_size":1000,"tls":{"handshake_timeout":"9s"},"keep_alive":{"max_idle_conns_per_host":1,"idle_timeout":"1s"}}}]`)
	var got []string
	for _, target := range targets {
		transport := target.Transport.(deliverTransport).HTTPTransport
		http := transport.Transport
		got = append(got, fmt.Sprint(time.Duration(transport.DialTimeout), http.TLSHandshakeTimeout, http.MaxConnsPerHost, http.MaxIdleConnsPerHost, http.IdleConnTimeout,
			http.MaxResponseHeaderBytes, http.ResponseHeaderTimeout, slices.Contains(http.TLSClientConfig.NextProtos, "h2"), http.Proxy != nil))
	}
	want := []string{"2s 2s 256 64 1m30s 65536 0s true true", "7s 9s 3 1 1s 1000 0s true true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A redirect could lead anywhere, and to whoever can answer in the place of the
// application.
func TestRedirectsOfATargetAreNotFollowed(t *testing.T) {
	var visits atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visits.Add(1)
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	_, targets := newTargets(t, zap.NewNop(), `{"url":"`+server.URL+`","token":"abc"}`)
	if result := send(t, targets[0]); result.Err == nil || !strings.Contains(result.Err.Error(), "redirects are not followed") || visits.Load() != 1 {
		t.Errorf("%v, %d visits", result.Err, visits.Load())
	}
}

// What is said of a connection that could not be made is the same as with Go's own
// transport.
func TestATargetThatIsAway(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	_, targets := newTargets(t, zap.NewNop(), `{"url":"http://`+listener.Addr().String()+`/path?secret=SECRET","token":"abc"}`)
	want := "posting: no connection: dial tcp " + listener.Addr().String() + ": connect: connection refused"
	if result := send(t, targets[0]); result.Err == nil || result.Err.Error() != want {
		t.Errorf("%v", result.Err)
	}
}

// hanging is an application at whose path /hangs nothing is answered before release.
type hanging struct {
	*httptest.Server
	arrived chan struct{}
	release chan struct{}
	states  chan http.ConnState
}

func newHanging(t *testing.T) *hanging {
	h := &hanging{arrived: make(chan struct{}, 10), release: make(chan struct{}), states: make(chan http.ConnState, 100)}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hangs" {
			h.arrived <- struct{}{}
			<-h.release
		}
	}))
	h.Config.ConnState = func(_ net.Conn, state http.ConnState) { h.states <- state }
	h.Start()
	t.Cleanup(h.Close)
	return h
}

// All connections of one target are in use; another's to the same host and port are
// its own.
func TestAStuckTargetTakesNoConnectionOfAnother(t *testing.T) {
	server := newHanging(t)
	_, targets := newTargets(t, zap.NewNop(), `[{"url":"`+server.URL+`/hangs","token":"abc","transport":{"max_conns_per_host":1}},
		{"url":"`+server.URL+`/","token":"abc","transport":{"max_conns_per_host":1}}]`)
	done := make(chan delivery.Result)
	go func() { done <- send(t, targets[0]) }()
	<-server.arrived
	if result := send(t, targets[1]); result.Err != nil {
		t.Error(result.Err)
	}
	close(server.release)
	if result := <-done; result.Err != nil {
		t.Error(result.Err)
	}
}

// A reload cleans up the old configuration while its deliveries go on.
func TestDeliveriesInProgressOutliveTheirConfiguration(t *testing.T) {
	server := newHanging(t)
	apps, targets := newTargets(t, zap.NewNop(), `{"url":"`+server.URL+`/hangs","token":"abc"}`)
	done := make(chan delivery.Result)
	go func() { done <- send(t, targets[0]) }()
	<-server.arrived
	apps.cleanup()
	close(server.release)
	if result := <-done; result.Err != nil {
		t.Error(result.Err)
	}
	for deadline := time.After(10 * time.Second); ; {
		select {
		case state := <-server.states:
			if state == http.StateClosed {
				return
			}
		case <-deadline:
			t.Fatal("the connection stays open")
		}
	}
}
