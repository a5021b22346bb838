// SPDX-License-Identifier: Apache-2.0

// Package usage counts who calls what: calls and bytes by client, account, class of
// path and errcode, of this process, since it began. It holds a bounded number of
// rows, and remembers nothing of a call but what stands in its row.
package usage

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// None is the client of calls whose client is not known.
	None = "none"

	shards = 64
	// maxRows is of one shard. Together they hold 10,240 rows, about 2 MB.
	maxRows = 160
	// candidates is how many rows are compared when one has to go: the work under
	// the lock must not grow with the table.
	candidates = 8
	// admitted is which of the calls without a row begins one in a shard that is full.
	// Where more accounts are called than there are rows, nearly every call is one of
	// these, and must cost no more than others. A busy account is soon among them.
	admitted = 16
	// maxClass is the length of a class in bytes, because callers choose paths.
	maxClass = 64
)

// Key is what calls are counted by.
type Key struct {
	Client  string // None if it is not known
	AppID   string // of the account, else of the component; "" if neither is known
	Class   string // see Class
	Errcode int    // what the caller got: WeChat's, or the gateway's
	Own     bool   // the gateway answered, not WeChat
}

// Row is how often something was called.
type Row struct {
	Key
	Calls, Bytes uint64    // bytes are those of the answers' bodies
	Since        time.Time // when the row was begun; later than the table's if it was pushed out meanwhile
}

// Table has the busiest rows. It is safe for concurrent use.
type Table struct {
	seed   maphash.Seed
	shards [shards]shard
	start  time.Time
	lost   atomic.Uint64 // calls of rows that were pushed out, and of those that were not begun
}

type shard struct {
	mu     sync.RWMutex // held for writing while a row is added
	rows   map[Key]*row
	missed atomic.Uint64 // calls without a row while there was no room for one
}

type row struct {
	calls, bytes atomic.Uint64
	since        time.Time
}

// New returns a table that has counted nothing.
func New() *Table {
	t := &Table{seed: maphash.MakeSeed(), start: time.Now()}
	for i := range t.shards {
		t.shards[i].rows = make(map[Key]*row)
	}
	return t
}

// Count counts a call. Of calls without a client neither account nor path are kept:
// strangers could fill the table with them. A call without a row begins one; where there
// is no room for it, one in 16 of these calls makes room, and the others are lost. Count
// keeps no memory of its arguments, and allocates only for a row that is new. It waits for
// nobody but other calls of Count and Top.
func (t *Table) Count(client, appid, path string, errcode int, own bool, bytes int64) {
	key := Key{Client: client, AppID: appid, Class: Class(path), Errcode: errcode, Own: own}
	if client == "" || client == None {
		key.Client, key.AppID, key.Class = None, "", ""
	}
	s := &t.shards[(maphash.String(t.seed, key.AppID)+31*maphash.String(t.seed, key.Class))%shards]
	s.mu.RLock()
	counted := s.rows[key]
	if counted != nil {
		counted.add(bytes) // within the lock: a row that goes takes all its calls along
	}
	full := len(s.rows) >= maxRows
	s.mu.RUnlock()
	switch {
	case counted != nil:
	case full && s.missed.Add(1)%admitted != 0:
		t.lost.Add(1)
	default:
		t.begin(s, key, bytes)
	}
}

// begin counts a call whose row was not there a moment ago.
func (t *Table) begin(s *shard, key Key, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counted := s.rows[key]
	if counted == nil {
		if len(s.rows) >= maxRows {
			t.lost.Add(s.evict())
		}
		// Parts of a request's URL or token would keep all of it in memory.
		key.Client, key.AppID, key.Class = strings.Clone(key.Client), strings.Clone(key.AppID), strings.Clone(key.Class)
		counted = &row{since: time.Now()}
		s.rows[key] = counted
	}
	counted.add(bytes)
}

func (r *row) add(bytes int64) {
	r.calls.Add(1)
	r.bytes.Add(uint64(max(bytes, 0)))
}

// evict removes the row with the fewest calls among some that chance picks, and
// returns its calls. A busy row stays: it would have to be the least of all of them.
func (s *shard) evict() (calls uint64) {
	var least Key
	looked := 0
	for key, r := range s.rows { // begins at another row each time
		if n := r.calls.Load(); looked == 0 || n < calls {
			least, calls = key, n
		}
		if looked++; looked == candidates {
			break
		}
	}
	delete(s.rows, least)
	return calls
}

// Top returns up to n rows with the most calls, of one client or, if it is "", of all,
// the busiest first. lost is the number of calls of all clients that no row has: theirs
// had to make room for another, or was not begun. since is when the table was made.
func (t *Table) Top(client string, n int) (rows []Row, lost uint64, since time.Time) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for key, r := range s.rows {
			if client == "" || key.Client == client {
				rows = append(rows, Row{key, r.calls.Load(), r.bytes.Load(), r.since})
			}
		}
		s.mu.RUnlock()
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Client, b.Client),
			strings.Compare(a.AppID, b.AppID), strings.Compare(a.Class, b.Class), cmp.Compare(a.Errcode, b.Errcode))
	})
	return rows[:max(0, min(n, len(rows)))], t.lost.Load(), t.start
}

// Class returns the class of a path: its first three segments, at most 64 bytes of
// them. It is a part of path, not a copy.
func Class(path string) string {
	slashes := 0
	for i := range min(len(path), maxClass+1) {
		if i == maxClass || path[i] == '/' && slashes == 3 {
			return path[:i]
		}
		if path[i] == '/' {
			slashes++
		}
	}
	return path
}
