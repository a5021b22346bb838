// SPDX-License-Identifier: Apache-2.0

// Package memory keeps tokens, and what is known of accounts, in a cache of ristretto.
//
// Entry point: [New].
package memory

import (
	"hash/maphash"
	"sync"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Memory keeps values of subjects, those that are used most, as many as it has the size
// for. V is a pointer. It implements tokens.Memory and
// profile.Memory, whose comments say what the callers must not rely on: ristretto stores
// a Set a little later, and may drop it.
type Memory[V any] struct {
	cache *ristretto.Cache[string, V]

	// mu guards closed. Ristretto panics if a Get or Set runs at the same time
	// as Close. So every use of cache holds mu for reading, and Close holds it
	// for writing.
	mu     sync.RWMutex
	closed bool
}

// New returns a memory for size values. It starts goroutines of
// ristretto, which end with Close.
//
// Ristretto does not store the key of an entry but two hashes of it, of 64 bits
// each. Both have a random seed here, so that nobody can choose appids for
// which one account gets the token of another. NumCounters and BufferItems have
// the values that ristretto recommends.
func New[V any](size int) (*Memory[V], error) {
	seed1, seed2 := maphash.MakeSeed(), maphash.MakeSeed()
	cache, err := ristretto.NewCache(&ristretto.Config[string, V]{
		NumCounters:        10 * int64(size),
		MaxCost:            int64(size),
		BufferItems:        64,
		IgnoreInternalCost: true, // else an entry costs more than 1, and fewer than size fit
		KeyToHash: func(key string) (uint64, uint64) {
			return maphash.String(seed1, key), maphash.String(seed2, key)
		},
	})
	if err != nil {
		return nil, err
	}
	return &Memory[V]{cache: cache}, nil
}

// Get returns what was set for who, or nil. It never blocks for long: mu is only
// held for writing by Close.
func (m *Memory[V]) Get(who subject.Subject) (value V) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return value
	}
	value, _ = m.cache.Get(string(who))
	return value
}

// Set stores the value of who. Each has cost 1.
func (m *Memory[V]) Set(who subject.Subject, value V) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.closed {
		m.cache.Set(string(who), value, 1)
	}
}

// Drop removes the value of who.
func (m *Memory[V]) Drop(who subject.Subject) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.closed {
		m.cache.Del(string(who))
	}
}

// Resize changes the number of values, at a reload. If there are more,
// ristretto removes some when others are stored.
func (m *Memory[V]) Resize(size int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.closed {
		m.cache.UpdateMaxCost(int64(size))
	}
}

// Close ends the cache. It waits for the other methods that are running.
// Afterwards Get returns nil, and the other methods do nothing.
func (m *Memory[V]) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		m.cache.Close()
	}
}

// Wait returns when what was set before can be seen, or was dropped. It is for tests.
func (m *Memory[V]) Wait() { m.cache.Wait() }
