// SPDX-License-Identifier: Apache-2.0

package sandbox

// ring keeps the newest of what is added to it.
type ring[T any] struct {
	items []T
	next  int // where the oldest stands once the ring is full
	size  int
}

func newRing[T any](size int) ring[T] { return ring[T]{size: size} }

func (r *ring[T]) add(item T) {
	if len(r.items) < r.size {
		r.items = append(r.items, item)
		return
	}
	r.items[r.next] = item
	r.next = (r.next + 1) % r.size
}

// list copies the items, oldest first.
func (r *ring[T]) list() []T {
	all := make([]T, 0, len(r.items))
	return append(append(all, r.items[r.next:]...), r.items[:r.next]...)
}
