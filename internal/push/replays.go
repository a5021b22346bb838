// SPDX-License-Identifier: Apache-2.0

package push

import (
	"sync"
	"time"
)

// pushID names a push in the replay window, by its msg_signature: timestamp
// and nonce can be cut elsewhere under the same signature.
type pushID [16]byte

// Replays remembers the pushes acknowledged for at least as long as their
// timestamps are accepted. Only what verified is remembered, so nobody but
// WeChat can fill it.
type Replays struct {
	mu     sync.Mutex
	recent map[pushID]struct{}
	before map[pushID]struct{}
	turned time.Time // when before was recent
}

// NewReplays returns an empty window.
func NewReplays() *Replays { return &Replays{recent: make(map[pushID]struct{})} }

// seen reports whether a push was acknowledged.
func (r *Replays) seen(id pushID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.has(id)
}

// acknowledged remembers a push.
func (r *Replays) acknowledged(id pushID, now time.Time) { r.claim(id, now) }

// claim remembers a push that is about to be acknowledged, and reports whether
// it was not remembered before: of two copies at once, one is taken.
func (r *Replays) claim(id pushID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.has(id) {
		return false
	}
	if now.Sub(r.turned) > 2*maxAge { // a timestamp may be off either way
		r.recent, r.before, r.turned = make(map[pushID]struct{}), r.recent, now
	}
	r.recent[id] = struct{}{}
	return true
}

// forget takes a claim back: the push was not taken.
func (r *Replays) forget(id pushID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.recent, id)
	delete(r.before, id)
}

func (r *Replays) has(id pushID) bool {
	_, recent := r.recent[id]
	_, before := r.before[id]
	return recent || before
}
