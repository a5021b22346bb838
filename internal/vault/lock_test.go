// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

func TestLockExcludes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := new(vaulttest.Memory)
		one, two := open(t, memory, key(1)), open(t, memory, key(1))
		unlock, err := one.Lock(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []subject.Subject{component, subject.Of(component, "wxaaaaaaaaaaaaaaaa")} {
			if unlockOther, err := two.Lock(t.Context(), s); err != nil || unlockOther() != nil {
				t.Errorf("%s: %v", s, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := two.Lock(ctx, account); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("error is %v, want that of the deadline", err)
		}
		go func() {
			time.Sleep(10 * time.Second)
			unlock()
		}()
		start := time.Now()
		unlock, err = two.Lock(t.Context(), account)
		if err != nil || time.Since(start) != 10*time.Second {
			t.Errorf("locked after %v, %v", time.Since(start), err)
		}
		if err := unlock(); err != nil {
			t.Error(err)
		}
	})
}

// Storage looks for a lock to come free only every second. Callers of one
// process do not wait for that: the second asks storage only when the first
// is done, and then gets the lock at once.
func TestLockIsHandedOnWithinAProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := new(vaulttest.Memory)
		v := open(t, memory, key(1))
		unlock, err := v.Lock(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		second := make(chan func() error)
		go func() {
			unlock, err := v.Lock(t.Context(), account)
			if err != nil {
				t.Error(err)
			}
			second <- unlock
		}()
		synctest.Wait()
		if n := memory.Count(vaulttest.Lock); n != 1 {
			t.Errorf("storage was asked for %d locks while the first was held", n)
		}
		if err := unlock(); err != nil {
			t.Error(err)
		}
		if err := (<-second)(); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := v.Lock(ctx, account); !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("error is %v", err)
		}
	})
}

// The component's lock is held while WeChat is asked for a token; a ticket
// must be stored meanwhile.
func TestTicketDoesNotWaitForTheComponent(t *testing.T) {
	v := open(t, new(vaulttest.Memory), key(1))
	unlock, err := v.Lock(t.Context(), component)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := v.StoreTicket(ctx, component, fullTicket); err != nil {
		t.Error(err)
	}
}

func TestUnlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, current := new(vaulttest.Memory), new(vaulttest.Memory)
		storage := old
		ring := mustKeyring(t, key(1))
		v := vault.New(func() vault.Storage { return storage }, func(string) *vault.Keyring { return ring })

		ctx, cancel := context.WithCancel(t.Context())
		unlock, err := v.Lock(ctx, account)
		if err != nil {
			t.Fatal(err)
		}
		storage = current // the config is reloaded
		cancel()          // and the caller has gone
		for range 2 {
			if err := unlock(); err != nil {
				t.Error(err)
			}
		}
		if old.Count(vaulttest.Unlock) != 1 || current.Count(vaulttest.Unlock) != 0 {
			t.Errorf("unlocked %d times where it was locked, %d elsewhere", old.Count(vaulttest.Unlock), current.Count(vaulttest.Unlock))
		}

		unlock, err = v.Lock(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		current.Intercept(func(ctx context.Context, _ vaulttest.Op, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		})
		start := time.Now()
		if err := unlock(); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("a storage that hangs: %v after %v", err, time.Since(start))
		}
		current.Intercept(nil)
		if unlock, err = v.Lock(t.Context(), account); err != nil || unlock() != nil {
			t.Errorf("when it is back the lock is not free: %v", err)
		}
	})
}

// Names that a storage would change are names that may collide.
func TestLockNamesAreSafe(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	names := make(map[string]bool)
	memory.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
		if op == vaulttest.Lock {
			names[name] = true
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
				t.Errorf("name of a lock is %q", name)
			}
		}
		return nil
	})
	for _, s := range []subject.Subject{component, account} {
		if _, err := v.Lock(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := v.StoreTicket(t.Context(), component, fullTicket); err != nil {
		t.Fatal(err)
	}
	if len(names) != 3 {
		t.Errorf("locks are %v, want three", names)
	}
}

// A lock that nobody will ever release is broken: by those who can wait after
// twelve seconds, by a push within its time.
func TestLockOfADeadOwnerIsBroken(t *testing.T) {
	for name, row := range map[string]struct {
		limit, least, most time.Duration
	}{
		"without a limit":   {0, 12 * time.Second, 14 * time.Second},
		"within 30 seconds": {30 * time.Second, 12 * time.Second, 14 * time.Second},
		"within 15 seconds": {15 * time.Second, 11 * time.Second, 12 * time.Second},
		"within 4 seconds":  {4 * time.Second, 3 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := new(vaulttest.Memory)
				if err := memory.Lock(t.Context(), "wechat_"+component+"_"+authorizer); err != nil {
					t.Fatal(err)
				}
				ctx := t.Context()
				if row.limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, row.limit)
					defer cancel()
				}
				v := open(t, memory, key(1))
				var broken []string
				v.Broken = func(lock string) { broken = append(broken, lock) }
				start := time.Now()
				unlock, err := v.Lock(ctx, account)
				if err != nil || unlock() != nil {
					t.Fatal(err)
				}
				if waited := time.Since(start); waited < row.least || waited > row.most {
					t.Errorf("locked after %v, want %v to %v", waited, row.least, row.most)
				}
				synctest.Wait()
				if len(broken) != 1 || broken[0] != "wechat_"+component+"_"+authorizer {
					t.Errorf("broken locks: %q", broken)
				}
			})
		})
	}
}

// A push must be acknowledged within five seconds, so a lock is not waited for
// as long.
func TestTicketIsStoredWithoutALock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := new(vaulttest.Memory)
		if err := memory.Lock(t.Context(), "wechat_"+component+"_ticket"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := open(t, memory, key(1)).StoreTicket(ctx, component, vault.Ticket{Value: secret.New("t"), CreateTime: start}); err != nil || time.Since(start) > 3*time.Second {
			t.Errorf("stored after %v: %v", time.Since(start), err)
		}
	})
}

// A process was killed while it wrote the lock's file.
func TestTornLockIsBroken(t *testing.T) {
	folder := t.TempDir()
	storage := &certmagic.FileStorage{Path: folder}
	v := open(t, storage, key(1))
	unlock, err := v.Lock(t.Context(), account)
	if err != nil || unlock() != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "locks", "wechat_"+component+"_"+authorizer+".lock")
	if err := os.WriteFile(file, []byte(`{"created":"20`), 0o600); err != nil {
		t.Fatal(err)
	}
	if unlock, err = v.Lock(t.Context(), account); err != nil || unlock() != nil {
		t.Error(err)
	}
}
