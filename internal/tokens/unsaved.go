// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"maps"
	"slices"
	"sync"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// unsaved holds the records that storage has not taken yet: their tokens exist
// nowhere else. It is safe for concurrent use.
type unsaved struct {
	mu      sync.Mutex
	records map[subject.Subject]vault.Record
}

// get returns the record of who that is not saved yet.
func (u *unsaved) get(who subject.Subject) (vault.Record, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	record, ok := u.records[who]
	return record, ok
}

// all returns whose records are not saved yet.
func (u *unsaved) all() []subject.Subject {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Keys(u.records))
}

// count returns how many records are not saved yet.
func (u *unsaved) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.records)
}

// put adds a record, or replaces the one of the same subject. It reports whether
// the subject is new here, so that one retry is started for it.
func (u *unsaved) put(who subject.Subject, record vault.Record) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.records == nil {
		u.records = make(map[subject.Subject]vault.Record)
	}
	_, known := u.records[who]
	u.records[who] = record
	metrics.UnstoredRecords.Set(float64(len(u.records)))
	return !known
}

// remove forgets record, unless a newer one has taken its place meanwhile. It
// reports whether nothing is left to save.
func (u *unsaved) remove(who subject.Subject, record vault.Record) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if held, ok := u.records[who]; ok && held.Obtained.After(record.Obtained) {
		return false
	}
	delete(u.records, who)
	metrics.UnstoredRecords.Set(float64(len(u.records)))
	return true
}
