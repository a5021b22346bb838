// SPDX-License-Identifier: Apache-2.0

package push

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// One of five targets hangs, and goes on hanging when its first attempts have ended. The
// others get each message directly, and nothing is queued for them. No reply waits for
// the one that hangs, nor for the storage: its messages are queued while the others work.
func TestATargetThatHangsCostsTheOthersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("a", answer{50 * time.Millisecond, 200, reply("a")})
		for _, name := range []string{"b", "c", "d"} {
			w.target(name, answer{60 * time.Millisecond, 200, "success"})
		}
		w.target("stuck", answer{time.Hour, 200, ""})
		var mu sync.Mutex
		var began time.Time         // the message that is pushed now
		var queued, others int      // for the one that hangs, and for others
		var latest [2]time.Duration // when, since began; of the first two messages, and of the rest
		w.memory.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
			if op != vaulttest.Store || !strings.Contains(name, "/events/") {
				return nil
			}
			mu.Lock()
			if strings.Contains(name, "/stuck/") {
				known := min(queued/2, 1)
				latest[known] = max(latest[known], time.Since(began))
				queued++
			} else {
				others++
			}
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			return nil
		})
		n := w.node()
		const messages = 300
		for i := range messages {
			mu.Lock()
			began = time.Now()
			mu.Unlock()
			_, shown := n.serve(w.request(t.Context(), account, text(i, "hello")))
			took, longest := time.Since(began), 60*time.Millisecond
			if i < 2 { // the target is not known to hang
				longest = 95 * time.Millisecond
			}
			if shown != reply("a") || took > longest {
				t.Fatalf("message %d: the follower sees %q after %v, want the reply after %v", i, shown, took, longest)
			}
			time.Sleep(100*time.Millisecond - took)
		}
		mu.Lock()
		defer mu.Unlock()
		if queued != messages || others != 0 {
			t.Errorf("%d messages are queued for the target that hangs, and %d for others, want %d and none", queued, others, messages)
		}
		if latest[1] != 0 {
			t.Errorf("a message is queued %v after it has come, want at once: then no reply waits for it", latest[1])
		}
		for _, name := range []string{"a", "b", "c", "d"} {
			got := slices.DeleteFunc(w.deliveries(), func(d taken) bool { return d.target != name })
			if len(got) != messages {
				t.Errorf("%s got %d of %d messages", name, len(got), messages)
			}
		}
	})
}

// An application takes 200 ms, and its messages come faster than that. Whoever is as slow
// as all others is not late: nothing is queued.
func TestSlowTargetsAreNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, name := range []string{"a", "b"} {
			w.target(name, answer{200 * time.Millisecond, 200, reply(name)})
		}
		n := w.node()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() { n.serve(w.request(t.Context(), account, text(i, "hello"))) })
			time.Sleep(150 * time.Millisecond)
		}
		all.Wait()
		if stored := w.stored(); stored != 0 {
			t.Errorf("the storage has seen %d writes", stored)
		}
	})
}
