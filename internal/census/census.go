// SPDX-License-Identifier: Apache-2.0

// Package census knows which accounts there are and how it is with each, without reading
// their records: eight bytes an account, in memory. Operators turn pages of it, and
// Prometheus sees its counts. The storage stays the truth: what is listed here may be
// wrong for a moment, so whoever shows an account loads its record and compares.
//
//	census.go   what changes it, and what asks it
//	page.go     pages of accounts
//	listing.go  how a part is listed anew while accounts change
//	pass.go     the work in the background
//	keys.go     accounts in their order
//
// Nothing is listed before somebody asks, and nothing in the background when nobody has
// asked for an hour. What this node stores is seen at once, what another node changes
// when its notice is read, and whatever was missed when a part is listed again.
package census

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// maxReading is how many records are read at a time because of Heard and Wrong: a burst
// of notices must not flood the storage.
const maxReading = 16

// Census is safe for concurrent use. The gateway has one, which survives reloads.
type Census struct {
	vault      func() *vault.Vault
	components func() []string // those that are configured
	log        func() *zap.Logger

	listings singleflight.Group
	wake     chan struct{} // holds an element if Run has to begin, see ask

	mu      sync.Mutex // guards all below; never held while the storage is asked
	of      map[string]*members
	asked   time.Time // when the last question came; zero if none has
	waiting []task    // records to be read
	waits   map[task]bool
	reading int // goroutines that read them

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// Counts is how many accounts of a component have each standing.
type Counts struct{ Authorized, Withdrawn, NeedsAdmin, Failing int }

// task is a record to be read. listed is the standing in whose index it was found, where
// that seems to be wrong; "" if only its standing is to be known.
type task struct {
	who    subject.Subject
	listed vault.Standing
}

// New returns a Census of what is stored in the vault of the moment, of the components
// that are configured in the moment. Its functions must not block.
func New(v func() *vault.Vault, components func() []string, log func() *zap.Logger) *Census {
	c := &Census{vault: v, components: components, log: log, wake: make(chan struct{}, 1), of: make(map[string]*members), waits: make(map[task]bool)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Changed is for [vault.Vault.Changed]: what this node has stored. It waits for nothing.
func (c *Census) Changed(change vault.Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.asked.IsZero() { // else whoever asks first has all listed
		c.change(change)
	}
}

// change applies a change, and lets the listings that are running know of it. The caller
// holds mu.
func (c *Census) change(change vault.Change) {
	m := c.membersOf(change.Who.Component())
	m.apply(change)
	for _, l := range m.listings {
		l.changes = append(l.changes, change)
	}
}

// Heard is told of an account that another node has changed. It reads the record in the
// background and returns at once.
func (c *Census) Heard(who subject.Subject) { c.read(task{who: who}) }

// Wrong is told of an account that a page has found in the index of a standing that is not
// the one of its record; Stands if it stands in none. The index is repaired in the
// background. It returns at once.
func (c *Census) Wrong(component, appid string, listed vault.Standing) {
	c.read(task{subject.Of(component, appid), listed})
}

// Counts returns how many accounts of a component have each standing. It waits for
// nothing; counted is false until all of them were listed once, which the first question
// starts. Until then Authorized counts those that were met so far.
func (c *Census) Counts(component string) (n Counts, counted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.ask(component)
	n = Counts{Withdrawn: len(m.noted[0].keys), NeedsAdmin: len(m.noted[1].keys), Failing: len(m.noted[2].keys)}
	n.Authorized = max(0, m.total()-n.Withdrawn-n.NeedsAdmin-n.Failing)
	return n, m.counted
}

// Has reports whether an account is known here. It waits for nothing.
func (c *Census) Has(component, appid string) bool {
	key, ok := keyOf(appid)
	c.mu.Lock()
	defer c.mu.Unlock()
	return ok && c.ask(component).shards[shardOf(key)].keys.has(key)
}

// Close ends all work and waits for it. It may be called again.
func (c *Census) Close() {
	c.mu.Lock()
	c.cancel()
	c.mu.Unlock()
	c.work.Wait()
}

// ask notes a question about a component, and wakes Run if there is something to count, or
// if nobody has asked for long. The caller holds mu.
func (c *Census) ask(component string) *members {
	idle := time.Since(c.asked) > idleTime
	c.asked = time.Now()
	m := c.membersOf(component)
	if !m.counted || idle {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	return m
}

// membersOf returns what is known of a component. The caller holds mu.
func (c *Census) membersOf(component string) *members {
	if c.of[component] == nil {
		c.of[component] = new(members)
	}
	return c.of[component]
}

// background runs work for which Close waits, unless that has been called. The caller
// holds mu.
func (c *Census) background(work func()) {
	if c.ctx.Err() == nil {
		c.work.Go(work)
	}
}

// read lets a record be read, unless it waits for that already.
func (c *Census) read(t task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked.IsZero() || c.waits[t] {
		return
	}
	c.waits[t] = true
	c.waiting = append(c.waiting, t)
	if c.reading < maxReading {
		c.reading++
		c.background(c.readAll)
	}
}

// readAll reads the records that wait, one after the other.
func (c *Census) readAll() {
	for {
		c.mu.Lock()
		if len(c.waiting) == 0 || c.ctx.Err() != nil {
			c.reading--
			c.mu.Unlock()
			return
		}
		t := c.waiting[0]
		c.waiting = c.waiting[1:]
		delete(c.waits, t)
		c.mu.Unlock()
		c.compare(c.ctx, t)
	}
}

// compare reads a record, and repairs the index if that is wrong. What this node stores
// meanwhile is newer. What the storage does not tell is found by the next pass.
func (c *Census) compare(ctx context.Context, t task) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	running := c.begin(t.who.Component())
	defer c.end(t.who.Component(), running)
	v := c.vault()
	record, err := v.Load(ctx, t.who)
	gone := errors.Is(err, vault.ErrNotFound)
	if err != nil && !gone {
		return
	}
	stands := record.Standing()
	if t.listed != "" && t.listed != stands {
		if stands, err = v.Repair(ctx, t.who, record, t.listed); err != nil {
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !running.concerns(t.who) {
		c.change(vault.Change{Who: t.who, Before: t.listed, After: stands, Removed: gone})
	}
}
