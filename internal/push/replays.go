// SPDX-License-Identifier: Apache-2.0

package push

import (
	"sync"
	"time"
)

// pushID identifies a push by its component and its msg_signature: 128 bits of
// their SHA-256. Timestamp and nonce do not identify it: the signature covers
// the sorted parts joined without separators. So it is also valid if an
// attacker exchanges the two, or divides their characters in another way.
type pushID [16]byte

// Replays remembers pushes for at least as long as their timestamps are
// accepted. A push can be accepted during 20 minutes, because its timestamp may
// be ten minutes in the past or in the future. Only verified pushes are
// remembered, so nobody but WeChat can fill the memory. It is safe for
// concurrent use and never waits for storage or network. Each node has its own:
// a captured push can be sent once to each node of a cluster.
type Replays struct {
	mu sync.Mutex // protects all fields; held for map operations only
	// New pushes go into recent. After more than 20 minutes recent becomes
	// before, and the old before is dropped as a whole. So no push needs a
	// timer of its own.
	recent map[pushID]struct{}
	before map[pushID]struct{}
	// turned is when recent became before for the last time.
	turned time.Time
}

// NewReplays returns Replays that remember no push.
func NewReplays() *Replays { return &Replays{recent: make(map[pushID]struct{})} }

// seen reports whether a push is remembered. It does not remember the push.
func (r *Replays) seen(id pushID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.has(id)
}

// acknowledged remembers a push that was handled.
func (r *Replays) acknowledged(id pushID, now time.Time) { r.claim(id, now) }

// claim remembers a push before it is handled, and reports whether it was new.
// Both happen under one lock: if two copies arrive at the same time, exactly
// one is new.
func (r *Replays) claim(id pushID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.has(id) {
		return false
	}
	if now.Sub(r.turned) > 2*maxAge {
		r.recent, r.before, r.turned = make(map[pushID]struct{}), r.recent, now
	}
	r.recent[id] = struct{}{}
	return true
}

// forget undoes a claim, because no client has accepted the push. The push may
// be in either map: while it was delivered, recent may have become before.
func (r *Replays) forget(id pushID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.recent, id)
	delete(r.before, id)
}

// has looks into both maps. The caller holds mu.
func (r *Replays) has(id pushID) bool {
	_, recent := r.recent[id]
	_, before := r.before[id]
	return recent || before
}
