// SPDX-License-Identifier: Apache-2.0

package push

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
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

const (
	component = "wx134c8103faa5a59e"
	account   = "wxaaaaaaaaaaaaaaaa"
	account2  = "wxbbbbbbbbbbbbbbbb"
	userName  = "gh_0123456789ab"
	follower  = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
)

// world is a storage, applications, and nodes of the gateway that share them. There
// are no sockets in it, so it works in a bubble of testing/synctest.
type world struct {
	t       *testing.T
	codec   *bizmsg.Codec
	memory  *vaulttest.Memory
	targets []*delivery.Target
	logs    *observer.ObservedLogs
	log     *zap.Logger
	nonces  int

	mu  sync.Mutex
	got []taken
}

// taken is one delivery as it reached an application.
type taken struct {
	target, id, text string
	at               time.Time
}

// answer is what an application says after a while. Status 0 breaks the connection.
type answer struct {
	after  time.Duration
	status int
	body   string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	key, err := bizmsg.ParseKey(secret.New(strings.Repeat("k", 43)))
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.InfoLevel)
	return &world{
		t: t, memory: new(vaulttest.Memory), logs: logs, log: zap.New(core),
		codec: &bizmsg.Codec{ReceiveID: component, Tokens: []secret.Secret{secret.New("pushtoken")}, Keys: []bizmsg.Key{key}},
	}
}

// target adds one whose application answers the nth delivery as answers[n] says, and
// all later ones like the last.
func (w *world) target(name string, answers ...answer) *delivery.Target {
	calls := 0
	target := &delivery.Target{
		Component: component, Client: name, Name: "main", URL: &url.URL{Scheme: "http", Host: name + ".test"},
		Tokens: []secret.Secret{secret.New("CLIENTtoken")}, Timeout: 30 * time.Second, RetryFor: time.Hour, Concurrency: 16, MaxWaiting: 1000,
	}
	target.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		body, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		w.got = append(w.got, taken{name, r.URL.Query().Get("event_id"), string(body), time.Now()})
		a := answers[min(calls, len(answers)-1)]
		calls++
		w.mu.Unlock()
		select {
		case <-time.After(a.after):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
		if a.status == 0 {
			return nil, errors.New("connection reset")
		}
		return &http.Response{StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(a.body))}, nil
	})
	w.targets = append(w.targets, target)
	return target
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// deliveries returns what has reached the applications.
func (w *world) deliveries() []taken {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.got)
}

// node is one process of the gateway.
type node struct {
	*Receiver
	world   *world
	courier *delivery.Courier
	sweep   context.CancelFunc
}

func (w *world) node() *node {
	w.t.Helper()
	ring, err := vault.NewKeyring(bytes.Repeat([]byte{1}, vault.KeySize))
	if err != nil {
		w.t.Fatal(err)
	}
	records := vault.New(func() vault.Storage { return w.memory }, func(string) *vault.Keyring { return ring })
	settings := delivery.Settings{Vault: records, Log: w.log, Targets: make(map[vault.Queue]*delivery.Target), Components: []string{component}}
	for _, target := range w.targets {
		settings.Targets[target.Queue()] = target
	}
	courier := delivery.NewCourier(func() delivery.Settings { return settings })
	n := &node{world: w, courier: courier, Receiver: &Receiver{
		Codecs: map[string]*bizmsg.Codec{component: w.codec}, Courier: courier, Deliveries: delivery.NewDeliveries(courier),
		Habits: NewHabits(), Seen: new(delivery.Seen), Log: w.log,
		Address:    func(*http.Request) netip.Addr { return netip.Addr{} },
		Recipients: func(string, string) []*delivery.Target { return w.targets },
	}}
	courier.Serve(settings.Targets)
	var sweeping context.Context
	sweeping, n.sweep = context.WithCancel(context.Background())
	go n.Deliveries.Sweep(sweeping)
	w.t.Cleanup(n.kill)
	return n
}

// stop ends the node in good order, within the grace period.
func (n *node) stop(grace time.Duration) {
	within, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	n.Deliveries.Finish(within)
	n.kill()
}

// kill ends what would go on in the background of the test.
func (n *node) kill() {
	n.sweep()
	over, cancel := context.WithCancel(context.Background())
	cancel()
	n.Deliveries.Finish(over)
	n.courier.Close()
}

// text is a follower's message that was made now.
func text(id int, content string) string {
	return fmt.Sprintf("<xml><ToUserName><![CDATA[%s]]></ToUserName><FromUserName><![CDATA[%s]]></FromUserName><CreateTime>%d</CreateTime>"+
		"<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[%s]]></Content><MsgId>%d</MsgId></xml>", userName, follower, time.Now().Unix(), content, id)
}

// reply is the passive reply of an application.
func reply(content string) string {
	return fmt.Sprintf("<xml><ToUserName><![CDATA[%s]]></ToUserName><FromUserName><![CDATA[%s]]></FromUserName><CreateTime>1</CreateTime>"+
		"<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[%s]]></Content></xml>", follower, userName, content)
}

// request is one push of a message, sealed anew.
func (w *world) request(ctx context.Context, appid, plain string) *http.Request {
	return w.sealed(ctx, "/wechat/messages/"+appid, "<ToUserName><![CDATA["+userName+"]]></ToUserName>", plain)
}

// eventRequest is one push of an authorisation event, sealed anew.
func (w *world) eventRequest(ctx context.Context, plain string) *http.Request {
	return w.sealed(ctx, "/wechat/events", "<AppId><![CDATA["+component+"]]></AppId>", plain)
}

func (w *world) sealed(ctx context.Context, path, names, plain string) *http.Request {
	w.mu.Lock()
	w.nonces++
	nonce := strconv.Itoa(w.nonces)
	w.mu.Unlock()
	sealed := w.codec.Seal([]byte(plain), time.Now(), nonce)
	query := url.Values{"timestamp": {sealed.TimeStamp}, "nonce": {nonce}, "openid": {follower}, "msg_signature": {sealed.MsgSignature}}
	body := "<xml>" + names + "<Encrypt><![CDATA[" + sealed.Encrypt + "]]></Encrypt></xml>"
	r := httptest.NewRequest(http.MethodPost, path+"?"+query.Encode(), strings.NewReader(body))
	return r.WithContext(ctx)
}

// serve is the handler for messages, without Caddy. It returns the status, 0 after a
// hang-up, and the answer; a reply is opened.
func (n *node) serve(r *http.Request) (status int, shown string) {
	recorder := httptest.NewRecorder()
	message, err := n.OpenMessage(recorder, r)
	var body []byte
	if err == nil {
		body, err = n.HandleMessage(r.Context(), message)
	}
	switch {
	case errors.Is(err, ErrHungUp):
		return 0, ""
	case err != nil:
		n.Reject(recorder, r, MessagesURL, err)
		return recorder.Code, ""
	case string(body) == "success":
		return http.StatusOK, "success"
	}
	envelope, err := bizmsg.ParseEnvelope(body)
	if err != nil {
		n.world.t.Errorf("%v in %s", err, body)
		return http.StatusOK, ""
	}
	opened, err := n.world.codec.Open(envelope.MsgSignature, envelope.TimeStamp, envelope.Nonce, envelope.Encrypt)
	if err != nil {
		n.world.t.Error(err)
		return http.StatusOK, ""
	}
	return http.StatusOK, string(opened.Plain)
}

// push sends a text as WeChat does: three times, for five seconds each, to one node
// after the other. It returns what the follower sees: the reply, "success" for nothing,
// or "unavailable"; and which attempt brought it.
func (w *world) push(plain string, nodes ...*node) (shown string, attempt int) {
	for attempt = 1; attempt <= 3; attempt++ {
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		status, shown := nodes[(attempt-1)%len(nodes)].serve(w.request(ctx, account, plain))
		hungUp := ctx.Err() != nil
		cancel()
		if !hungUp && status == http.StatusOK {
			return shown, attempt
		}
	}
	return "unavailable", 3
}

// waiting is how many items are in the queues.
func (w *world) waiting() (n int) {
	for key := range w.memory.Files() {
		if strings.Contains(key, "/events/") {
			n++
		}
	}
	return n
}

// stored is how many writes the storage has seen.
func (w *world) stored() int { return w.memory.Count(vaulttest.Store) }
