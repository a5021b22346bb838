// SPDX-License-Identifier: Apache-2.0

package push

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// eventOf is a push of this text, as OpenEvent returns it.
func eventOf(plain string) *Event {
	return &Event{component: component, event: bizmsg.Event{AppID: component, InfoType: "something"}, plain: []byte(plain),
		id: delivery.EventID(component, []byte(plain)), arrived: time.Now()}
}

const somethingOfAnAccount = "<xml><InfoType>something</InfoType><appid>wxaaaaaaaaaaaaaaaa</appid></xml>"

// A copy arrives while the first one is being stored: the delivery is over before
// the copy would have been stored.
func TestCopiesOfAnEventAreHandledTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{0, 200, "success"})
		rx := w.node()
		w.memory.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
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
		if n := len(w.deliveries()); n != 1 {
			t.Errorf("%d deliveries of one event", n)
		}
	})
}

// As long as a push of it may be believed, an event is not delivered again; one that
// could not be stored is.
func TestAnEventIsRememberedOnceItIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{0, 200, "success"})
		rx := w.node()
		w.memory.Intercept(func(context.Context, vaulttest.Op, string) error { return errors.New("disk full") })
		var failure *retryableError
		if err := rx.HandleEvent(t.Context(), eventOf(somethingOfAnAccount)); !errors.As(err, &failure) {
			t.Errorf("without storage: %v", err)
		}
		w.memory.Intercept(nil)
		for range 20 {
			if err := rx.HandleEvent(t.Context(), eventOf(somethingOfAnAccount)); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
		if n := len(w.deliveries()); n != 1 {
			t.Errorf("%d deliveries of one event", n)
		}
	})
}
