// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// A file system may hang without looking at a context. It holds the few callers
// who read from it themselves, and nobody else for longer than he wants to wait.
func TestStorageThatHangsHoldsFewCallers(t *testing.T) {
	playAuthorized(t, func(w *world) {
		all := w.fill(160)
		well := make(chan struct{})
		w.storage.Intercept(func(context.Context, vaulttest.Op, string) error { <-well; return nil })
		var held atomic.Int64
		var callers sync.WaitGroup
		for _, who := range all {
			held.Add(1)
			callers.Go(func() {
				defer held.Add(-1)
				ctx, cancel := context.WithTimeout(w.Context(), time.Second)
				defer cancel()
				_, _ = w.node.Current(ctx, who, theClient)
			})
		}
		time.Sleep(2 * time.Second)
		if got := held.Load(); got != maxVaultReads {
			t.Errorf("%d callers are held, want %d", got, maxVaultReads)
		}
		close(well)
		callers.Wait()
		for _, who := range all {
			_, err := w.node.Current(w.Context(), who, theClient)
			w.must(err)
		}
	})
}

func TestCallerWaitsOnceForStorageThatFails(t *testing.T) {
	hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	fails := func(context.Context) error { time.Sleep(5 * time.Second); return errors.New("the storage is away") }
	for _, c := range []struct {
		name    string
		happens func(context.Context) error
		waits   time.Duration
	}{{"it fails", fails, 5 * time.Second}, {"it hangs", hangs, renewTimeout}} {
		t.Run(c.name, func(t *testing.T) {
			playAuthorized(t, func(w *world) {
				w.restart()
				w.storage.Intercept(func(ctx context.Context, _ vaulttest.Op, _ string) error { return c.happens(ctx) })
				began := time.Now()
				if _, err := w.node.Current(w.Context(), shop, theClient); !errors.Is(err, vault.ErrUnavailable) {
					t.Errorf("Current: %v", err)
				}
				if waited := time.Since(began); waited != c.waits {
					t.Errorf("waited %v, want %v", waited, c.waits)
				}
			})
		})
	}
}

// Slow storage is read to the end for those who come next.
func TestReadingGoesOnWhenItsCallerLeaves(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.restart()
		w.storage.Intercept(func(ctx context.Context, _ vaulttest.Op, _ string) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(3 * time.Second):
				return nil
			}
		})
		ctx, cancel := context.WithTimeout(w.Context(), 2*time.Second)
		defer cancel()
		if token, err := w.node.Current(ctx, shop, theClient); token != nil || err != context.DeadlineExceeded {
			t.Errorf("Current gives %v, %v", token, err)
		}
		time.Sleep(4 * time.Second)
		began := time.Now()
		w.token(shop)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the next one waited %v", waited)
		}
		if w.logged(zap.ErrorLevel, "storage fails") > 0 {
			t.Error("that a caller left was logged as a failure")
		}
	})
}

func TestCloseEndsReadingThatHangs(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.restart()
		w.storage.Intercept(func(ctx context.Context, _ vaulttest.Op, _ string) error { <-ctx.Done(); return ctx.Err() })
		failed := make(chan error)
		go func() {
			_, err := w.node.Current(w.Context(), shop, theClient)
			failed <- err
		}()
		synctest.Wait()
		began := time.Now()
		w.node.Close()
		if err := <-failed; !errors.Is(err, vault.ErrUnavailable) || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// Whoever tries appids costs the storage no more than one reading each time.
func TestUnknownAccountIsReadOnceForEachCall(t *testing.T) {
	playAuthorized(t, func(w *world) {
		unknown := subject.Of(theComponent, "wx0000000000000001")
		w.fails(unknown, problem.ErrUnauthorized)
		before := w.storage.Count(vaulttest.Load)
		for range 10 {
			w.fails(unknown, problem.ErrUnauthorized)
		}
		if got := w.storage.Count(vaulttest.Load) - before; got != 10 {
			t.Errorf("10 calls read the storage %d times", got)
		}
	})
}
