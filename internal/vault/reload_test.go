// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// reloads is a process whose configurations follow each other, each with a client
// of its own of the same storage. It does with them what Caddy does.
type reloads struct {
	*testing.T
	memory  *vaulttest.Memory
	storage *vault.Reloadable
	configs []*config
	deaf    bool // the storages of further configurations do not look at contexts
}

type config struct {
	client  *vaulttest.Client
	storage *vault.ConfigStorage
	cancel  context.CancelFunc
}

// playReloads runs test with a process that has started. At its end no operation
// has met a closed client, and no lock stands.
func playReloads(t *testing.T, test func(r *reloads)) {
	synctest.Test(t, func(t *testing.T) {
		r := &reloads{T: t, memory: new(vaulttest.Memory)}
		r.storage = vault.NewReloadable(r.provision().storage)
		test(r)
		synctest.Wait()
		for number, c := range r.configs {
			if refused := c.client.Refused(); len(refused) > 0 {
				t.Errorf("the storage of configuration %d was used after it was closed: %q", number, refused)
			}
		}
		if locked := r.memory.Locked(); len(locked) > 0 {
			t.Errorf("locks that stand: %q", locked)
		}
	})
}

func (r *reloads) provision() *config {
	c := &config{client: r.memory.NewClient()}
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(context.Background())
	c.storage = vault.NewConfigStorage(ctx, c.client)
	if r.deaf {
		c.storage = vault.NewConfigStorage(ctx, deaf{c.client})
	}
	r.configs = append(r.configs, c)
	return c
}

// cleanUp is what Caddy does when the app has stopped.
func (c *config) cleanUp() {
	c.cancel()
	c.client.Close()
}

// reload puts another configuration in force, and returns how long it took to stop
// the one before.
func (r *reloads) reload() time.Duration {
	old := r.configs[len(r.configs)-1]
	r.storage.Use(r.provision().storage)
	began := time.Now()
	r.storage.Retire(old.storage)
	took := time.Since(began)
	old.cleanUp()
	synctest.Wait() // what was in progress in the old storage has failed
	return took
}

// hang makes the storage hang at one kind of operation until release is called.
func (r *reloads) hang(at vaulttest.Op) (release func()) {
	released := make(chan struct{})
	r.memory.Intercept(func(ctx context.Context, op vaulttest.Op, _ string) error {
		if op != at {
			return nil
		}
		select {
		case <-released:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return func() {
		r.memory.Intercept(nil)
		close(released)
	}
}

// begin runs do in the background until it waits for something.
func begin(do func() error) (done chan error) {
	done = make(chan error, 1)
	go func() { done <- do() }()
	synctest.Wait()
	return done
}

func (r *reloads) want(err error, what string) {
	r.Helper()
	if err != nil {
		r.Errorf("%s: %v", what, err)
	}
}

func TestStorageInForceFollowsTheReload(t *testing.T) {
	playReloads(t, func(r *reloads) {
		for i := range 3 {
			r.want(r.storage.Store(r.Context(), "key", []byte{byte(i)}), "storing")
			if took := r.reload(); took != 0 {
				r.Errorf("a reload without work waits for %v", took)
			}
			if value, err := r.storage.Load(r.Context(), "key"); err != nil || value[0] != byte(i) {
				r.Errorf("loaded %v, %v", value, err)
			}
			if keys, err := r.storage.List(r.Context(), "folder", true); !errors.Is(err, fs.ErrNotExist) {
				r.Errorf("listed %v, %v", keys, err)
			}
			r.want(r.storage.Lock(r.Context(), "lock"), "locking")
			r.want(r.storage.Unlock(r.Context(), "lock"), "unlocking")
		}
		r.want(r.storage.Delete(r.Context(), "key"), "deleting")
	})
}

// A reload that fails after the start of the new configuration: the old one is in
// force again, and its storage was never closed.
func TestStorageInForceAfterAFailedReload(t *testing.T) {
	playReloads(t, func(r *reloads) {
		r.want(r.storage.Store(r.Context(), "key", nil), "storing")
		r.want(r.storage.Lock(r.Context(), "before"), "locking")
		failing := r.provision()
		r.storage.Use(failing.storage)
		r.want(r.storage.Lock(r.Context(), "between"), "locking")
		r.storage.Use(r.configs[0].storage)
		r.storage.Retire(failing.storage)
		failing.cleanUp()
		_, err := r.storage.Load(r.Context(), "key")
		r.want(err, "loading")
		r.want(r.storage.Unlock(r.Context(), "between"), "unlocking")
		r.want(r.storage.Unlock(r.Context(), "before"), "unlocking")
		waiting := begin(func() error { return r.storage.Lock(r.Context(), "after") })
		r.want(<-waiting, "locking in a storage that was replaced before")
		r.want(r.storage.Unlock(r.Context(), "after"), "unlocking")
	})
}

// A start that fails at the very end: Caddy closes the storage without having
// stopped the app, which hears of it a little later.
func TestStorageIsClosedWhileItIsInForce(t *testing.T) {
	playReloads(t, func(r *reloads) {
		r.want(r.storage.Store(r.Context(), "key", nil), "storing")
		release := r.hang(vaulttest.Load)
		failing := r.provision()
		r.storage.Use(failing.storage)
		load := func() error { _, err := r.storage.Load(r.Context(), "key"); return err }
		inProgress := begin(load)
		failing.cleanUp()
		release()
		later := begin(load)
		ctx, leave := context.WithCancel(r.Context())
		leaving := begin(func() error { _, err := r.storage.Load(ctx, "key"); return err })
		leave()
		if err := <-leaving; err == nil {
			r.Error("loaded from a storage that is closed")
		}
		r.storage.Use(r.configs[0].storage)
		r.storage.Retire(failing.storage)
		r.want(<-inProgress, "a load in progress")
		r.want(<-later, "a load that began later")
	})
}

func TestReloadWaitsForAnOperation(t *testing.T) {
	playReloads(t, func(r *reloads) {
		release := r.hang(vaulttest.Store)
		store := begin(func() error { return r.storage.Store(r.Context(), "key", nil) })
		time.AfterFunc(time.Second, release)
		if took := r.reload(); took != time.Second {
			r.Errorf("the reload took %v, the operation a second", took)
		}
		r.want(<-store, "storing")
	})
}

// A storage that hangs delays no reload for long; when it is closed, its failure is
// not that of the work.
func TestReloadDoesNotWaitForAStorageThatHangs(t *testing.T) {
	for _, op := range []vaulttest.Op{vaulttest.Store, vaulttest.Load, vaulttest.Delete, vaulttest.List, vaulttest.Lock} {
		t.Run(string(op), func(t *testing.T) {
			playReloads(t, func(r *reloads) {
				r.want(r.storage.Store(r.Context(), "folder/key", nil), "storing")
				release := r.hang(op)
				inProgress := begin(func() (err error) {
					switch op {
					case vaulttest.Store:
						err = r.storage.Store(r.Context(), "folder/key", nil)
					case vaulttest.Load:
						_, err = r.storage.Load(r.Context(), "folder/key")
					case vaulttest.Delete:
						err = r.storage.Delete(r.Context(), "folder/key")
					case vaulttest.List:
						_, err = r.storage.List(r.Context(), "folder", true)
					case vaulttest.Lock:
						err = r.storage.Lock(r.Context(), "lock")
					}
					return err
				})
				if took := r.reload(); took > 2*time.Second {
					r.Errorf("the reload took %v", took)
				}
				release()
				r.want(<-inProgress, "an operation that outlives its storage")
				if op == vaulttest.Lock {
					r.want(r.storage.Unlock(r.Context(), "lock"), "unlocking")
				}
			})
		})
	}
}
