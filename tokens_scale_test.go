// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// fill stores a live token of each of n authorizers.
func (w *world) fill(n int) (all []subject.Subject) {
	w.Helper()
	v, now := w.settings(1).vault, time.Now()
	for i := range n {
		who := subject.Of(theComponent, fmt.Sprintf("wx%016x", i))
		token := fmt.Sprintf("%0157d", i) // as long as those that WeChat has been seen to give out
		_, err := v.Store(w.Context(), who, vault.Record{
			Token: secret.New(token), Obtained: now, Expires: now.Add(24 * time.Hour),
			Refresh: secret.New("refreshtoken@@@" + token), EventTime: now, Functions: []int{1, 2, 3},
		})
		w.must(err)
		all = append(all, who)
	}
	return all
}

// Neither the start nor the minutes without a call after it cost more with more
// authorizers: no record is read, and nothing that holds them is listed.
func TestStartCostsTheSameWithEveryNumberOfAuthorizers(t *testing.T) {
	cost := func(authorizers int) map[string]int {
		operations := make(map[string]int)
		play(t, func(w *world) {
			w.fill(authorizers)
			var mu sync.Mutex
			w.storage.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
				mu.Lock()
				defer mu.Unlock()
				operations[string(op)+" "+name]++
				if op == vaulttest.List && strings.HasPrefix("wechat/"+theComponent+"/authorizers/", name) {
					t.Errorf("%s is listed", name)
				}
				return nil
			})
			settings := w.settings(1)
			settings.deliveries = delivery.Settings{Vault: settings.vault, Log: w.log,
				Targets: map[vault.Queue]*delivery.Target{{Component: theComponent, Client: "shop"}: {Client: "shop"}}}
			state, err := newShared(settings, 1000)
			w.must(err)
			app := &App{settings: settings, CacheSize: 1000}
			state.start(app)
			time.Sleep(10*time.Minute + time.Second) // no clock strikes at its end
			state.stop(app)
			w.must(state.Destruct())
		})
		return operations
	}
	none, many := cost(0), cost(10_000)
	for _, expected := range []string{"load wechat/" + theComponent + "/ticket.json", "list wechat/" + theComponent + "/pending"} {
		if none[expected] == 0 {
			t.Errorf("it is not seen to %s, but %v", expected, none)
		}
	}
	if difference := cmp.Diff(none, many); difference != "" {
		t.Errorf("with 10,000 authorizers (+) other operations than with none (-):\n%s", difference)
	}
}

// A token in memory costs so little that 100,000 of them stay below 150 MB,
// for which the process takes twice what is in use; and there are no more than
// cache_size of them, nor is anything else kept of an authorizer.
func TestMemoryIsBoundedByCacheSize(t *testing.T) {
	const authorizers, most = 10_000, 150_000_000 / 100_000 / 2
	for name, cacheSize := range map[string]int{"room for all": authorizers, "room for a tenth": authorizers / 10} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				all := w.fill(authorizers)
				tokens, err := newTokens(w.node.settings.Load, cacheSize)
				w.must(err)
				defer tokens.Close()
				before := heap()
				for _, who := range all {
					_, err := tokens.Current(w.Context(), who)
					w.must(err)
				}
				synctest.Wait()
				grown, kept := heap()-before, 0
				for _, who := range all {
					if tokens.cache.get(who) != nil {
						kept++
					}
				}
				t.Logf("%d bytes for each of %d tokens", grown/cacheSize, kept)
				if grown > cacheSize*most {
					t.Errorf("%d bytes for each of %d tokens, want at most %d", grown/cacheSize, cacheSize, most)
				}
				if kept > cacheSize || kept < cacheSize*8/10 { // a cache does not take everything
					t.Errorf("%d tokens are in memory, cache_size is %d", kept, cacheSize)
				}
			})
		})
	}
}

// heap returns how many bytes are in use when the garbage is collected.
func heap() int {
	var m runtime.MemStats
	for range 2 { // pools keep things for one more time
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
