// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/push"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// process is a process whose configurations follow each other, without Caddy, but
// in the order in which Caddy calls the app. Each configuration has a client of its
// own of the same storage, which is closed when the configuration ends. WeChat is
// the sandbox; no socket and no real clock is used.
type process struct {
	*testing.T
	state   *state
	memory  *vaulttest.Memory
	weChat  *sandbox.Sandbox
	queue   vault.Queue
	configs []*config
	log     *zap.Logger
	logs    *observer.ObservedLogs // warnings and errors

	mu        sync.Mutex // guards all below
	holds     map[string]chan struct{}
	delivered map[string]int // event_id → number of times
}

type config struct {
	settings *settings
	client   *vaulttest.Client
	cancel   context.CancelFunc
}

// playProcess runs test with a process that has a ticket and a token of
// testAccount. At the end the process stops. Then no operation has met a closed
// client, no lock stands, and the log tells of no failure.
func playProcess(t *testing.T, test func(p *process)) {
	playProcessWith(t, sandbox.Config{}, test)
}

func playProcessWith(t *testing.T, c sandbox.Config, test func(p *process)) {
	synctest.Test(t, func(t *testing.T) {
		p := &process{
			T: t, memory: new(vaulttest.Memory), queue: vault.Queue{Component: sandbox.DefaultComponent, Client: "shop", Target: "main"},
			holds: make(map[string]chan struct{}), delivered: make(map[string]int),
		}
		var core zapcore.Core
		core, p.logs = observer.New(zap.WarnLevel)
		p.log = zap.New(core)
		var err error
		c.EventsURL, c.Transport = "http://gateway/events", roundTrip(p.push)
		p.weChat, err = sandbox.New(c)
		p.must(err)
		p.must(p.weChat.AddAccount(sandbox.Account{AppID: testAccount.Authorizer()}))
		t.Cleanup(p.finish)
		p.start()
		p.must(p.weChat.PushTicket(t.Context()))
		_, err = p.weChat.Authorize(t.Context(), testAccount.Authorizer())
		p.must(err)
		synctest.Wait()
		p.token()

		test(p)
	})
}

// finish ends the process and looks at what it has left.
func (p *process) finish() {
	synctest.Wait()
	p.end()
	for _, entry := range p.logs.All() {
		if entry.Level >= zap.ErrorLevel || strings.Contains(entry.Message, "storage") {
			p.Errorf("logged: %s %v", entry.Message, entry.ContextMap())
		}
	}
	for number, c := range p.configs {
		if refused := c.client.Refused(); len(refused) > 0 {
			p.Errorf("the storage of configuration %d was used after it was closed: %q", number, refused)
		}
	}
	if locked := p.memory.Locked(); len(locked) > 0 {
		p.Errorf("locks that stand: %q", locked)
	}
}

// start provisions and starts a configuration.
func (p *process) start() {
	c := &config{client: p.memory.NewClient()}
	p.configs = append(p.configs, c)
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(context.Background())
	target, err := url.Parse("http://application.test/")
	p.must(err)
	c.settings = newTestSettings(p, c.client)
	c.settings.storage = vault.NewConfigStorage(ctx, c.client)
	c.settings.tokens.Log = p.log
	c.settings.tokens.API = &openapi.Client{Transport: roundTrip(p.call)}
	c.settings.deliveries = delivery.Settings{Log: p.log, Targets: map[vault.Queue]*delivery.Target{
		p.queue: p.target(target),
	}}
	if p.state == nil {
		p.state, err = newState(c.settings)
		p.must(err)
	} else {
		c.settings.keepIn(p.state.vault, p.state.profiles, p.state.census.Heard)
	}
	p.state.start(c.settings)
}

// stop stops a configuration and cleans it up.
func (p *process) stop(c *config) {
	p.state.stop(c.settings, time.Now())
	c.cleanUp()
}

// cleanUp is Caddy's, but for the Cleanup of the app, which calls stop again.
func (c *config) cleanUp() {
	c.cancel()
	c.client.Close()
}

// reload puts another configuration in force, and returns how long that took.
func (p *process) reload() time.Duration {
	began, old := time.Now(), p.configs[len(p.configs)-1]
	p.start()
	p.state.retire(old.settings) // the event stopping
	retired := time.Now()
	p.stop(old)
	if late := time.Since(retired); late > 0 {
		p.Errorf("the servers were stopped %v after the drain", late)
	}
	took := time.Since(began)
	synctest.Wait() // what was in progress in the old storage has failed
	return took
}

// end ends the process in good order.
func (p *process) end() {
	p.stop(p.configs[len(p.configs)-1])
	p.must(p.state.Destruct())
}

// target is the application.
func (p *process) target(to *url.URL) *delivery.Target {
	return &delivery.Target{
		Component: p.queue.Component, Client: p.queue.Client, Name: p.queue.Target,
		URL: to, Tokens: []secret.Secret{secret.New("clienttoken")}, Transport: roundTrip(p.deliver),
	}
}

// push is WeChat's way to the gateway.
func (p *process) push(r *http.Request) (*http.Response, error) {
	key, err := bizmsg.ParseKey(secret.New(sandbox.DefaultEncodingAESKey))
	p.must(err)
	receiver := &push.Receiver{
		Codecs: map[string]*bizmsg.Codec{sandbox.DefaultComponent: {
			ReceiveID: sandbox.DefaultComponent, Tokens: []secret.Secret{secret.New(sandbox.DefaultToken)}, Keys: []bizmsg.Key{key},
		}},
		Tokens: p.state.keeper, Courier: p.state.courier, Deliveries: p.state.messages, Seen: p.state.seen, Address: clientAddress, Log: p.log,
		Recipients: func(string, string) []*delivery.Target { return []*delivery.Target{p.target(nil)} },
	}
	w := httptest.NewRecorder()
	event, err := receiver.OpenEvent(w, r)
	if err == nil {
		err = receiver.HandleEvent(r.Context(), event)
	}
	if err != nil {
		receiver.Reject(w, r, push.EventsURL, err)
	} else {
		_, err = io.WriteString(w, "success")
		p.must(err)
	}
	return w.Result(), nil
}

// call is the gateway's way to WeChat.
func (p *process) call(r *http.Request) (*http.Response, error) {
	if err := p.wait(r); err != nil {
		return nil, err
	}
	return p.weChat.Transport().RoundTrip(r)
}

// deliver is the gateway's way to the application.
func (p *process) deliver(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.delivered[r.URL.Query().Get("event_id")]++
	p.mu.Unlock()
	if err := p.wait(r); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("success"))}, nil
}

// wait waits while the path of a request is held.
func (p *process) wait(r *http.Request) error {
	p.mu.Lock()
	held := p.holds[r.URL.Path]
	p.mu.Unlock()
	if held == nil {
		return nil
	}
	select {
	case <-held:
		return nil
	case <-r.Context().Done():
		return r.Context().Err()
	}
}

// hold makes WeChat or the application not answer at a path until release is
// called.
func (p *process) hold(path string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := make(chan struct{})
	p.holds[path] = held
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.holds, path)
		close(held)
	}
}

// hang makes the storage hang at an operation whose name has this suffix, until
// release is called. The channel met is closed when it hangs.
func (p *process) hang(at vaulttest.Op, suffix string) (met chan struct{}, release func()) {
	met = make(chan struct{})
	released := make(chan struct{})
	var once sync.Once
	p.memory.Intercept(func(ctx context.Context, op vaulttest.Op, name string) error {
		if op != at || !strings.HasSuffix(name, suffix) {
			return nil
		}
		once.Do(func() { close(met) })
		select {
		case <-released:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return met, func() {
		p.memory.Intercept(nil)
		close(released)
	}
}

// begin runs do in the background until everything waits.
func begin(do func() error) (done chan error) {
	done = make(chan error, 1)
	go func() { done <- do() }()
	synctest.Wait()
	return done
}

// token returns a token of testAccount.
func (p *process) token() *tokens.Token {
	p.Helper()
	token, err := p.state.keeper.Current(p.Context(), testAccount, tokens.Itself)
	p.must(err)
	return token
}

// record returns what is stored of testAccount.
func (p *process) record() vault.Record {
	p.Helper()
	record, err := p.state.vault.Load(p.Context(), testAccount)
	p.must(err)
	return record
}

func (p *process) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
