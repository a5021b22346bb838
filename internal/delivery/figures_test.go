// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// Operators see what waits for each target, and which target wants nothing any more,
// without a look into the storage.
func TestFiguresOfTheQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		crm := c.add(plainTarget(t, "crm"))
		node := c.idle()
		node.SetSend(func(_ context.Context, target *delivery.Target, _ delivery.Item) delivery.Result {
			if target == crm {
				return delivery.Result{Err: errors.New("HTTP status 410"), Gone: true}
			}
			return delivery.Result{Err: errors.New("HTTP status 500")}
		})
		node.Serve(c.targets)
		came := time.Now()
		if err := node.Enqueue(t.Context(), item(node, account, "a1"), []*delivery.Target{crm, c.targets[shop]}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		c.memory.Intercept(func(_ context.Context, op vaulttest.Op, key string) error {
			t.Errorf("%s %s", op, key)
			return nil
		})
		got := node.Figures()
		c.memory.Intercept(nil)
		if len(got) != 2 {
			t.Fatalf("figures are %v", got)
		}
		if f := got[shop]; f.Waiting != 1 || f.Dead != 0 || f.Paused || f.Oldest.Sub(came).Abs() > time.Second {
			t.Errorf("shop: %+v", f)
		}
		if f := got[crm.Queue()]; f.Waiting != 1 || f.Dead != 0 || !f.Paused {
			t.Errorf("crm: %+v", f)
		}
	})
}
