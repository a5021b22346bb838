// SPDX-License-Identifier: Apache-2.0

package census

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// The order of keys is that of the shards, then that of the appids.
func FuzzKeys(f *testing.F) {
	for _, pair := range [][2]string{{"wx0000000000000000", "wxffffffffffffffff"}, {"wx00000000000000ff", "wx0000000000000100"}, {"wx0", "WX0000000000000000"}} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		keyA, okA := keyOf(a)
		keyB, okB := keyOf(b)
		if okA != subject.ValidAppID(a) || okA && appIDOf(keyA) != a {
			t.Errorf("%q: %x, %t, %s", a, keyA, okA, appIDOf(keyA))
		}
		order := func(appid string) string { return appid[16:] + appid[2:16] }
		if okA && okB && (keyA < keyB) != (order(a) < order(b)) {
			t.Errorf("%s and %s are in the wrong order", a, b)
		}
		if okA && fmt.Sprintf("%02x", shardOf(keyA)) != a[16:] {
			t.Errorf("%s is in shard %x", a, shardOf(keyA))
		}
	})
}

// Pages show each account once, whatever their size, before and after all are counted.
func TestPages(t *testing.T) {
	for _, accounts := range []int{0, 1, 49, 50, 51, 300, small + 100} {
		t.Run(fmt.Sprint(accounts), func(t *testing.T) {
			play(t, func(w *world) {
				all := w.fill(accounts)
				w.same(w.listed(50), all)
				w.count()
				w.counts(Counts{Authorized: accounts})
				for _, limit := range []int{1, 7, 50, 2000} {
					shown := w.listed(limit)
					w.same(shown, all)
					if !slices.IsSortedFunc(shown, func(a, b string) int { return strings.Compare(a[16:]+a, b[16:]+b) }) {
						t.Errorf("limit %d: the order is %.100v", limit, shown)
					}
				}
			})
		})
	}
}

func TestStandings(t *testing.T) {
	play(t, func(w *world) {
		all := w.fill(100)
		var want []string
		for i, st := range slices.Repeat(vault.Noted[:], 20) {
			w.store(w.other, account(i), st)
			if st == vault.NeedsAdmin {
				want = append(want, account(i))
			}
		}
		w.same(w.noted(vault.NeedsAdmin, 7), want)
		w.count()
		w.counts(Counts{Authorized: 40, Withdrawn: 20, NeedsAdmin: 20, Failing: 20})
		w.same(w.noted(vault.NeedsAdmin, 3), want)
		w.same(w.listed(50), all)
		if !w.census.Has(component, account(3)) || w.census.Has(component, account(100)) || w.census.Has(component, "wx") {
			t.Error("Has is wrong")
		}
	})
}

// Of what somebody asks that cannot be answered he is told.
func TestQuestionsThatAreWrong(t *testing.T) {
	play(t, func(w *world) {
		if _, _, err := w.census.Page(w.Context(), component, "cursor", 50); err == nil {
			t.Error("a page after no appid")
		}
		for _, st := range []vault.Standing{vault.Stands, "", "../authorizers"} {
			if _, _, err := w.census.Noted(w.Context(), component, st, "", 50); err == nil {
				t.Errorf("there is an index of %q", st)
			}
		}
		if _, _, err := w.census.Page(w.Context(), "../x", "", 50); err == nil {
			t.Error("a folder elsewhere is listed")
		}
	})
}

// What this node stores is seen at once, and costs no listing; among many accounts as well.
func TestOwnChangesAreSeenAtOnce(t *testing.T) {
	for _, accounts := range []int{10, small + 100} {
		play(t, func(w *world) {
			all := w.fill(accounts)
			w.count()
			lists := w.storage.Count(vaulttest.List)
			added := account(accounts)
			w.store(w.own, added, vault.Stands)
			w.counts(Counts{Authorized: accounts + 1})
			w.store(w.own, added, vault.Failing)
			w.counts(Counts{Authorized: accounts, Failing: 1})
			w.store(w.own, added, vault.NeedsAdmin)
			w.counts(Counts{Authorized: accounts, NeedsAdmin: 1})
			w.store(w.own, added, vault.Withdrawn)
			w.counts(Counts{Authorized: accounts, Withdrawn: 1})
			w.same(w.listed(500), append(slices.Clone(all), added))
			w.must(w.own.Remove(w.Context(), subject.Of(component, added)))
			w.counts(Counts{Authorized: accounts})
			w.same(w.listed(500), all)
			if got := w.storage.Count(vaulttest.List) - lists; got > 2 {
				t.Errorf("%d listings", got)
			}
		})
	}
}

// What another node stores is seen a second later where there are few accounts, and when
// its notice is heard where there are many.
func TestChangesOfOtherNodes(t *testing.T) {
	play(t, func(w *world) {
		all := w.fill(10)
		w.count()
		w.store(w.other, account(10), vault.Failing)
		time.Sleep(smallAge + time.Millisecond)
		w.same(w.listed(50), append(slices.Clone(all), account(10)))
		w.same(w.noted(vault.Failing, 50), []string{account(10)})
	})
	play(t, func(w *world) {
		w.fill(small + 100)
		w.count()
		for i := range 500 {
			w.store(w.other, account(i), vault.Withdrawn)
			w.census.Heard(subject.Of(component, account(i)))
		}
		w.must(w.other.Remove(w.Context(), subject.Of(component, account(0))))
		w.census.Heard(subject.Of(component, account(0)))
		synctest.Wait()
		w.counts(Counts{Authorized: small - 400, Withdrawn: 499})
	})
}

// What another node stores without a notice is found by a pass.
func TestPassesFindTheRest(t *testing.T) {
	play(t, func(w *world) {
		w.fill(small + 100)
		w.count()
		w.store(w.other, account(5000), vault.Stands)
		w.store(w.other, account(0), vault.Failing)
		time.Sleep(notedInterval + time.Second)
		w.counts(Counts{Authorized: small + 99, Failing: 1})
		time.Sleep(passInterval)
		w.counts(Counts{Authorized: small + 100, Failing: 1})
	})
}

// The storage is listed for operators alone.
func TestNobodyAsksNothingIsListed(t *testing.T) {
	play(t, func(w *world) {
		w.fill(10)
		w.store(w.own, account(11), vault.Failing)
		w.census.Heard(subject.Of(component, account(0)))
		w.census.Wrong(component, account(0), vault.Failing)
		loads := w.storage.Count(vaulttest.Load)
		time.Sleep(24 * time.Hour)
		if lists, loaded := w.storage.Count(vaulttest.List), w.storage.Count(vaulttest.Load)-loads; lists+loaded > 0 {
			t.Errorf("%d lists, %d loads", lists, loaded)
		}
		w.count()
		w.counts(Counts{Authorized: 10, Failing: 1})
		time.Sleep(2 * idleTime)
		lists := w.storage.Count(vaulttest.List)
		time.Sleep(24 * time.Hour)
		if got := w.storage.Count(vaulttest.List) - lists; got > 0 {
			t.Errorf("%d lists long after the last question", got)
		}
		w.store(w.other, account(12), vault.Failing)
		w.census.Counts(component)
		time.Sleep(time.Second)
		w.counts(Counts{Authorized: 10, Failing: 2})
	})
}

// A listing shows the folder of a moment that nobody knows: what changes meanwhile is right
// all the same.
func TestChangesDuringAListing(t *testing.T) {
	for _, early := range []bool{true, false} { // the storage answers what stood before, or after, the changes
		play(t, func(w *world) {
			w.fill(4)
			w.count()
			hold, held := make(chan struct{}), make(chan struct{}, 1000)
			var frozen map[string][]byte
			w.storage.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
				if op == vaulttest.List && strings.HasSuffix(name, "/authorizers") {
					held <- struct{}{}
					<-hold
				}
				return nil
			})
			time.Sleep(2 * smallAge)
			if early {
				frozen = w.storage.Files()
			}
			done := make(chan []string)
			go func() { done <- w.listed(50) }()
			<-held
			w.must(w.own.Remove(w.Context(), subject.Of(component, account(0))))
			w.store(w.own, account(1), vault.Failing)
			w.store(w.own, account(7), vault.Stands)
			if early { // as though the folder had been read before
				for name, file := range frozen {
					w.storage.Put(name, file)
				}
				w.must(w.storage.Delete(w.Context(), fmt.Sprintf("wechat/%s/authorizers/07/%s.json", component, account(7))))
			}
			close(hold)
			w.same(<-done, []string{account(1), account(2), account(3), account(7)})
			w.counts(Counts{Authorized: 3, Failing: 1})
		})
	}
}

// What this node stores while a record is read because of a notice is newer.
func TestChangesWhileARecordIsRead(t *testing.T) {
	play(t, func(w *world) {
		w.fill(1)
		w.count()
		hold, held := make(chan struct{}), make(chan struct{}, 1)
		stale := w.storage.Files()
		w.storage.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
			if op == vaulttest.Load && strings.Contains(name, "/authorizers/") {
				held <- struct{}{}
				<-hold
			}
			return nil
		})
		w.census.Heard(subject.Of(component, account(0)))
		<-held
		w.storage.Intercept(nil)
		w.store(w.own, account(0), vault.Failing)
		for name, file := range stale { // the storage is slow to show it
			w.storage.Put(name, file)
		}
		close(hold)
		synctest.Wait()
		w.counts(Counts{Failing: 1})
	})
}

// An entry that is left over is repaired when a page meets it, or by a pass.
func TestEntriesThatAreLeftOver(t *testing.T) {
	for name, find := range map[string]func(w *world){
		"by a page": func(w *world) { w.census.Wrong(component, account(0), vault.Failing) },
		"by a pass": func(w *world) { time.Sleep(passInterval + notedInterval) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				w.fill(3)
				w.count()
				w.store(w.own, account(0), vault.Failing)
				w.storage.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
					if op == vaulttest.Delete {
						return errors.New("storage fails")
					}
					return nil
				})
				w.store(w.other, account(0), vault.Stands)
				w.storage.Intercept(nil)
				w.same(w.noted(vault.Failing, 50), []string{account(0)})
				find(w)
				synctest.Wait()
				w.counts(Counts{Authorized: 3})
				if left, err := w.other.ListStanding(w.Context(), component, vault.Failing); err != nil || len(left) > 0 {
					t.Errorf("%v is left, %v", left, err)
				}
			})
		})
	}
}

// Records of a release that knew no index come into it, as do those that nodes of that
// release store during an update; then nobody reads all records any more.
func TestRecordsOfTheReleaseBefore(t *testing.T) {
	play(t, func(w *world) {
		all := w.fill(20)
		old := func(n int) { // stored with its trouble, and without a note
			w.store(w.other, account(n), vault.Failing)
			w.must(w.storage.Delete(w.Context(), "wechat/"+component+"/states/failing/"+account(n)))
		}
		ask := func(during time.Duration) {
			for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(time.Minute) {
				w.census.Counts(component)
			}
		}
		old(0)
		ask(time.Minute)
		w.counts(Counts{Authorized: 19, Failing: 1})
		old(1)
		ask(25 * time.Hour)
		w.counts(Counts{Authorized: 18, Failing: 2})
		loads := w.storage.Count(vaulttest.Load)
		ask(25 * time.Hour)
		if got, most := w.storage.Count(vaulttest.Load)-loads, 25*6*3+25*6; got > most { // those of two entries, and the file of the passes
			t.Errorf("%d loads in a day, want at most %d", got, most)
		}
		w.same(w.listed(50), all)
	})
}

// While storage fails operators are told, and it is not asked without end.
func TestStorageFails(t *testing.T) {
	play(t, func(w *world) {
		w.fill(10)
		w.storage.Intercept(func(context.Context, vaulttest.Op, string) error { return errors.New("storage is down") })
		if _, _, err := w.census.Page(w.Context(), component, "", 50); !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("a page: %v", err)
		}
		if _, _, err := w.census.Noted(w.Context(), component, vault.Failing, "", 50); !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("an index: %v", err)
		}
		lists := w.storage.Count(vaulttest.List)
		for range 600 {
			if _, counted := w.census.Counts(component); counted {
				t.Fatal("counted")
			}
			time.Sleep(time.Second)
		}
		if got := w.storage.Count(vaulttest.List) - lists; got > 20 {
			t.Errorf("%d lists in ten minutes", got)
		}
		w.storage.Intercept(nil)
		time.Sleep(2 * notedInterval)
		w.count()
		w.counts(Counts{Authorized: 10})
	})
}

// Whoever asks waits no longer than he wants to, and a listing that hangs ends.
func TestStorageHangs(t *testing.T) {
	play(t, func(w *world) {
		w.fill(10)
		w.storage.Intercept(func(ctx context.Context, _ vaulttest.Op, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		})
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, _, err := w.census.Page(ctx, component, "", 50); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// A component that is no longer configured is forgotten.
func TestComponentsThatAreGone(t *testing.T) {
	play(t, func(w *world) {
		w.fill(10)
		w.count()
		w.gone.Store(true)
		time.Sleep(2 * notedInterval)
		if n, counted := w.census.Counts(component); counted || n != (Counts{}) {
			t.Errorf("%+v, %t", n, counted)
		}
	})
}

// A page costs the storage the same among few accounts and many.
func TestPagesCostTheSame(t *testing.T) {
	for _, accounts := range []int{100, 20_000} {
		t.Run(fmt.Sprint(accounts), func(t *testing.T) {
			play(t, func(w *world) {
				for i := range accounts {
					appid := account(i)
					w.storage.Put("wechat/"+component+"/authorizers/"+appid[16:]+"/"+appid+".json", nil)
				}
				w.must(w.own.IndexPassed(w.Context(), component, time.Now()))
				w.count()
				after := ""
				for range 3 {
					lists, loads := w.storage.Count(vaulttest.List), w.storage.Count(vaulttest.Load)
					appids, _, err := w.census.Page(w.Context(), component, after, 50)
					w.must(err)
					synctest.Wait()
					if got := w.storage.Count(vaulttest.List) - lists + w.storage.Count(vaulttest.Load) - loads; got > 2 {
						t.Errorf("a page costs %d operations", got)
					}
					if len(appids) > 0 {
						after = appids[len(appids)-1]
					}
					time.Sleep(smallAge)
				}
			})
		})
	}
}

// All of it may happen at the same time; afterwards it is right.
func TestAllAtOnce(t *testing.T) {
	play(t, func(w *world) {
		w.fill(64)
		var work sync.WaitGroup
		for i := range 8 {
			work.Go(func() {
				for round := range 20 {
					n := i*8 + round%8
					w.store(w.own, account(n), vault.Noted[round%3])
					w.census.Heard(subject.Of(component, account(n)))
					_, _, _ = w.census.Page(w.Context(), component, "", 10)
					_, _, _ = w.census.Noted(w.Context(), component, vault.Failing, "", 10)
					w.census.Counts(component)
					w.store(w.own, account(n), vault.Stands)
					time.Sleep(time.Second)
				}
			})
		}
		work.Wait()
		time.Sleep(time.Minute)
		w.counts(Counts{Authorized: 64})
		w.census.Close()
		w.census.Close()
		w.census.Run(w.Context())
		w.census.Heard(subject.Of(component, account(0)))
		if _, _, err := w.census.Page(w.Context(), "wxffffffffffffffff", "", 10); err == nil {
			t.Error("a listing after the end")
		}
	})
}
