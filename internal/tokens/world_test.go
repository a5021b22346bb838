// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	theComponent = sandbox.DefaultComponent
	theShop      = "wxaaaaaaaaaaaaaaaa"

	askComponentToken  = "/cgi-bin/component/" + openapi.EndpointComponentToken
	askStartPushTicket = "/cgi-bin/component/" + openapi.EndpointStartPushTicket
	askQueryAuth       = "/cgi-bin/component/" + openapi.EndpointQueryAuth
	askAuthorizerToken = "/cgi-bin/component/" + openapi.EndpointAuthorizerToken
	askAuthorizerInfo  = "/cgi-bin/component/" + openapi.EndpointAuthorizerInfo
	askDomainIP        = openapi.EndpointDomainIP

	theClient = "app"
)

var (
	platform = subject.Of(theComponent, "")
	shop     = subject.Of(theComponent, theShop)
)

// world is WeChat, a storage, and as many gateway nodes as a test wants, all
// in one bubble of testing/synctest: no socket, no real clock.
type world struct {
	*testing.T
	weixin  *sandbox.Sandbox
	storage *vaulttest.Memory
	logs    *observer.ObservedLogs
	log     *zap.Logger

	mu   sync.Mutex
	wire http.RoundTripper // between the gateway and WeChat
	node *node             // receives the pushes; nil: they fail
	deaf atomic.Bool       // they fail as well
}

// node is one gateway process.
type node struct {
	*Keeper
	world    *world
	settings atomic.Pointer[Settings]
}

// play runs test in a world with a pushed ticket and one account, known to
// WeChat but not authorized yet.
func play(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, storage: new(vaulttest.Memory)}
		var core zapcore.Core
		core, w.logs = observer.New(zap.DebugLevel)
		w.log = zap.New(core)
		var err error
		w.weixin, err = sandbox.New(sandbox.Config{EventsURL: "http://gateway/events", Transport: transportFunc(w.push)})
		w.must(err)
		w.wire = w.weixin.Transport()
		w.must(w.weixin.AddAccount(sandbox.Account{AppID: theShop}))
		t.Cleanup(w.nothingLeaked)
		w.node = w.start()
		w.must(w.weixin.PushTicket(t.Context()))
		test(w)
	})
}

// playAuthorized is play with the account authorized and its token in memory.
func playAuthorized(t *testing.T, test func(w *world)) {
	play(t, func(w *world) {
		w.authorize(theShop)
		w.token(shop)
		w.weixin.ResetCounts()
		test(w)
	})
}

// start adds a node over the world's storage; it is closed when the test ends.
func (w *world) start() *node {
	n := &node{world: w}
	n.settings.Store(w.settings(1))
	n.Keeper = NewKeeper(n.settings.Load, new(remembering))
	w.Cleanup(n.Close)
	return n
}

// restart replaces the node like a crash: what is in memory is lost.
func (w *world) restart() *node {
	w.node.Close()
	synctest.Wait() // the calls that it broke off are counted
	w.node = w.start()
	return w.node
}

// settings are those of a configuration with the seal key of this number.
func (w *world) settings(key byte) *Settings {
	ring, err := vault.NewKeyring(bytes.Repeat([]byte{key}, vault.KeySize))
	w.must(err)
	storage := metrics.NewStorage(w.storage, func() *zap.Logger { return w.log })
	return &Settings{
		Components: map[string]secret.Secret{theComponent: secret.New(sandbox.DefaultAppSecret)},
		API:        &openapi.Client{Transport: transportFunc(w.carry)},
		Vault:      vault.New(func() vault.Storage { return storage }, func(string) *vault.Keyring { return ring }),
		Log:        w.log,
		Emit:       func(string, map[string]any) {},
	}
}

// carry takes a call to WeChat.
func (w *world) carry(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	wire := w.wire
	w.mu.Unlock()
	return wire.RoundTrip(r)
}

// rewire puts change between the gateway and WeChat.
func (w *world) rewire(change func(r *http.Request, next http.RoundTripper) (*http.Response, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := w.weixin.Transport()
	w.wire = transportFunc(func(r *http.Request) (*http.Response, error) { return change(r, next) })
}

// push takes WeChat's pushes to the node, as package push does.
func (w *world) push(r *http.Request) (*http.Response, error) {
	answer := &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("success"))}
	if w.node == nil || w.deaf.Load() {
		answer.StatusCode = http.StatusServiceUnavailable
		return answer, nil
	}
	err := w.node.take(r)
	if err != nil {
		answer.StatusCode = http.StatusServiceUnavailable
	}
	return answer, nil
}

func (n *node) take(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	n.world.must(err)
	envelope, err := bizmsg.ParseEnvelope(body)
	n.world.must(err)
	key, err := bizmsg.ParseKey(secret.New(sandbox.DefaultEncodingAESKey))
	n.world.must(err)
	codec := &bizmsg.Codec{ReceiveID: theComponent, Tokens: []secret.Secret{secret.New(sandbox.DefaultToken)}, Keys: []bizmsg.Key{key}}
	q := r.URL.Query()
	message, err := codec.Open(q.Get("msg_signature"), q.Get("timestamp"), q.Get("nonce"), envelope.Encrypt)
	n.world.must(err)
	e, err := bizmsg.ParseEvent(message.Plain)
	n.world.must(err)
	switch e.InfoType {
	case bizmsg.InfoTicket:
		return n.Ticket(r.Context(), theComponent, e.ComponentVerifyTicket, e.CreateTime)
	case bizmsg.InfoUnauthorized:
		return n.Unauthorized(r.Context(), theComponent, e.AuthorizerAppID, e.CreateTime)
	}
	return n.Authorized(r.Context(), Grant{theComponent, e.AuthorizerAppID, e.AuthorizationCode, e.CreateTime})
}

// rejection is WeChat's answer to a call of theClient with this token, on one path.
func rejection(token *Token) Rejection { return rejectionTo(theClient, authorizerCall, token) }

func rejectionTo(client, path string, token *Token) Rejection {
	return Rejection{Caller: Caller{client, path}, Token: token, Errcode: 40001, Arrived: time.Now()}
}

// fill stores a live token of each of n authorizers.
func (w *world) fill(n int) (all []subject.Subject) {
	w.Helper()
	v, now := w.settings(1).Vault, time.Now()
	for i := range n {
		who := subject.Of(theComponent, fmt.Sprintf("wx%016x", i))
		token := fmt.Sprintf("%0157d", i) // as long as those that WeChat has been seen to give out
		_, err := v.Store(w.Context(), who, vault.Record{
			Token: secret.New(token), Obtained: now, Expires: now.Add(24 * time.Hour),
			Refresh: secret.New("refreshtoken@@@" + token), EventTime: now, Functions: []int{1, 2, 3},
		})
		w.must(err)
		all = append(all, who)
	}
	return all
}

// authorize lets the account's admin agree and everything settle.
func (w *world) authorize(appid string) (code string) {
	w.Helper()
	code, err := w.weixin.Authorize(w.Context(), appid)
	w.must(err)
	synctest.Wait()
	return code
}

// token returns what the node serves, which must be what WeChat takes.
func (w *world) token(who subject.Subject) *Token {
	w.Helper()
	return w.tokenFrom(w.node, who)
}

func (w *world) tokenFrom(n *node, who subject.Subject) *Token {
	w.Helper()
	token, err := n.Current(w.Context(), who, theClient)
	w.must(err)
	w.isValid(token, who)
	return token
}

// renewAhead asks for a token that is due for renewal, and waits until it has been renewed.
// The token that is served may be the one before.
func (w *world) renewAhead(who subject.Subject) {
	w.Helper()
	_, err := w.node.Current(w.Context(), who, theClient)
	w.must(err)
	synctest.Wait()
	w.token(who)
}

func (w *world) isValid(token *Token, who subject.Subject) {
	w.Helper()
	kind := sandbox.KindAuthorizer
	if who.IsComponent() {
		kind = sandbox.KindComponent
	}
	if valid := w.weixin.ValidToken(kind, who.Authorizer()); token.Value.Reveal() != valid {
		w.Fatalf("token of %s is %.12s…, WeChat's newest is %.12s…", who, token.Value.Reveal(), valid)
	}
}

// record is what is stored of who, as another process would read it.
func (w *world) record(who subject.Subject) vault.Record {
	w.Helper()
	record, err := w.settings(1).Vault.Load(w.Context(), who)
	w.must(err)
	return record
}

// fails checks that who gets no token and what the caller is told.
func (w *world) fails(who subject.Subject, want *problem.Problem) {
	w.Helper()
	token, err := w.node.Current(w.Context(), who, theClient)
	if token != nil || err == nil || problem.Of(err).Slug != want.Slug {
		w.Fatalf("Current gives %v, %v; want an error answered as %s", token, err, want.Slug)
	}
}

// calls checks how often a path was called since the counts were reset.
func (w *world) calls(path string, want int) {
	w.Helper()
	if got := w.weixin.Count(path); got != want {
		w.Errorf("%s was called %d times, want %d", path, got, want)
	}
}

// renewals is how often a token was asked for since the counts were reset.
func (w *world) renewals() int {
	return w.weixin.Count(askAuthorizerToken) + w.weixin.Count(askComponentToken)
}

// silent checks that nothing was asked of WeChat since the counts were reset.
func (w *world) silent() {
	w.Helper()
	if calls := w.weixin.Calls(); len(calls) > 0 {
		w.Errorf("WeChat was called %d times, first %s; want no call", len(calls), calls[0].Path)
	}
}

// logged counts the lines at level or above whose message and fields contain text.
func (w *world) logged(level zapcore.Level, text string) (lines int) {
	for _, entry := range w.logs.All() {
		if entry.Level >= level && strings.Contains(lineOf(entry), text) {
			lines++
		}
	}
	return lines
}

// lineOf shows everything that stands in a line of the log.
func lineOf(entry observer.LoggedEntry) string {
	fields := entry.ContextMap()
	line := entry.Message
	for name, value := range maps.All(fields) {
		line += fmt.Sprintf(" %s=%v", name, value)
	}
	return line
}

// nothingLeaked ends every test: no credential may stand in the log, nor in
// clear in the storage.
func (w *world) nothingLeaked() {
	var text strings.Builder
	for _, entry := range w.logs.All() {
		text.WriteString(lineOf(entry) + "\n")
	}
	for name, file := range w.storage.Files() {
		text.WriteString(name + string(file) + "\n")
	}
	for _, credential := range w.weixin.Credentials() {
		if strings.Contains(text.String(), credential) {
			w.Errorf("%.20s… stands in the log or the storage", credential)
		}
	}
}

// breakStorage lets the operations fail on records, not on tickets.
func (w *world) breakStorage(operations ...vaulttest.Op) {
	w.storage.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
		for _, broken := range operations {
			if op == broken && !strings.Contains(name, "ticket") {
				return errors.New("disk full")
			}
		}
		return nil
	})
}

func (w *world) repairStorage() { w.storage.Intercept(nil) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
