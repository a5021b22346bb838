// SPDX-License-Identifier: Apache-2.0

// Package permission knows the permission sets (权限集) of WeChat by their ids: their
// names, and which of them a path needs.
package permission

// Bits are the ids of permission sets that an account has granted, from 0 to 255.
// The zero value has none.
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

// Name returns the name of a permission set, in Chinese or in English; "" if WeChat's
// pages do not have the id.
func Name(id int, english bool) string {
	for _, set := range names {
		if int(set.id) == id {
			if english {
				return set.en
			}
			return set.zh
		}
	}
	return ""
}

// Needed returns the ids of the permission sets that WeChat's page about a path
// names: any one of them suffices. known is false for a path whose page was not read
// or names none, so nothing can be said about it.
func Needed(path string) (sets []int, known bool) {
	return nil, false
}
