// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// listingTries is how often a listing that fails is tried at once: a folder of
	// files cannot be listed if one of them disappears meanwhile.
	listingTries = 3
	// listingShare bounds the time that listings take: the next one begins when so
	// many times what the last one has taken are over. Queues that are not very long
	// can be listed at each pass.
	listingShare = 100
	// restAfterPass is how long the queue's lock is left to other nodes after a
	// pass that ended because of its length. They look for it once a second.
	restAfterPass = 2 * time.Second
)

// queue delivers the items of one queue. It has one goroutine, which runs run, and
// during a pass one for each attempt. Every node has a queue with the same name;
// the queue's lock in the storage decides which one delivers.
type queue struct {
	courier *Courier
	name    vault.Queue
	index   *index
	health  *health
	writers chan struct{} // holds an element for each item that is being stored
	wake    chan struct{} // capacity 1; makes run look at the queue now
	wanted  atomic.Int32  // operators on this node who wait for the lock
	dead    atomic.Int64  // number of dead letters, as far as this node knows
	end     func()        // ends run

	// Only run uses these.
	listAt  time.Time            // when the queue is listed next
	listNot time.Time            // it is not listed before, so that listings take a small part of the time
	deadAt  time.Time            // when the dead letters are listed next
	oldest  []vault.EventKey     // the oldest dead letters, as many as one listing is good for
	young   map[itemID]time.Time // items that arrived long ago, and were replayed → when they are too old
	recent  map[itemID]time.Time // dead letters that arrived long ago → when they have been dead for long enough
}

// newQueue returns a queue whose run has begun. The caller holds the courier's mu.
func newQueue(c *Courier, name vault.Queue, h *health) *queue {
	q := &queue{
		courier: c, name: name, index: newIndex(name), health: h,
		writers: make(chan struct{}, maxWriters), wake: make(chan struct{}, 1),
	}
	ctx, stop := context.WithCancel(c.life)
	forget := q.watch()
	q.end = func() {
		stop()
		forget()
	}
	c.work.Go(func() { q.run(ctx) })
	return q
}

// run delivers until ctx ends. It looks at the queue when an item is due, when it
// is woken, and every pollInterval. A delivery in progress when ctx ends is
// finished, see attempt.
func (q *queue) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait, rest, err := q.once(ctx)
		if err != nil && ctx.Err() == nil {
			q.log().Warn("looking for events to deliver failed", zap.Error(err))
			wait, rest = pollInterval, true
		}
		if rest {
			backoff.Wait(ctx, wait)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-q.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// once does what is to be done, and returns how long to wait until the next time;
// rest means that nothing must shorten that. If an item is due, or is known to be
// too old, or there are too many dead letters, it takes the queue's lock, and waits
// for it as long as [vault.Vault.LockQueue] does. Otherwise it does at most a
// listing every pollInterval: on most nodes at most times this is all.
func (q *queue) once(ctx context.Context) (wait time.Duration, rest bool, err error) {
	target := q.target()
	if target == nil { // a reload has just removed it
		return pollInterval, false, nil
	}
	if !time.Now().Before(q.listAt) {
		if err := q.list(ctx); err != nil && ctx.Err() == nil {
			q.log().Warn("looking for events to deliver failed", zap.Error(err)) // what is known is delivered all the same
		}
	}
	if err := q.keepDead(ctx, target); err != nil && ctx.Err() == nil {
		q.log().Warn("looking after dead letters failed", zap.Error(err)) // they hold up nothing
	}
	if err := q.buryExpired(ctx, target); err != nil {
		return 0, false, err
	}
	if wait := q.idle(target); wait > 0 {
		return wait, false, nil
	}
	unlock, err := q.lock(ctx)
	if err != nil {
		return 0, false, err
	}
	defer unlock() // if that fails, the lock expires by itself
	return q.pass(ctx)
}

// idle returns the time until an attempt may be made, at most until the next
// listing.
func (q *queue) idle(target *Target) time.Duration {
	now := time.Now()
	longest := max(time.Millisecond, min(pollInterval, q.listAt.Sub(now)))
	wait, any := q.index.wait(now)
	if !any {
		return longest
	}
	limit, delay := q.health.limit(target, now)
	if limit == 0 {
		wait = max(wait, delay)
	}
	return min(wait, longest)
}

// next returns the next item to try, nil if none is due. The caller holds the queue's
// lock. It lists the queue before something is tried that was stored since the last
// listing, for what came to other nodes before must be tried before it; but not if
// listings take too long for that.
func (q *queue) next(ctx context.Context) *entry {
	for {
		now := time.Now()
		e, list := q.index.next(now, !now.Before(q.listNot))
		if !list {
			return e
		}
		_ = q.list(ctx) // it may fail in a folder of files from which an attempt has just deleted one
	}
}

// list brings the index in line with the storage.
func (q *queue) list(ctx context.Context) error {
	began := time.Now()
	q.listAt, q.listNot = began.Add(pollInterval), began.Add(pollInterval)
	age := q.index.beginListing()
	keys, err := q.listing(ctx, false)
	if err != nil {
		q.index.failedListing()
		return err
	}
	q.index.merge(keys, age)
	q.listNot = began.Add(listingShare * time.Since(began))
	q.listAt = began.Add(max(pollInterval, listingShare*time.Since(began)))
	return nil
}

// listing returns the keys of the queue, or of its dead letters.
func (q *queue) listing(ctx context.Context, dead bool) (keys []vault.EventKey, err error) {
	for range listingTries {
		limited, cancel := context.WithTimeout(ctx, storageTimeout)
		keys, err = q.settings().Vault.Events(limited, q.name, dead)
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return keys, err
}

// removeRepeats deletes copies of items that wait already, which another node has
// queued. The caller holds the queue's lock.
func (q *queue) removeRepeats(ctx context.Context) error {
	for _, key := range q.index.takeRepeats() {
		limited, cancel := context.WithTimeout(ctx, storageTimeout)
		err := q.settings().Vault.RemoveEvent(limited, key)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// lock takes the queue's lock. It waits for an owner for as long as a pass may take, and
// then breaks the lock: FileStorage may renew that of a process that was killed for ever,
// see package vault.
func (q *queue) lock(ctx context.Context) (unlock func() error, err error) {
	longest := passTime + 4*storageTimeout // those of an attempt, and of what precedes it
	if target := q.target(); target != nil {
		longest += target.timeout()
	}
	ctx, cancel := context.WithTimeout(ctx, longest*4/3) // LockQueue waits for three quarters of it
	defer cancel()
	return q.settings().Vault.LockQueue(ctx, q.name)
}

// poke makes run look at the queue now. It does not block.
func (q *queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default: // run has not seen an earlier poke yet
	}
}

func (q *queue) settings() Settings { return q.courier.settings() }

// target returns the target of the current configuration, nil if it has none.
func (q *queue) target() *Target { return q.settings().Targets[q.name] }

// log returns the logger of the current configuration, with the names of the
// queue.
func (q *queue) log() *zap.Logger { return logFor(q.settings().Log, q.name) }

func logFor(log *zap.Logger, name vault.Queue) *zap.Logger {
	return log.With(zap.String("component", name.Component), zap.String("client", name.Client), zap.String("target", name.Target))
}
