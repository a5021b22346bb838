// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/audit"
	"github.com/caddy-wechat/caddy-wechat/internal/memory"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

var testAccount = subject.Of(sandbox.DefaultComponent, "wxaaaaaaaaaaaaaaaa")

// newTestSettings are the settings of a configuration whose records are in
// storage. Its WeChat is out of reach.
func newTestSettings(tb testing.TB, storage vault.Storage) *settings {
	tb.Helper()
	ring, err := vault.NewKeyring(bytes.Repeat([]byte{1}, vault.KeySize))
	if err != nil {
		tb.Fatal(err)
	}
	in := &settings{
		cacheSize: 1000,
		storage:   vault.NewConfigStorage(tb.Context(), storage),
		rings:     map[string]*vault.Keyring{sandbox.DefaultComponent: ring},
		audits:    audit.New(zap.NewNop(), audit.Off),
		tokens: &tokens.Settings{
			Components: map[string]secret.Secret{sandbox.DefaultComponent: secret.New(sandbox.DefaultAppSecret)},
			API:        newAPIClient(http.DefaultTransport, nil),
			Log:        zap.NewNop(),
			Emit:       func(string, map[string]any) {},
		},
	}
	records, _ := newVault(storage, func() *settings { return in })
	in.keepIn(records, nil, nil)
	return in
}

// newTestKeeper returns a keeper with real memory for size tokens.
func newTestKeeper(tb testing.TB, in *settings, size int) (*tokens.Keeper, *memory.Memory[*tokens.Token]) {
	tb.Helper()
	memory, err := memory.New[*tokens.Token](size)
	if err != nil {
		tb.Fatal(err)
	}
	return tokens.NewKeeper(func() *tokens.Settings { return in.tokens }, memory), memory
}

// newTestToken is a token that is not due for a long time.
func newTestToken(text string) *tokens.Token {
	now := time.Now()
	return tokens.NewToken(secret.New(text), now, now.Add(24*time.Hour))
}

// storeTicket stores a ticket that has just been pushed, so that none is asked for.
func storeTicket(tb testing.TB, records *vault.Vault) {
	tb.Helper()
	ticket := vault.Ticket{Value: secret.New("ticket"), CreateTime: time.Now(), Received: time.Now()}
	if _, err := records.StoreTicket(tb.Context(), sandbox.DefaultComponent, ticket); err != nil {
		tb.Fatal(err)
	}
}

// fill stores a live token of each of n authorizers.
func fill(tb testing.TB, records *vault.Vault, n int) (all []subject.Subject) {
	tb.Helper()
	now := time.Now()
	for i := range n {
		who := subject.Of(sandbox.DefaultComponent, fmt.Sprintf("wx%016x", i))
		token := fmt.Sprintf("%0157d", i) // as long as those that WeChat has been seen to give out
		_, err := records.Store(tb.Context(), who, vault.Record{
			Token: secret.New(token), Obtained: now, Expires: now.Add(24 * time.Hour),
			Refresh: secret.New("refreshtoken@@@" + token), EventTime: now, Functions: []int{1, 2, 3},
		})
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, who)
	}
	return all
}

// A token in memory costs so little that 100,000 of them stay below 150 MB,
// for which the process takes twice what is in use; and there are no more than
// cache_size of them, nor is anything else kept of an authorizer.
func TestMemoryIsBoundedByCacheSize(t *testing.T) {
	const authorizers, most = 10_000, 150_000_000 / 100_000 / 2
	for name, cacheSize := range map[string]int{"room for all": authorizers, "room for a tenth": authorizers / 10} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := newTestSettings(t, new(vaulttest.Memory))
				all := fill(t, in.tokens.Vault, authorizers)
				keeper, memory := newTestKeeper(t, in, cacheSize)
				defer keeper.Close()
				before := heap()
				for _, who := range all {
					if _, err := keeper.Current(t.Context(), who, tokens.Itself); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				grown, kept := heap()-before, 0
				for _, who := range all {
					if memory.Get(who) != nil {
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

// The way of most calls: no allocation, in the keeper nor in ristretto.
func TestServingFromMemoryDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	keeper, memory := newTestKeeper(t, nil, 1000)
	defer keeper.Close()
	memory.Set(testAccount, newTestToken("token"))
	memory.Wait()
	ctx := t.Context()
	if got := testing.AllocsPerRun(1000, func() { _, _ = keeper.Current(ctx, testAccount, tokens.Itself) }); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

// Requests go on while the memory is closed: ristretto would panic.
func TestMemoryIsClosedDuringRequests(t *testing.T) {
	for range 20 {
		keeper, memory := newTestKeeper(t, newTestSettings(t, new(vaulttest.Memory)), 1000)
		token := newTestToken("token")
		memory.Set(testAccount, token)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 500 {
					_, _ = keeper.Current(t.Context(), testAccount, tokens.Itself)
					memory.Set(testAccount, token)
					memory.Resize(1000)
				}
			})
		}
		keeper.Close()
		all.Wait()
		if memory.Drop(testAccount); memory.Get(testAccount) != nil {
			t.Error("something is remembered after the end")
		}
	}
}

func BenchmarkCurrent(b *testing.B) {
	keeper, memory := newTestKeeper(b, nil, 1000)
	defer keeper.Close()
	memory.Set(testAccount, newTestToken("token"))
	memory.Wait()
	b.ReportAllocs()
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			if _, err := keeper.Current(b.Context(), testAccount, tokens.Itself); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("many", func(b *testing.B) { currentOfMany(b, 100_000) })
	b.Run("together", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := keeper.Current(b.Context(), testAccount, tokens.Itself); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

// currentOfMany asks for another token each time: memory that no cache of the
// processor holds.
func currentOfMany(b *testing.B, n int) {
	keeper, memory := newTestKeeper(b, nil, n)
	defer keeper.Close()
	nth := func(i int) subject.Subject { return subject.Of(sandbox.DefaultComponent, fmt.Sprintf("wx%016x", i)) }
	for i := range n {
		token := newTestToken(fmt.Sprintf("token %d", i))
		for who := nth(i); memory.Get(who) == nil; memory.Wait() { // sets may be dropped
			memory.Set(who, token)
		}
	}
	asked := make([]subject.Subject, n) // in this order, since a caller's subject is in the caches
	for i, which := range rand.Perm(n) {
		asked[i] = nth(which)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := keeper.Current(b.Context(), asked[i%n], tokens.Itself); err != nil {
			b.Fatal(err)
		}
	}
}
