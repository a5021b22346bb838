// SPDX-License-Identifier: Apache-2.0

package publishtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/publishtest"
	"github.com/caddy-wechat/caddy-wechat/internal/push"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	platform  = sandbox.DefaultComponent
	tester    = "oWeChatTester_0123456789abcd"
	customer  = "/cgi-bin/message/custom/send"
	queryAuth = "/cgi-bin/component/api_query_auth"
)

// testAccounts are those of WeChat's page, group by group.
var testAccounts = []sandbox.Account{
	{AppID: "wx570bc396a51b8ff8", UserName: "gh_3c884a361561"}, {AppID: "wxd101a85aa106f53e", UserName: "gh_8dad206e9538", MiniProgram: true},
	{AppID: "wx9252c5e0bb1836fc", UserName: "gh_c0f28a78b318"}, {AppID: "wxc39235c15087f6f3", UserName: "gh_905ae9d01059", MiniProgram: true},
	{AppID: "wx8e1097c5bc82cde9", UserName: "gh_3f222ed8d140"}, {AppID: "wx7720d01d4b2a4500", UserName: "gh_393666f1fdf4", MiniProgram: true},
	{AppID: "wx14550af28c71a144", UserName: "gh_26128078e9ab"}, {AppID: "wx05d483572dcd5d8b", UserName: "gh_39abb5d4e1b7", MiniProgram: true},
	{AppID: "wxa35b9c23cfe664eb", UserName: "gh_2b3713f184a6"}, {AppID: "wx5910277cae6fd970", UserName: "gh_7818dcb60240", MiniProgram: true},
}

var official, mini = testAccounts[0].AppID, testAccounts[1].AppID

// world is WeChat, a storage, and nodes of the gateway, in one bubble of
// testing/synctest.
type world struct {
	*testing.T
	weixin *sandbox.Sandbox
	memory *vaulttest.Memory
	logs   *observer.ObservedLogs
	log    *zap.Logger

	mu    sync.Mutex
	nodes []*node
	wire  func(r *http.Request) (*http.Response, error) // between the gateway and WeChat
}

// play runs test in a world with one node and all test accounts, which have not
// authorised the platform yet.
func play(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, memory: new(vaulttest.Memory)}
		core, logs := observer.New(zap.DebugLevel)
		w.logs, w.log = logs, zap.New(core)
		var err error
		w.weixin, err = sandbox.New(sandbox.Config{
			EventsURL: "http://0/events", MessagesURL: "http://0/messages/$APPID$", Transport: transport(w.push),
		})
		w.must(err)
		w.wire = w.weixin.Transport().RoundTrip
		for _, account := range testAccounts {
			w.must(w.weixin.AddAccount(account))
		}
		t.Cleanup(w.nothingLeaked)
		w.node()
		w.must(w.weixin.PushTicket(t.Context()))
		test(w)
	})
}

// node is one process of the gateway. WeChat reaches it by its number as the host.
type node struct {
	number  int
	keeper  *tokens.Keeper
	tester  *publishtest.Tester
	rx      *push.Receiver
	courier *delivery.Courier
	storage *vaulttest.Client
	stopRun context.CancelFunc
	dead    atomic.Bool
	got     atomic.Int32 // messages that have reached the application
}

func (w *world) node() *node {
	w.Helper()
	n := &node{number: len(w.nodes), storage: w.memory.NewClient()}
	ring, err := vault.NewKeyring(bytes.Repeat([]byte{1}, vault.KeySize))
	w.must(err)
	records := vault.New(func() vault.Storage { return n.storage }, func(string) *vault.Keyring { return ring })
	settings := &tokens.Settings{
		Components: map[string]secret.Secret{platform: secret.New(sandbox.DefaultAppSecret)}, Vault: records, Log: w.log,
		API: &openapi.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			if n.dead.Load() {
				return nil, errors.New("this process is dead")
			}
			w.mu.Lock()
			wire := w.wire
			w.mu.Unlock()
			return wire(r)
		})},
		Emit: func(string, map[string]any) {},
	}
	n.keeper = tokens.NewKeeper(func() *tokens.Settings { return settings }, new(memory))
	n.tester = publishtest.New(func() publishtest.Settings {
		return publishtest.Settings{Vault: records, Log: w.log, Components: []string{platform}}
	}, n.keeper)
	n.receive(w, records)
	w.mu.Lock()
	w.nodes = append(w.nodes, n)
	w.mu.Unlock()
	var run context.Context
	run, n.stopRun = context.WithCancel(context.Background())
	n.keeper.Run(run)
	n.tester.Run(run)
	go n.rx.Deliveries.Sweep(run)
	w.Cleanup(n.kill)
	return n
}

// receive makes what takes pushes. An application takes what is not answered before.
func (n *node) receive(w *world, records *vault.Vault) {
	key, err := bizmsg.ParseKey(secret.New(sandbox.DefaultEncodingAESKey))
	w.must(err)
	target := &delivery.Target{
		Component: platform, Client: "shop", Name: "main", URL: &url.URL{Scheme: "http", Host: "shop.test"},
		Tokens: []secret.Secret{secret.New("CLIENTtoken")}, Timeout: 30 * time.Second, RetryFor: time.Hour, Concurrency: 16, MaxWaiting: 1000,
		Transport: transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("openid") != "" {
				n.got.Add(1)
			}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("success"))}, nil
		}),
	}
	settings := delivery.Settings{Vault: records, Log: w.log, Components: []string{platform}} // no queue is served
	n.courier = delivery.NewCourier(func() delivery.Settings { return settings })
	n.rx = &push.Receiver{
		Codecs: map[string]*bizmsg.Codec{platform: {ReceiveID: platform, Tokens: []secret.Secret{secret.New(sandbox.DefaultToken)}, Keys: []bizmsg.Key{key}}},
		Tokens: n.keeper, Courier: n.courier, Deliveries: delivery.NewDeliveries(n.courier), Habits: push.NewHabits(), Seen: new(delivery.Seen), Log: w.log,
		Address:    func(*http.Request) netip.Addr { return netip.Addr{} },
		Recipients: func(string, string) []*delivery.Target { return []*delivery.Target{target} },
		PublishTest: func(ctx context.Context, m delivery.Item) ([]byte, bool, error) {
			return n.tester.Answer(ctx, publishtest.Message{Component: m.Component, AppID: m.AppID, ID: m.ID, Plain: m.Body})
		},
	}
}

// stop ends the node in good order.
func (n *node) stop(grace time.Duration) {
	n.stopRun()
	within, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	n.rx.Deliveries.Finish(within)
	n.tester.Finish(within)
	n.kill()
}

// kill ends the node like a crash: it reaches nobody any more, and releases no lock.
func (n *node) kill() {
	n.dead.Store(true)
	n.storage.Close()
	n.stopRun()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	n.rx.Deliveries.Finish(now)
	n.tester.Finish(now)
	n.courier.Close()
	n.keeper.Close()
}

// push takes WeChat's pushes to the node that they name.
func (w *world) push(r *http.Request) (*http.Response, error) {
	var number int
	_, err := fmt.Sscan(r.URL.Host, &number)
	w.must(err)
	w.mu.Lock()
	n := w.nodes[number]
	w.mu.Unlock()
	if n.dead.Load() {
		return nil, errors.New("connection refused")
	}
	recorder := httptest.NewRecorder()
	if r.URL.Path == "/events" {
		event, err := n.rx.OpenEvent(recorder, r)
		if err == nil {
			err = n.rx.HandleEvent(r.Context(), event)
		}
		if err != nil {
			n.rx.Reject(recorder, r, push.EventsURL, err)
		} else {
			_, _ = recorder.WriteString("success")
		}
		return recorder.Result(), nil
	}
	message, err := n.rx.OpenMessage(recorder, r)
	var answer []byte
	if err == nil {
		answer, err = n.rx.HandleMessage(r.Context(), message)
	}
	if err != nil {
		n.rx.Reject(recorder, r, push.MessagesURL, err)
	} else {
		_, _ = recorder.Write(answer)
	}
	return recorder.Result(), nil
}

// to is the URL at which these nodes get messages, one attempt after the other.
func to(nodes ...*node) (urls []string) {
	for _, n := range nodes {
		urls = append(urls, fmt.Sprintf("http://%d/messages/$APPID$", n.number))
	}
	return urls
}

// rewire puts change between the gateway and WeChat.
func (w *world) rewire(change func(r *http.Request, next http.RoundTripper) (*http.Response, error)) {
	next := w.weixin.Transport()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wire = func(r *http.Request) (*http.Response, error) { return change(r, next) }
}

// authorize lets the account authorise, and returns the code. Its event comes with the
// same one.
func (w *world) authorize(appid string) (code string) {
	w.Helper()
	code, err := w.weixin.Authorize(w.Context(), appid)
	w.must(err)
	synctest.Wait()
	return code
}

// quiet lets no event come of an authorisation.
func (w *world) quiet() { w.weixin.SetSwitches(sandbox.Switches{NoAuthorizedPush: true}) }

// asks is the message in which WeChat sends a code.
func (w *world) asks(appid, code string) sandbox.Push {
	return w.weixin.Text(appid, tester, "QUERY_AUTH_CODE:"+code)
}

// wantEmpty pushes a message, which must be answered at once with nothing.
func (w *world) wantEmpty(p sandbox.Push) {
	w.Helper()
	began := time.Now()
	answer, err := w.weixin.Push(w.Context(), p)
	if err != nil || answer.Status != http.StatusOK || answer.Body != "" || time.Since(began) > time.Second {
		w.Errorf("answered %d %q after %v, %v; want an empty answer at once", answer.Status, answer.Body, time.Since(began), err)
	}
}

// wantSent checks how often the code was sent back, and that nothing else was sent.
func (w *world) wantSent(appid, code string, want int) {
	w.Helper()
	sent := 0
	for _, m := range w.weixin.SentMessages() {
		if m.AppID != appid {
			continue
		}
		if got, want := string(m.Body), `{"msgtype":"text","text":{"content":"`+code+`_from_api"},"touser":"`+tester+`"}`; got != want {
			w.Errorf("sent %s, want %s", got, want)
		}
		sent++
	}
	if sent != want {
		w.Errorf("%d messages were sent for %s, want %d; the log is\n%s", sent, appid, want, w.logged())
	}
}

// wantNothingLeft checks that no code is stored any more, and no lock is held. When pushes
// of that time are not believed any more, the note that it was sent back is gone, too.
func (w *world) wantNothingLeft() {
	w.Helper()
	w.wantNone("/publish-test/")
	if locked := w.memory.Locked(); len(locked) > 0 {
		w.Errorf("locked are %v", locked)
	}
	time.Sleep(45 * time.Minute)
	w.wantNone("/messages/")
}

// wantNone checks that no file with this in its name is stored.
func (w *world) wantNone(folder string) {
	w.Helper()
	for name := range w.memory.Files() {
		if strings.Contains(name, folder) {
			w.Errorf("%s is left", name)
		}
	}
}

func (w *world) logged() string {
	var text strings.Builder
	for _, entry := range w.logs.All() {
		fmt.Fprintln(&text, entry.Level, entry.Message, entry.ContextMap())
	}
	return text.String()
}

// nothingLeaked ends every test: no credential, of which a code is one, may stand in the
// log, nor in clear in the storage.
func (w *world) nothingLeaked() {
	time.Sleep(time.Minute) // locks that a node could not release are tried for a while
	text := w.logged()
	for name, file := range w.memory.Files() {
		text += name + string(file) + "\n"
	}
	for _, credential := range w.weixin.Credentials() {
		if strings.Contains(text, credential) {
			w.Errorf("%.20s… stands in the log or the storage", credential)
		}
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// memory holds the tokens of a node.
type memory struct{ tokens sync.Map }

func (m *memory) Get(who subject.Subject) *tokens.Token {
	token, _ := m.tokens.Load(who)
	known, _ := token.(*tokens.Token)
	return known
}

func (m *memory) Set(who subject.Subject, token *tokens.Token) { m.tokens.Store(who, token) }
func (m *memory) Drop(who subject.Subject)                     { m.tokens.Delete(who) }
func (m *memory) Close()                                       {}
