// SPDX-License-Identifier: Apache-2.0

package operate_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

const (
	component = "wx0123456789abcdef"
	account   = "wxaaaaaaaaaaaaaaaa"
)

// world is the queues of two targets of client shop and one of client crm, and what
// their applications get.
type world struct {
	operate.Queues
	t       *testing.T
	storage *vaulttest.Memory

	mu   sync.Mutex
	got  []string       // target and InfoType of each delivery
	down map[string]int // target → status of its answers, if it is not 200
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ring, err := vault.NewKeyring(bytes.Repeat([]byte{1}, vault.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, storage: new(vaulttest.Memory), down: make(map[string]int)}
	targets := make(map[vault.Queue]*delivery.Target)
	for i, name := range []string{"shop/main", "shop/log", "crm/main"} {
		client, target, _ := strings.Cut(name, "/")
		u, err := url.Parse("http://" + client + ".test/" + target)
		if err != nil {
			t.Fatal(err)
		}
		to := &delivery.Target{
			Component: component, Client: client, Name: target, URL: u, Place: i,
			Tokens: []secret.Secret{secret.New("token")}, Transport: application{w, name},
		}
		targets[to.Queue()] = to
	}
	w.Settings = delivery.Settings{
		Log: zap.NewNop(), Targets: targets,
		Vault: vault.New(func() vault.Storage { return w.storage }, func(string) *vault.Keyring { return ring }),
	}
	w.Courier = delivery.NewCourier(func() delivery.Settings { return w.Settings })
	t.Cleanup(w.Courier.Close)
	return w
}

// application answers the deliveries to one target.
type application struct {
	*world
	name string
}

func (a application) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, infoType, _ := strings.Cut(string(body), "<InfoType>")
	infoType, _, _ = strings.Cut(infoType, "<")
	a.got = append(a.got, a.name+" "+infoType)
	status := http.StatusOK
	if a.down[a.name] != 0 {
		status = a.down[a.name]
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader("success"))}, nil
}

// delivered returns what the applications have got.
func (w *world) delivered() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.got)
}

// start is when the first event came.
var start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// id returns the id of the event with this number.
func id(n int) string { return fmt.Sprintf("%032x", n) }

// put stores the event with this number, which came so many minutes after start, in
// the queue of a target, or as its dead letter.
func (w *world) put(target string, n int, dead bool) vault.Event {
	w.t.Helper()
	client, name, _ := strings.Cut(target, "/")
	came := start.Add(time.Duration(n) * time.Minute)
	e := vault.Event{
		EventKey: vault.EventKey{
			Queue: vault.Queue{Component: component, Client: client, Target: name}, Arrived: came.UnixMicro(), AppID: account, ID: id(n), Dead: dead,
		},
		Kind: "event", InfoType: "unauthorized", Body: []byte("<xml><InfoType>unauthorized</InfoType></xml>"),
		Queued: came, Due: came.Add(time.Second), Attempts: 2, Failure: "HTTP status 500",
	}
	if err := w.Settings.Vault.Enqueue(w.t.Context(), e); err != nil {
		w.t.Fatal(err)
	}
	return e
}

// list returns state, target and number of each event on a page, and its Next.
func (w *world) list(query string) (events []string, next string) {
	w.t.Helper()
	page, err := w.List(w.t.Context(), query)
	if err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
	for _, e := range page.Items {
		events = append(events, fmt.Sprintf("%s %s/%s %s", e.State, e.Client, e.Target, strings.TrimLeft(e.EventID, "0")))
	}
	return events, page.Next
}

// refused returns the error that operators are told.
func refused(t *testing.T, err error) operate.Error {
	t.Helper()
	var told *operate.Error
	if !errors.As(err, &told) {
		t.Fatalf("not told: %v", err)
	}
	return *told
}
