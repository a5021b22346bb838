// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// beginListing is called before the queue is listed, with merge afterwards, or
// failedListing.
func (x *index) beginListing() (age uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.age++
	return x.age
}

// failedListing is called if a listing has failed.
func (x *index) failedListing() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.age--
}

// merge adds the items that were listed, and removes those that were not, which
// other nodes have delivered: but not what has come since the listing began, nor
// what is being tried.
func (x *index) merge(keys []vault.EventKey, age uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	listed := make(map[itemID]struct{}, len(keys))
	x.repeats = nil
	for _, key := range keys {
		listed[idOf(key.ID)] = struct{}{}
	}
	for id, e := range x.entries {
		if _, there := listed[id]; !there && e.age < age && e.account.tried != e {
			x.remove(e)
		}
	}
	for _, key := range keys {
		x.add(key, time.Time{}, age-1)
	}
}

// replaces removes e if it is a copy of the item at key that came later and is not
// being tried, and reports that. All nodes must keep the same copy, the first one.
func (x *index) replaces(key vault.EventKey, e *entry) bool {
	if key.Arrived >= e.arrived || e.account.tried == e {
		return false
	}
	x.repeats = append(x.repeats, x.key(e))
	x.remove(e)
	return true
}

// takeRepeats returns the keys of further copies of items, once.
func (x *index) takeRepeats() []vault.EventKey {
	x.mu.Lock()
	defer x.mu.Unlock()
	repeats := x.repeats
	x.repeats = nil
	return repeats
}
