// SPDX-License-Identifier: Apache-2.0

package push

import (
	"net/netip"
	"sync"
)

// maxReading is how many bodies of pushes from one address are read at a time. Each
// takes up to maxPush bytes for up to bodyTimeout, before anything of it can be
// verified. Those of WeChat arrive within milliseconds.
const maxReading = 100

// reading counts, for each address, the bodies that are being read. One who begins
// pushes and does not end them takes a bounded memory, and no other's place. The zero
// value is ready for use. It is safe for concurrent use.
type reading struct {
	mu sync.Mutex
	of map[netip.Addr]int
}

// begin reports whether another body from this address may be read; the caller calls
// end afterwards.
func (r *reading) begin(from netip.Addr) bool {
	from = network(from)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[from] >= maxReading {
		return false
	}
	if r.of == nil {
		r.of = make(map[netip.Addr]int)
	}
	r.of[from]++
	return true
}

func (r *reading) end(from netip.Addr) {
	from = network(from)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[from]--; r.of[from] == 0 {
		delete(r.of, from)
	}
}

// network is an address of IPv4, or the first of the /64 that one of IPv6 lies in:
// whoever has one has all of them.
func network(from netip.Addr) netip.Addr {
	if from = from.Unmap(); from.Is6() {
		return netip.PrefixFrom(from.WithZone(""), 64).Masked().Addr()
	}
	return from
}
