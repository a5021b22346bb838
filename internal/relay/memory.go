// SPDX-License-Identifier: Apache-2.0

package relay

import "sync"

// Memory is what the request bodies that are kept while they stream may take
// together. There is one for the process. What counts is what is allocated, in
// chunks, and not what callers announce: a caller that announces much and sends
// little takes nothing from the others.
//
// It never makes a call wait: what does not fit is not kept. It is safe for
// concurrent use.
type Memory struct {
	mu    sync.Mutex
	limit int64            // bytes
	taken int64            // bytes
	of    map[string]int64 // client id → bytes; without those that have none
}

// chunk is the unit in which bodies are kept. A slice that grows would be copied
// again and again, and take twice its size.
type chunk [chunkSize]byte

const chunkSize = 64 << 10

// chunks are those that no body has. They do not count as taken: the garbage
// collector frees them if nobody needs them.
var chunks = sync.Pool{New: func() any { return new(chunk) }}

// Shares is the part of a Memory that one client gets: one of so many. With
// one client that sends as much as it can, the others still have three quarters.
const Shares = 4

// NewMemory returns a Memory of so many bytes, of which nothing is taken.
func NewMemory(limit int64) *Memory {
	return &Memory{limit: limit, of: make(map[string]int64)}
}

// Resize changes the limit. What is taken stays taken, even if it is more.
func (m *Memory) Resize(limit int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = limit
}

// take returns a chunk for a body of a client, nil if it does not fit. Calls without
// a client, with the id "", count as those of one. The caller gives it back.
func (m *Memory) take(client string) *chunk {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.taken+chunkSize > m.limit || m.of[client]+chunkSize > m.limit/Shares {
		return nil
	}
	m.taken += chunkSize
	m.of[client] += chunkSize
	return chunks.Get().(*chunk)
}

// give takes back what the bodies of a client have taken.
func (m *Memory) give(client string, back []*chunk) {
	if len(back) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := int64(len(back)) * chunkSize
	m.taken -= n
	if m.of[client] -= n; m.of[client] == 0 {
		delete(m.of, client)
	}
	for _, c := range back {
		chunks.Put(c)
	}
}
