// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
)

// A node was killed while it delivered, and its lock is kept by FileStorage for ever. Its
// place is taken after the time of the longest pass, and from no node that is alive: one
// pass, of which the last attempt takes the whole time of the target, is let alone.
func TestTheLockOfAKilledNodeDoesNotStopTheQueueForLong(t *testing.T) {
	for name, row := range map[string]struct{ timeout, least, most time.Duration }{
		"with the default timeout": {0, time.Minute + 30*time.Second, 3 * time.Minute},
		"with a long timeout":      {5 * time.Minute, 6 * time.Minute, 8 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, nil)
				c.targets[shop].Timeout = row.timeout
				if _, err := c.vault(1).LockQueue(t.Context(), shop); err != nil { // and nobody releases it
					t.Fatal(err)
				}
				s := &script{answer: func(attempt) delivery.Result { return delivery.Result{} }}
				began := time.Now()
				c.queue(c.scripted(s), account, "a1")
				time.Sleep(row.most)
				got := s.of("a1")
				if len(got) != 1 {
					t.Fatalf("delivered %d times within %v, want once", len(got), row.most)
				}
				if waited := got[0].at.Sub(began); waited < row.least {
					t.Errorf("the lock is broken after %v, want %v at least", waited, row.least)
				}
			})
		})
	}
}
