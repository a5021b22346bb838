// SPDX-License-Identifier: Apache-2.0

package census

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// keys are accounts in the order of pages, each once: an appid is wx and 16 hexadecimal
// digits, which are a number of 64 bits. Its last byte, which names the shard in the
// storage, is rotated to the front, so that the order is that of the shards.
type keys []uint64

// keyOf returns the key of an appid; ok is false if it is none.
func keyOf(appid string) (key uint64, ok bool) {
	if !subject.ValidAppID(appid) {
		return 0, false
	}
	number, err := strconv.ParseUint(appid[2:], 16, 64)
	return bits.RotateLeft64(number, -8), err == nil
}

func appIDOf(key uint64) string { return fmt.Sprintf("wx%016x", bits.RotateLeft64(key, 8)) }

func shardOf(key uint64) byte { return byte(key >> 56) }

// keysOf returns the keys of appids.
func keysOf(appids []string) keys {
	all := make(keys, 0, len(appids))
	for _, appid := range appids {
		if key, ok := keyOf(appid); ok {
			all = append(all, key)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (k keys) has(key uint64) bool {
	_, found := slices.BinarySearch(k, key)
	return found
}

// with returns k with a key, or without it. It may change k.
func (k keys) with(key uint64, in bool) keys {
	at, found := slices.BinarySearch(k, key)
	switch {
	case in && !found:
		return slices.Insert(k, at, key)
	case !in && found:
		return slices.Delete(k, at, at+1)
	}
	return k
}

// from returns the part of k from a key on.
func (k keys) from(key uint64) keys {
	at, _ := slices.BinarySearch(k, key)
	return k[at:]
}
