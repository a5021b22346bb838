// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"sync"
	"time"
)

// Seen remembers the ids of pushes for at least seenLife. Only verified pushes are
// remembered, so nobody but WeChat can fill the memory. It is safe for concurrent use
// and never waits. The zero value remembers nothing yet. Each node has its own.
type Seen struct {
	mu sync.Mutex // guards all fields; held for operations on maps only
	// New ids go into recent. After more than seenLife recent becomes before, and the
	// old before is dropped as a whole. So no id needs a timer of its own.
	recent, before map[string]struct{}
	turned         time.Time // when recent became before for the last time
}

// Has reports whether an id is remembered.
func (s *Seen) Has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has(id)
}

// Add remembers an id, and reports whether it was new. Both happen under one lock: of
// two copies that arrive at the same time, exactly one is new.
func (s *Seen) Add(id string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has(id) {
		return false
	}
	if s.recent == nil || now.Sub(s.turned) > seenLife {
		s.recent, s.before, s.turned = make(map[string]struct{}), s.recent, now
	}
	s.recent[id] = struct{}{}
	return true
}

// has looks into both maps. The caller holds mu.
func (s *Seen) has(id string) bool {
	_, recent := s.recent[id]
	_, before := s.before[id]
	return recent || before
}
