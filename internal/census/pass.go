// SPDX-License-Identifier: Apache-2.0

package census

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// notedInterval is how often the indexes are listed.
	notedInterval = time.Minute
	// passInterval is how often all accounts are.
	passInterval = 10 * time.Minute
	// idleTime is how long that goes on after the last question.
	idleTime = time.Hour
	// pauseFactor is how long the storage is left alone after operations of paceTime, in
	// times of what these took: a pass takes a fifth of the storage's time.
	pauseFactor = 4
	paceTime    = 5 * time.Millisecond
)

// Run lists in the background, as long as somebody asks, until ctx ends or c is closed. It
// returns at once.
func (c *Census) Run(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.background(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.ctx, cancel)()
		for c.wait(ctx) {
			c.passAll(ctx)
		}
	})
}

// wait waits until it is time for the next pass: notedInterval after the last one, or
// earlier if somebody asks for what was never counted. It reports false once ctx has
// ended.
func (c *Census) wait(ctx context.Context) bool {
	c.mu.Lock()
	idle := time.Since(c.asked) > idleTime
	c.mu.Unlock()
	var due <-chan time.Time // never, while nobody asks
	if !idle {
		timer := time.NewTimer(notedInterval)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
	case <-c.wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// passAll lists what is due of all components, and forgets those that are gone. After a
// failure, of which the storage tells itself, it waits: who asks meanwhile must not let it
// begin again at once.
func (c *Census) passAll(ctx context.Context) {
	components := c.components()
	c.mu.Lock()
	for component := range c.of {
		if !slices.Contains(components, component) {
			delete(c.of, component)
		}
	}
	c.mu.Unlock()
	var failed error
	for _, component := range components {
		if err := c.pass(ctx, component); err != nil {
			failed = err
		}
	}
	if failed != nil {
		backoff.Wait(ctx, notedInterval)
	}
}

// pass lists the indexes of a component, and all its accounts if that is due.
func (c *Census) pass(ctx context.Context, component string) error {
	var p pace
	for noted := range vault.Noted {
		if err := p.do(ctx, func() error { return c.listNoted(ctx, component, noted) }); err != nil {
			return err
		}
	}
	c.mu.Lock()
	due := time.Since(c.membersOf(component).passed) >= passInterval
	c.mu.Unlock()
	if !due {
		return nil
	}
	began := time.Now()
	for shard := range 256 {
		if err := p.do(ctx, func() error { return c.listShard(ctx, component, byte(shard)) }); err != nil {
			return err
		}
	}
	c.mu.Lock()
	m := c.membersOf(component)
	m.counted, m.passed = true, began
	c.mu.Unlock()
	if err := c.compareNoted(ctx, component, &p); err != nil {
		return err
	}
	return c.compareAll(ctx, component, &p)
}

// compareNoted compares what stands in the indexes with the records: an entry may be left
// over, see vault.Vault.Store.
func (c *Census) compareNoted(ctx context.Context, component string, p *pace) error {
	for noted, st := range vault.Noted {
		c.mu.Lock()
		entries := slices.Clone(c.membersOf(component).noted[noted].keys)
		c.mu.Unlock()
		for _, key := range entries {
			err := p.do(ctx, func() error {
				c.compare(ctx, task{subject.Of(component, appIDOf(key)), st})
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// compareAll compares all records with the indexes, if that is due: those of a release
// that knew no indexes stand in none. Two nodes may do it at the same time.
func (c *Census) compareAll(ctx context.Context, component string, p *pace) error {
	v := c.vault()
	due, err := v.IndexPassDue(ctx, component, time.Now())
	if err != nil || !due {
		return err
	}
	compared, missing := 0, 0
	for shard := range 256 {
		c.mu.Lock()
		accounts := slices.Clone(c.membersOf(component).shards[shard].keys)
		c.mu.Unlock()
		for _, key := range accounts {
			err := p.do(ctx, func() error {
				found, err := c.index(ctx, v, subject.Of(component, appIDOf(key)), key)
				if found {
					missing++
				}
				return err
			})
			if err != nil {
				return err
			}
			compared++
		}
	}
	c.log().Info("accounts were compared with the index of those that are not authorized",
		zap.String("component", component), zap.Int("accounts", compared), zap.Int("missing", missing))
	return v.IndexPassed(ctx, component, time.Now())
}

// index brings an account into the index of its standing, if it is in trouble and not in
// it. It reports whether that was so. A record that does not open is passed over.
func (c *Census) index(ctx context.Context, v *vault.Vault, who subject.Subject, key uint64) (missing bool, err error) {
	record, err := v.Load(ctx, who)
	if err != nil {
		return false, unavailable(err)
	}
	noted := slices.Index(vault.Noted[:], record.Standing())
	if noted < 0 {
		return false, nil
	}
	c.mu.Lock()
	known := c.membersOf(who.Component()).noted[noted].keys.has(key)
	c.mu.Unlock()
	if known {
		return false, nil
	}
	_, err = v.Repair(ctx, who, record, vault.Stands)
	return err == nil, unavailable(err)
}

// pace lets operations wait for one another. Short ones wait together: a timer takes longer
// than they do.
type pace struct{ spent time.Duration }

// do does one operation, and leaves the storage alone for a while if that is due. Its error
// is that of the operation, or of ctx.
func (p *pace) do(ctx context.Context, operation func() error) error {
	began := time.Now()
	if err := operation(); err != nil {
		return err
	}
	if p.spent += time.Since(began); p.spent >= paceTime {
		if !backoff.Wait(ctx, pauseFactor*p.spent) {
			return ctx.Err()
		}
		p.spent = 0
	}
	return ctx.Err()
}

// unavailable returns err if the storage has failed, and nil if what is wrong is the record.
func unavailable(err error) error {
	if errors.Is(err, vault.ErrUnavailable) {
		return err
	}
	return nil
}
