// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

func TestStorageThatFails(t *testing.T) {
	down := func(only vaulttest.Op) func(context.Context, vaulttest.Op, string) error {
		return func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == only {
				return errors.New("storage is down")
			}
			return nil
		}
	}
	t.Run("at queueing, the push is not acknowledged", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, answering(200, ""))
			node := c.node()
			c.memory.Intercept(down(vaulttest.Store))
			err := node.Enqueue(t.Context(), event(account, 0, "a1"), []*delivery.Target{c.targets[shop]}, time.Time{})
			if !errors.Is(err, vault.ErrUnavailable) {
				t.Error(err)
			}
		})
	})
	for name, op := range map[string]vaulttest.Op{
		"at removing, the event may come twice but not at once": vaulttest.Delete,
		"at listing, it comes when the storage is back":         vaulttest.List,
		"at loading, it comes when the storage is back":         vaulttest.Load,
		"at locking, it comes when the storage is back":         vaulttest.Lock,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, answering(200, ""))
				node := c.idle()
				c.enqueue(node, event(account, 0, "a1"))
				c.memory.Intercept(down(op))
				node.Serve(c.targets)
				time.Sleep(29 * time.Second)
				if n := len(c.app.all()); n > 1 || n == 1 && op != vaulttest.Delete {
					t.Errorf("%d deliveries while the storage was down", n)
				}
				c.memory.Intercept(nil)
				time.Sleep(time.Minute)
				synctest.Wait()
				if n := len(c.app.all()); n < 1 || n > 2 || c.waiting() != 0 {
					t.Errorf("%d deliveries in the end, %d waiting", n, c.waiting())
				}
			})
		})
	}
}

func TestAnEventThatDoesNotOpenIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, answering(200, ""))
		other := delivery.NewCourier(func() delivery.Settings { return delivery.Settings{Vault: c.vault(2), Log: c.log} })
		c.enqueue(other, event(account, 0, "a1"))
		other.Close()
		node := c.node()
		c.enqueue(node, event(account, 1, "a2"))
		synctest.Wait()
		got := c.app.all()
		if len(got) != 1 || !strings.HasPrefix(got[0].query.Get("event_id"), "a2") {
			t.Errorf("%v", got)
		}
		for key := range c.memory.Files() {
			if !strings.Contains(key, "-a1") || !strings.Contains(key, ".json.unreadable-") {
				t.Errorf("stored: %s", key)
			}
		}
		if c.logs.FilterMessageSnippet("set aside").Len() != 1 {
			t.Error("not told to the operator")
		}
	})
}

func TestADeliveryThatWasCutOffIsMadeAgainAfterTheRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := &application{answer: func(r *http.Request, _ received) (int, string, error) {
			<-r.Context().Done()
			return 0, "", r.Context().Err()
		}}
		c := newCluster(t, hanging)
		node := c.node()
		c.enqueue(node, event(account, 0, "a1"))
		time.Sleep(5 * time.Second)
		node.Close()
		c.app = answering(200, "")
		c.node()
		synctest.Wait()
		if len(hanging.all()) != 1 || len(c.app.all()) != 1 || c.waiting() != 0 {
			t.Errorf("%d attempts before, %d after, %d waiting", len(hanging.all()), len(c.app.all()), c.waiting())
		}
		if failed := c.logs.FilterMessageSnippet("not delivered").Len(); failed != 0 {
			t.Error("the cut counts as a failure of the client")
		}
	})
}

func TestACrashedNodesEventsAreDeliveredByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app, list := timed(time.Now(), func(received, int) int { return 200 })
		c := newCluster(t, app)
		c.node() // serves, but is told nothing
		synctest.Wait()
		dying := delivery.NewCourier(func() delivery.Settings { return delivery.Settings{Vault: c.vault(1), Log: c.log} })
		c.enqueue(dying, event(account, 0, "a1"))
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if diff := cmp.Diff([]string{"a1 30s"}, *list); diff != "" {
			t.Error(diff)
		}
		dying.Close()
	})
}
