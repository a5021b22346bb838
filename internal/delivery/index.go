// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"container/heap"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// index is what this node knows of the items in one queue: their keys and when
// they are due, not their texts. So an attempt need not list the queue. It takes
// about 200 bytes for each item. It is safe for concurrent use.
type index struct {
	queue vault.Queue

	mu       sync.Mutex               // guards all below; nothing waits under it
	accounts map[string]*account      // appid → its items; none is empty
	entries  map[itemID]*entry        // all items
	storing  map[itemID]chan struct{} // items that Enqueue is storing; closed when it has ended
	ready    accounts                 // a heap of the accounts of which no item is being tried
	repeats  []vault.EventKey         // further copies of an item, which other nodes have queued
	age      uint32                   // number of listings that have begun
}

// itemID is the ID of an item, decoded.
type itemID [16]byte

func newIndex(queue vault.Queue) *index {
	return &index{
		queue: queue, accounts: make(map[string]*account),
		entries: make(map[itemID]*entry), storing: make(map[itemID]chan struct{}),
	}
}

// idOf decodes an ID. One that is none, which nothing can be stored under, becomes
// zero.
func idOf(text string) (id itemID) {
	_, _ = hex.Decode(id[:], []byte(text[:min(len(text), 2*len(id))]))
	return id
}

// key returns the storage key of an item.
func (x *index) key(e *entry) vault.EventKey {
	return vault.EventKey{Queue: x.queue, Arrived: e.arrived, AppID: e.account.appID, ID: hex.EncodeToString(e.id[:])}
}

// reserve is called before an item is stored. It reports whether the item is not
// in the queue; then the caller must call stored. If another caller is storing the
// item, it returns a channel that is closed when that has ended; the caller must
// wait for it and ask again.
func (x *index) reserve(id itemID) (first bool, wait <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if other := x.storing[id]; other != nil {
		return false, other
	}
	if x.entries[id] != nil {
		return false, nil
	}
	x.storing[id] = make(chan struct{})
	return true, nil
}

// stored ends what reserve has begun. The item is added unless key is nil: it was
// not stored, or not in this queue.
func (x *index) stored(id itemID, key *vault.EventKey, due time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	close(x.storing[id])
	delete(x.storing, id)
	if key != nil {
		x.add(*key, due, x.age)
	}
}

// put adds an item that is stored, unless it is there.
func (x *index) put(key vault.EventKey, due time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.add(key, due, x.age)
}

// add adds an item unless it is there. A zero due means that it is not known. age is
// that of the index when the item was stored here, or less if it was listed.
func (x *index) add(key vault.EventKey, due time.Time, age uint32) {
	id, nanos := idOf(key.ID), int64(0)
	if !due.IsZero() {
		nanos = due.UnixNano()
	}
	if e := x.entries[id]; e != nil && !x.replaces(key, e) {
		if key.Arrived > e.arrived {
			x.repeats = append(x.repeats, key)
		} else if key.Arrived == e.arrived && e.due == 0 {
			e.due = nanos
			x.fix(e.account)
		}
		return
	}
	a := x.accounts[key.AppID]
	if a == nil {
		a = &account{appID: key.AppID, place: -1}
		x.accounts[key.AppID] = a
	}
	e := &entry{account: a, id: id, arrived: key.Arrived, due: nanos, age: age}
	x.entries[id] = e
	at, _ := slices.BinarySearchFunc(a.items, e, compareEntries)
	a.items = slices.Insert(a.items, at, e)
	if len(a.items) == 1 {
		heap.Push(&x.ready, a)
	} else {
		x.fix(a)
	}
}

// remove removes an item that is in the index, and makes its account ready if it
// was being tried.
func (x *index) remove(e *entry) {
	if x.entries[e.id] != e {
		return
	}
	delete(x.entries, e.id)
	a := e.account
	if at, ok := slices.BinarySearchFunc(a.items, e, compareEntries); ok {
		if at == 0 { // the usual case; the others need not move
			a.items[0] = nil
			a.items = a.items[1:]
		} else {
			a.items = slices.Delete(a.items, at, at+1)
		}
	}
	if len(a.items) > 0 {
		x.fix(a)
		return
	}
	delete(x.accounts, a.appID)
	if a.place >= 0 { // and not for the item that is being tried
		heap.Remove(&x.ready, a.place)
	}
}

// fix puts an account into its place in the heap, if it is there.
func (x *index) fix(a *account) {
	if a.place >= 0 {
		heap.Fix(&x.ready, a.place)
	}
}

// release makes the account of an item that was being tried ready again, unless
// nothing of it is left.
func (x *index) release(a *account) {
	if len(a.items) > 0 && a.place < 0 {
		heap.Push(&x.ready, a)
	}
}

// next returns the first item of the account that is due first, if it is due. The
// account is not ready until finish is called.
//
// If the item was stored here after the last listing had begun, another node may
// have stored one that came before it. Then, if listed is wanted, next returns nil
// and true: the queue must be listed.
func (x *index) next(now time.Time, listed bool) (e *entry, list bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.ready) == 0 || x.ready[0].items[0].due > now.UnixNano() {
		return nil, false
	}
	if listed && x.ready[0].items[0].age >= x.age {
		return nil, true
	}
	a := heap.Pop(&x.ready).(*account)
	a.tried = a.items[0]
	return a.tried, false
}

// finish ends what next has begun. If done, the item has left the queue; else it
// is due again then.
func (x *index) finish(e *entry, done bool, due time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if done || e.withdrawn {
		x.remove(e)
	} else {
		e.due, e.forced = due.UnixNano(), false
	}
	e.account.tried = nil
	x.release(e.account)
}

// wait returns how long it is until an item is due, 0 if one is, and false if
// there is none.
func (x *index) wait(now time.Time) (time.Duration, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.ready) == 0 {
		return 0, false
	}
	return max(0, time.Duration(x.ready[0].items[0].due-now.UnixNano())), true
}

// withdraw returns the key of an item, nil if it is not in the index, or only as a copy
// that another node has queued, which is not ours to withdraw. One that is being tried is
// not stored again if that fails.
func (x *index) withdraw(id itemID, arrived int64) *vault.EventKey {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries[id]
	if e == nil || e.arrived != arrived {
		return nil
	}
	key := x.key(e)
	if e.account.tried == e {
		e.withdrawn = true
	} else {
		x.remove(e)
	}
	return &key
}

// before returns the items that arrived before a time.
func (x *index) before(arrived time.Time) (found []*entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	limit := arrived.UnixMicro()
	for _, a := range x.accounts {
		for _, e := range a.items {
			if e.arrived >= limit {
				break
			}
			found = append(found, e)
		}
	}
	return found
}

// drop removes an item that has left the queue, if nobody is trying it.
func (x *index) drop(id itemID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.entries[id]; e != nil && e.account.tried != e {
		x.remove(e)
	}
}

// change calls do for items, with the index locked, and puts their accounts into
// their places. Those that are not in the index are left out.
func (x *index) change(ids []itemID, do func(*entry)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range ids {
		if e := x.entries[id]; e != nil {
			do(e)
			x.fix(e.account)
		}
	}
}

// wishes reports whether an operator wants an item now, and whether it was made due
// because the target has recovered.
func (x *index) wishes(e *entry) (forced, woken bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return e.forced, e.woken
}

// isWithdrawn reports whether an item was withdrawn while it was being tried.
func (x *index) isWithdrawn(e *entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return e.withdrawn
}

// failedAgain notes that an item has failed, and reports whether that says nothing
// about the target, because the item has failed as well when others were taken:
// such an item must not be tried again at every success.
func (x *index) failedAgain(e *entry) (doubtful bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e.doubtful = e.doubtful || e.woken
	e.woken = false
	return e.doubtful
}

// size returns the number of items, and when the oldest arrived; zero if there is
// none.
func (x *index) size() (n int, oldest time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	first := int64(0)
	for _, a := range x.accounts {
		if at := a.items[0].arrived; first == 0 || at < first {
			first = at
		}
	}
	if first != 0 {
		oldest = time.UnixMicro(first)
	}
	return len(x.entries), oldest
}

// waiting returns the number of items, with those that are being stored.
func (x *index) waiting() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.entries) + len(x.storing)
}
