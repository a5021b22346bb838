// SPDX-License-Identifier: Apache-2.0

package census

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// listTimeout is how long one listing, or the comparison of one record, may take.
const listTimeout = 30 * time.Second

// members are the accounts of one component.
type members struct {
	shards   [256]part
	noted    [len(vault.Noted)]part // by vault.Noted
	counted  bool                   // all shards and indexes were listed once
	passed   time.Time              // when that was done last
	listings []*listing             // that are running
}

// part is what is listed by one operation of the storage. at is when it began, zero if it
// was never listed.
type part struct {
	keys keys
	at   time.Time
}

// listing collects what changes while a part is being listed, or a record being read:
// nobody knows whether the storage shows it.
type listing struct{ changes []vault.Change }

// concerns reports whether an account has changed meanwhile.
func (l *listing) concerns(who subject.Subject) bool {
	return slices.ContainsFunc(l.changes, func(change vault.Change) bool { return change.Who == who })
}

// begin collects what changes in a component, until end is called.
func (c *Census) begin(component string) *listing {
	c.mu.Lock()
	defer c.mu.Unlock()
	running, m := new(listing), c.membersOf(component)
	m.listings = append(m.listings, running)
	return running
}

func (c *Census) end(component string, running *listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.membersOf(component)
	m.listings = slices.DeleteFunc(m.listings, func(other *listing) bool { return other == running })
}

// total is the number of accounts that are known.
func (m *members) total() (n int) {
	for i := range m.shards {
		n += len(m.shards[i].keys)
	}
	return n
}

// apply changes where an account stands. To apply a change again that was not followed by
// another one of its account changes nothing.
func (m *members) apply(change vault.Change) {
	key, ok := keyOf(change.Who.Authorizer())
	if !ok {
		return
	}
	shard := &m.shards[shardOf(key)]
	shard.keys = shard.keys.with(key, !change.Removed)
	for i, st := range vault.Noted {
		m.noted[i].keys = m.noted[i].keys.with(key, !change.Removed && change.After == st)
	}
}

// listShard lists one shard of a component anew.
func (c *Census) listShard(ctx context.Context, component string, shard byte) error {
	name := fmt.Sprintf("%s/%02x", component, shard)
	return c.list(ctx, component, name, func(ctx context.Context) ([]string, error) {
		return c.vault().ListShard(ctx, component, shard)
	}, func(m *members, found keys, began time.Time) { m.shards[shard] = part{found, began} })
}

// listAll lists all shards of a component anew by one operation, which is for small
// components.
func (c *Census) listAll(ctx context.Context, component string) error {
	return c.list(ctx, component, component, func(ctx context.Context) ([]string, error) {
		return c.vault().List(ctx, component)
	}, func(m *members, found keys, began time.Time) {
		for i := range m.shards {
			of := found
			if i < len(m.shards)-1 {
				of = found[:len(found)-len(found.from(uint64(i+1)<<56))]
			}
			m.shards[i] = part{slices.Clone(of), began}
			found = found[len(of):]
		}
	})
}

// listNoted lists the index of a standing anew, by its place in vault.Noted.
func (c *Census) listNoted(ctx context.Context, component string, noted int) error {
	st := vault.Noted[noted]
	return c.list(ctx, component, component+"/"+string(st), func(ctx context.Context) ([]string, error) {
		return c.vault().ListStanding(ctx, component, st)
	}, func(m *members, found keys, began time.Time) { m.noted[noted] = part{found, began} })
}

// list lists something of a component, once for all who want it at the same time, and puts
// it in place of what was known. It waits no longer than ctx; the listing goes on when its
// caller leaves.
func (c *Census) list(ctx context.Context, component, name string, ask func(context.Context) ([]string, error), put func(*members, keys, time.Time)) error {
	done := c.listings.DoChan(name, func() (any, error) {
		c.mu.Lock()
		if err := c.ctx.Err(); err != nil {
			c.mu.Unlock()
			return nil, err
		}
		c.work.Add(1)
		c.mu.Unlock()
		defer c.work.Done()
		ctx, cancel := context.WithTimeout(c.ctx, listTimeout)
		defer cancel()
		return nil, c.listOnce(ctx, component, ask, put)
	})
	select {
	case result := <-done:
		return result.Err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Census) listOnce(ctx context.Context, component string, ask func(context.Context) ([]string, error), put func(*members, keys, time.Time)) error {
	running, began := c.begin(component), time.Now()
	defer c.end(component, running)
	appids, err := ask(ctx)
	if err != nil {
		return err
	}
	found := keysOf(appids)
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.membersOf(component)
	put(m, found, began)
	for _, change := range running.changes {
		m.apply(change)
	}
	return nil
}
