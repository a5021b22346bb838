// SPDX-License-Identifier: Apache-2.0

package relay

import "sync"

// maxBodies is how many small bodies of one caller are read at a time. Each takes
// memory for up to bodyTimeout if its caller sends it without an end; those of honest
// callers arrive within milliseconds.
const maxBodies = 300

// Bodies counts, for each caller, the small bodies that are being read into memory. The
// zero value is ready for use. It is safe for concurrent use.
type Bodies struct {
	mu sync.Mutex
	of map[string]int
}

// Begin reports whether another body of this caller may be read; whoever reads it
// calls End afterwards. If not, the connection is to be broken off: an answer would
// wait for the body.
func (b *Bodies) Begin(caller string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of[caller] >= maxBodies {
		return false
	}
	if b.of == nil {
		b.of = make(map[string]int)
	}
	b.of[caller]++
	return true
}

// End ends what Begin has counted.
func (b *Bodies) End(caller string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of[caller]--; b.of[caller] == 0 {
		delete(b.of, caller)
	}
}
