// SPDX-License-Identifier: Apache-2.0

// Package permission knows the permission sets (权限集) of WeChat by their ids: their
// names, and which of them a path needs. An admin grants them to a platform when he
// authorises an account.
package permission

import (
	"slices"
	"strings"
)

// Bits are ids of permission sets, from 0 to 255. The zero value has none.
type Bits [4]uint64

// Of returns the set of these ids. Others than 0 to 255 are left out.
func Of(ids []int) (b Bits) {
	for _, id := range ids {
		if id >= 0 && id < 256 {
			b[id/64] |= 1 << (id % 64)
		}
	}
	return b
}

// Has reports whether an id is among them.
func (b Bits) Has(id int) bool {
	return id >= 0 && id < 256 && b[id/64]&(1<<(id%64)) != 0
}

// Name returns the name of a permission set in Chinese or in English, "" if it is not
// known.
func Name(id int, english bool) string {
	i, known := slices.BinarySearchFunc(names[:], id, func(s set, id int) int { return int(s.id) - id })
	switch {
	case !known:
		return ""
	case english:
		return names[i].en
	}
	return names[i].zh
}

// Needed returns the permission sets that WeChat's page about a path names: any one of
// them suffices. If known is false, nothing can be said about the path. The case of the
// path does not count. The result must not be changed.
func Needed(path string) (sets []int, known bool) {
	for _, n := range needs { // few, and asked only when WeChat has refused
		if strings.EqualFold(n.path, path) {
			return n.sets, true
		}
	}
	return nil, false
}
