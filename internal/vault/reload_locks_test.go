// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// Who waits for a lock that another node has waits on under the next configuration,
// and delays no reload.
func TestReloadWhileALockIsWaitedFor(t *testing.T) {
	playReloads(t, func(r *reloads) {
		other := r.memory.NewClient()
		r.want(other.Lock(r.Context(), "lock"), "locking")
		waiting := begin(func() error { return r.storage.Lock(r.Context(), "lock") })
		for range 3 {
			if took := r.reload(); took != 0 {
				r.Errorf("the reload took %v", took)
			}
		}
		if len(waiting) > 0 {
			r.Fatalf("the wait has ended: %v", <-waiting)
		}
		r.want(other.Unlock(r.Context(), "lock"), "unlocking")
		r.want(<-waiting, "locking")
		r.want(r.storage.Unlock(r.Context(), "lock"), "unlocking")
	})
}

func TestReloadWaitsForALock(t *testing.T) {
	playReloads(t, func(r *reloads) {
		r.want(r.storage.Lock(r.Context(), "lock"), "locking")
		time.AfterFunc(time.Second, func() { r.want(r.storage.Unlock(r.Context(), "lock"), "unlocking") })
		if took := r.reload(); took != time.Second {
			r.Errorf("the reload took %v, the lock was held for a second", took)
		}
		if n := r.memory.Count(vaulttest.Lock); n != 1 {
			r.Errorf("%d locks were taken, want 1", n)
		}
	})
}

// A lock that is held for long, such as that of an account whose token WeChat is
// slow to issue, stays with its owner over any number of reloads.
func TestReloadMovesALockThatIsHeldOn(t *testing.T) {
	playReloads(t, func(r *reloads) {
		r.want(r.storage.Lock(r.Context(), "lock"), "locking")
		for range 3 {
			if took := r.reload(); took != 2*time.Second {
				r.Errorf("the reload took %v", took)
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
			if err := r.memory.NewClient().Lock(ctx, "lock"); err == nil {
				r.Error("another node gets a lock that is held")
			}
			cancel()
		}
		r.want(r.storage.Unlock(r.Context(), "lock"), "unlocking")
	})
}

// Another node waits for a lock that is moved, and may get it in between. It keeps
// it, whatever the first owner does.
func TestReloadLosesALockToAnotherNode(t *testing.T) {
	for name, releaseFirst := range map[string]bool{"the owner is done first": true, "the other node is done first": false} {
		t.Run(name, func(t *testing.T) {
			playReloads(t, func(r *reloads) {
				r.want(r.storage.Lock(r.Context(), "lock"), "locking")
				other := r.memory.NewClient()
				waiting := begin(func() error { return other.Lock(r.Context(), "lock") })
				r.reload()
				r.want(<-waiting, "locking on another node")
				release := []func() error{
					func() error { return r.storage.Unlock(r.Context(), "lock") },
					func() error { return other.Unlock(r.Context(), "lock") },
				}
				if !releaseFirst {
					release[0], release[1] = release[1], release[0]
				}
				r.want(release[0](), "unlocking")
				synctest.Wait()
				if len(r.memory.Locked()) != 1 {
					r.Error("one release has released the locks of both")
				}
				r.want(release[1](), "unlocking")
			})
		})
	}
}

// The owner is done in the moment in which its lock is moved: it is released in the
// old storage, and comes in the new one when nobody wants it any more.
func TestLockIsReleasedWhileItIsMoved(t *testing.T) {
	playReloads(t, func(r *reloads) {
		r.want(r.storage.Lock(r.Context(), "lock"), "locking")
		comes := r.delayLocks()
		r.reload()
		r.want(r.storage.Unlock(r.Context(), "lock"), "unlocking")
		close(comes)
		synctest.Wait()
		if locked := r.memory.Locked(); len(locked) > 0 {
			r.Errorf("locks that nobody wants: %q", locked)
		}
		r.want(r.storage.Lock(r.Context(), "lock"), "locking")
		r.want(r.storage.Unlock(r.Context(), "lock"), "unlocking")
	})
}

// A lock that comes when Retire is over is not kept in a storage that may be closed.
func TestLockThatComesTooLateIsTakenAnew(t *testing.T) {
	playReloads(t, func(r *reloads) {
		comes := r.delayLocks()
		old := r.provision()
		r.storage.Use(old.storage)
		waiting := begin(func() error { return r.storage.Lock(r.Context(), "lock") })
		r.storage.Use(r.provision().storage)
		r.storage.Retire(old.storage)
		close(comes)
		r.want(<-waiting, "locking")
		old.cleanUp()
		r.want(r.storage.Unlock(r.Context(), "lock"), "unlocking")
	})
}

// delayLocks makes all locks wait until comes is closed, and the storages of further
// configurations look at no context meanwhile.
func (r *reloads) delayLocks() (comes chan struct{}) {
	r.deaf, comes = true, make(chan struct{})
	r.memory.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
		if op == vaulttest.Lock {
			<-comes
		}
		return nil
	})
	return comes
}

// deaf is a storage that does not look at contexts.
type deaf struct{ vault.Storage }

func (d deaf) Lock(_ context.Context, name string) error {
	return d.Storage.Lock(context.Background(), name)
}

// The process ends, or a configuration without the app follows: locks do not stand
// until they go stale, and nothing uses the storage when Caddy has closed it.
func TestLastConfigurationLeavesNoLock(t *testing.T) {
	playReloads(t, func(r *reloads) {
		last := r.configs[0]
		r.want(r.storage.Lock(r.Context(), "lock"), "locking")
		began := time.Now()
		r.storage.Retire(last.storage)
		if took := time.Since(began); took != 2*time.Second {
			r.Errorf("it took %v", took)
		}
		r.want(r.memory.NewClient().Lock(r.Context(), "lock"), "locking on another node")
		r.want(r.storage.Unlock(r.Context(), "lock"), "unlocking")
		if len(r.memory.Locked()) != 1 {
			r.Error("the lock of the other node is released")
		}
		r.want(r.memory.Unlock(r.Context(), "lock"), "unlocking on the other node")

		// Requests that Caddy finishes before it cleans up still use the storage.
		r.want(r.storage.Store(r.Context(), "key", nil), "storing")
		r.want(r.storage.Lock(r.Context(), "lock"), "locking")
		r.want(r.storage.Unlock(r.Context(), "lock"), "unlocking")
		r.storage.Retire(last.storage) // Cleanup does it again
		last.cleanUp()
		if _, err := r.storage.Load(r.Context(), "key"); !errors.Is(err, context.Canceled) {
			r.Errorf("after the end: %v", err)
		}
	})
}

// Callers of one process exclude each other over any number of reloads, and none
// of them fails.
func TestLocksExcludeOverReloads(t *testing.T) {
	playReloads(t, func(r *reloads) {
		v := open(r, r.storage, key(1))
		held, done := false, make(chan struct{})
		var callers sync.WaitGroup
		for caller := range 8 {
			callers.Go(func() {
				for turn := 0; ; turn++ {
					select {
					case <-done:
						return
					default:
					}
					unlock, err := v.Lock(r.Context(), account)
					if err != nil {
						r.Error(err)
						return
					}
					if held {
						r.Error("two have the lock")
					}
					held = true
					r.want(r.storage.Store(r.Context(), "key"+strconv.Itoa(caller), nil), "storing")
					time.Sleep(time.Duration(turn%7) * 700 * time.Millisecond)
					held = false
					r.want(unlock(), "unlocking")
				}
			})
		}
		for range 50 {
			r.reload()
			time.Sleep(300 * time.Millisecond)
		}
		close(done)
		callers.Wait()
	})
}
