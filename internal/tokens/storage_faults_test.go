// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"cmp"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// storageFault is a way of the storage's to fail.
//
// The rules of every row: tokens that live in memory are served without a look
// at the storage. The fault lasts until an hour after they have come due. For
// served calls WeChat is asked for one token of each kind, else for nothing:
// storage that cannot be read is not empty. The log says what fails, at most
// every ten minutes, or what becomes of a record, once; with a remedy where
// there is one. caddy_wechat_storage_failures_total counts it. What was stored
// is still there, is kept aside, or has become newer. Nothing cools down: when
// the storage is well, all is.
type storageFault struct {
	name   string
	happen func(tr *trial) (repair func())
	told   string   // when the tokens in memory have expired
	says   []string // lines in the log
	remedy string   // in those that ask for one
	counts []string // operations

	untouched bool          // nothing is written
	unstored  float64       // records that are in memory alone
	asks      int           // how often WeChat is asked about the authorizer
	heals     time.Duration // where it is not at once
}

const (
	outage     = "error, storage fails"
	inMemory   = "error, storing token failed; it is served from memory and storing is tried again"
	rebuilt    = "error, stored record does not open; it is kept aside and rebuilt from WeChat"
	unreleased = "warn, releasing storage lock failed"
	checkIt    = "check Caddy's storage: meanwhile only tokens in memory are served, until they expire"
	noTicket   = "warn, no component_verify_ticket, asked WeChat to push again"
)

var storageFaults = []storageFault{
	{name: "everything fails", happen: fails(vaulttest.Load, vaulttest.Store, vaulttest.Lock, vaulttest.Unlock, vaulttest.Delete, vaulttest.List),
		told: "storage", remedy: checkIt, says: []string{outage}, counts: []string{"list", "load", "lock"}, untouched: true},
	{name: "nothing can be read", happen: fails(vaulttest.Load),
		told: "storage", remedy: checkIt, says: []string{outage}, counts: []string{"load"}, untouched: true},
	{name: "no lock can be taken", happen: fails(vaulttest.Lock),
		told: "storage", remedy: checkIt, says: []string{outage}, counts: []string{"lock"}}, // a ticket needs none
	{name: "a lock is waited for in vain", happen: lockHangs,
		told: "storage", remedy: checkIt, says: []string{outage}, counts: []string{"lock", "unlock"}, heals: renewTimeout},
	{name: "disk full", happen: fails(vaulttest.Store),
		told: served, remedy: checkIt, says: []string{outage, inMemory}, counts: []string{"store"}, untouched: true, unstored: 2},
	{name: "nothing can be listed", happen: fails(vaulttest.List),
		told: served, remedy: checkIt, says: []string{outage}, counts: []string{"list"}},
	{name: "every operation takes 5 s", happen: stalls, told: served},
	{name: "locks are lost while they are held", happen: locksLost,
		told: served, remedy: checkIt, says: []string{outage, unreleased}, counts: []string{"unlock"}},

	{name: "an authorizer's record is cut off", happen: damaged(theShop+".json", cutOff),
		told: served, says: []string{rebuilt}, counts: []string{"open"}, asks: 1},
	{name: "an authorizer's record is garbled", happen: damaged(theShop+".json", garbled),
		told: served, says: []string{rebuilt}, counts: []string{"open"}, asks: 1},
	{name: "an authorizer's record is empty", happen: damaged(theShop+".json", emptied),
		told: served, says: []string{rebuilt}, counts: []string{"open"}, asks: 1},
	{name: "the component's record is cut off", happen: damaged("component.json", cutOff),
		told: served, says: []string{rebuilt}, counts: []string{"open"}},
	{name: "the ticket is cut off", happen: damaged("ticket.json", cutOff),
		told: served, says: []string{rebuilt, noTicket}, counts: []string{"open"}},
	{name: "records are of a newer release", happen: damaged(".json", newer), remedy: "run the newer release on every node",
		told: served, says: []string{rebuilt, noTicket}, counts: []string{"open"}, asks: 1},
	{name: "records are sealed with an unknown key", happen: otherKey,
		remedy: "if the seal key or app secret was changed, configure the previous one as well",
		told:   served, says: []string{rebuilt, noTicket}, counts: []string{"open"}, asks: 1},
	{name: "gone, as though it was empty, and back", happen: gone, told: served, says: []string{noTicket}, asks: 1},
}

func TestStorageFaults(t *testing.T) {
	for _, f := range storageFaults {
		t.Run(f.name, func(t *testing.T) {
			playAuthorized(t, func(w *world) { f.test(&trial{world: w, node: w.node, who: shop}) })
		})
	}
}

func (f storageFault) test(tr *trial) {
	tr.weixin.SetSwitches(sandbox.Switches{RotateRefreshTokens: true})
	due := tr.token(shop).Expires
	tr.token(platform)
	tr.begin()
	counted := failures(tr)
	repair := f.happen(tr)
	found, operations := tr.storage.Files(), tr.operations()
	tr.isTold(tr.ask(time.Minute), served)
	if n := tr.operations() - operations; n != 0 {
		tr.Errorf("live tokens cost %d operations of the storage", n)
	}

	tr.live()
	const live = 5 * time.Minute // enough to renew ahead
	time.Sleep(time.Until(due) - live)
	told := tr.ask(live + time.Hour)
	if n := time.Duration(told[served]) * time.Second; n < live {
		tr.Errorf("calls are served for %v, the token lives %v", n, live)
	}
	delete(told, served)
	tokens := 1
	if f.told != served {
		tokens = 0
		tr.isTold(told, f.told)
	} else if len(told) > 0 {
		tr.Errorf("the application is told %v", told)
	}
	tr.calls(askComponentToken, tokens)
	tr.calls(askAuthorizerToken, tokens)
	tr.calls(askAuthorizerInfo, f.asks)
	f.noted(tr, counted)
	tr.nothingLost(found, f.untouched)

	repair()
	tr.heals(cmp.Or(f.heals, time.Second))
	if got := unstoredNow(tr); got != 0 {
		tr.Errorf("%v records are still in memory alone", got)
	}
	time.Sleep(3 * time.Hour)
	tr.heals(0)
	tr.stands()
}

// noted checks log and metrics.
func (f storageFault) noted(tr *trial, before map[string]float64) {
	tr.Helper()
	lines := tr.said()
	if got := slices.Sorted(maps.Keys(lines)); !slices.Equal(got, slices.Sorted(slices.Values(f.says))) {
		tr.Errorf("the log says %q, want %q", got, f.says)
	}
	for message, entries := range lines {
		often := make(map[string]int)
		for _, entry := range entries {
			often[field(entry, "operation")+field(entry, "authorizer")]++
			if remedy := field(entry, "remedy"); (message == outage || message == rebuilt) && remedy != f.remedy {
				tr.Errorf("%q names the remedy %q, want %q", message, remedy, f.remedy)
			}
		}
		for what, n := range often {
			most := 3 // records: ticket, component, authorizer
			if message == outage || message == noTicket {
				most = 3*6 + 1
			}
			if n > most {
				tr.Errorf("%d lines %q of %s in 3 hours, want at most %d", n, message, what, most)
			}
		}
	}
	var counts []string
	for operation, n := range failures(tr) {
		if n > before[operation] {
			counts = append(counts, operation)
		}
	}
	if f.heals > 0 { // who has waited to the end of his time has none left to load
		counts = slices.DeleteFunc(counts, func(operation string) bool { return operation == "load" })
	}
	if slices.Sort(counts); !slices.Equal(counts, f.counts) {
		tr.Errorf("failures are counted of %q, want %q", counts, f.counts)
	}
	if got := unstoredNow(tr); got != f.unstored {
		tr.Errorf("%v records are counted as in memory alone, want %v", got, f.unstored)
	}
}
