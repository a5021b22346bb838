// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"cmp"
	"container/heap"
	"slices"
)

// account has the items of one account. Only the first is tried.
type account struct {
	appID string
	items []*entry // in the order of arrival
	place int      // in the heap; -1 if an item is being tried
	tried *entry   // that item; nil if none is
}

// entry is one item. Its fields below due are guarded by the index; due is in Unix
// nanoseconds, 0 for an item of which this node does not know it.
type entry struct {
	account *account
	id      itemID
	arrived int64 // Unix microseconds
	due     int64
	age     uint32 // of the index when it was stored here; less if it was listed since

	forced    bool // an operator wants it now: no stored time holds it up
	woken     bool // it was made due because the target has recovered, and not tried since
	doubtful  bool // it failed when others were taken: it says nothing about the target
	withdrawn bool // it was taken by a direct attempt while it was being tried
}

// compareEntries orders items by their arrival.
func compareEntries(a, b *entry) int {
	return cmp.Or(cmp.Compare(a.arrived, b.arrived), slices.Compare(a.id[:], b.id[:]))
}

// accounts implements heap.Interface: the account whose first item is due first,
// and of several that which arrived first.
type accounts []*account

func (h accounts) Len() int { return len(h) }

func (h accounts) Less(i, j int) bool {
	a, b := h[i].items[0], h[j].items[0]
	return cmp.Or(cmp.Compare(a.due, b.due), compareEntries(a, b)) < 0
}

func (h accounts) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *accounts) Push(a any) {
	a.(*account).place = len(*h)
	*h = append(*h, a.(*account))
}

func (h *accounts) Pop() any {
	last := len(*h) - 1
	a := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	a.place = -1
	return a
}

var _ heap.Interface = (*accounts)(nil)
