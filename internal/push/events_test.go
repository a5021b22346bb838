// SPDX-License-Identifier: Apache-2.0

package push

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

const theComponent = "wx134c8103faa5a59e"

// counting is an application that takes everything at once.
type counting struct{ deliveries atomic.Int64 }

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.deliveries.Add(1)
	_, _ = io.Copy(io.Discard, r.Body)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("success"))}, nil
}

// receiverOf returns a receiver that queues events of every account in storage for app.
func receiverOf(t *testing.T, storage *vaulttest.Memory, app *counting) *Receiver {
	t.Helper()
	ring, err := vault.NewKeyring(bytes.Repeat([]byte{1}, vault.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	records := vault.New(func() vault.Storage { return storage }, func(string) *vault.Keyring { return ring })
	target := &delivery.Target{Component: theComponent, Client: "shop", URL: &url.URL{Scheme: "http", Host: "shop.test"},
		Token: secret.New("TOKEN"), Transport: app}
	targets := map[vault.Queue]*delivery.Target{{Component: theComponent, Client: "shop"}: target}
	courier := delivery.NewCourier(app, func() delivery.Settings {
		return delivery.Settings{Vault: records, Log: zap.NewNop(), Targets: targets}
	})
	t.Cleanup(courier.Close)
	courier.Serve(targets)
	return &Receiver{Courier: courier, Replays: NewReplays(), Log: zap.NewNop(),
		Recipients: func(string, string) []*delivery.Target { return []*delivery.Target{target} }}
}

// eventOf is a push of this text, as OpenEvent returns it.
func eventOf(plain string) *Event {
	return &Event{component: theComponent, event: bizmsg.Event{AppID: theComponent, InfoType: "something"}, plain: []byte(plain),
		id: pushID(delivery.EventID(theComponent, []byte(plain))), arrived: time.Now()}
}

const somethingOfAnAccount = "<xml><InfoType>something</InfoType><appid>wxaaaaaaaaaaaaaaaa</appid></xml>"

// A copy arrives while the first one is being stored: the delivery is over before
// the copy would have been stored.
func TestCopiesOfAnEventAreHandledTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage, app := new(vaulttest.Memory), new(counting)
		rx := receiverOf(t, storage, app)
		storage.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == vaulttest.Store {
				time.Sleep(time.Second)
			}
			return nil
		})
		handled := make(chan error)
		leaving, leave := context.WithCancel(t.Context())
		for i := range 3 {
			ctx := t.Context()
			if i == 0 {
				ctx = leaving
			}
			go func() { handled <- rx.HandleEvent(ctx, eventOf(somethingOfAnAccount)) }()
			time.Sleep(300 * time.Millisecond)
		}
		leave() // the sender of the first copy does not wait for the answer
		for range 3 {
			if err := <-handled; err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Minute)
		if n := app.deliveries.Load(); n != 1 {
			t.Errorf("%d deliveries of one event", n)
		}
	})
}

// As long as a push of it may be believed, an event is not delivered again; one that
// could not be stored is.
func TestAnEventIsRememberedOnceItIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage, app := new(vaulttest.Memory), new(counting)
		rx := receiverOf(t, storage, app)
		storage.Intercept(func(context.Context, vaulttest.Op, string) error { return errors.New("disk full") })
		var failure *retryableError
		if err := rx.HandleEvent(t.Context(), eventOf(somethingOfAnAccount)); !errors.As(err, &failure) {
			t.Errorf("without storage: %v", err)
		}
		storage.Intercept(nil)
		for range 20 {
			if err := rx.HandleEvent(t.Context(), eventOf(somethingOfAnAccount)); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
		if n := app.deliveries.Load(); n != 1 {
			t.Errorf("%d deliveries of one event", n)
		}
	})
}
