// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// maxWriters is the number of items that are stored in one queue at a time. Some
// storages wait for the disk with each; others get slower for everybody if too
// many write.
const maxWriters = 16

// Arrival returns the current time for Item.Arrived, in whole microseconds: each
// is later than those before, so that of two items it is always known
// which one came first.
func (c *Courier) Arrival() time.Time {
	for {
		last, now := c.arrival.Load(), time.Now().UnixMicro()
		if now <= last {
			now = last + 1
		}
		if c.arrival.CompareAndSwap(last, now) {
			return time.UnixMicro(now)
		}
	}
}

// Enqueue stores an item in the queues of targets, side by side, for a first
// attempt that is not made before due; the zero time means at once. If it returns
// nil, the item survives a crash of this node, so the push may be acknowledged.
// After an error, which says which target it is about, some queues may contain the
// item. The call may be repeated; an item with the same ID is not queued twice
// while it waits. Enqueue waits for a storage operation for each target, at most
// maxWriters at a time, and not for a delivery. An item that comes to a full queue
// becomes a dead letter.
func (c *Courier) Enqueue(ctx context.Context, item Item, targets []*Target, due time.Time) error {
	if item.Arrived.IsZero() {
		item.Arrived = c.Arrival()
	}
	if due.IsZero() {
		due = time.Now() // and not Arrived, which may be a moment later
	}
	if len(targets) == 1 {
		return c.enqueueFor(ctx, item, targets[0], due, "")
	}
	failures := make([]error, len(targets))
	var all sync.WaitGroup
	for i, target := range targets {
		all.Go(func() { failures[i] = c.enqueueFor(ctx, item, target, due, "") })
	}
	all.Wait()
	return errors.Join(failures...)
}

// enqueueFor is Enqueue for one target. failure says why the direct attempt has failed,
// which counts as the first attempt; "": there was none, or it is still running.
func (c *Courier) enqueueFor(ctx context.Context, item Item, target *Target, due time.Time, failure string) error {
	name := target.Queue()
	e := newEvent(item, name, due)
	if failure != "" {
		e.Attempts, e.Failure = 1, failure
	}
	q, err := c.queue(name), error(nil)
	if q == nil { // of a configuration that is no longer in force
		err = c.settings().Vault.Enqueue(ctx, e)
	} else {
		err = q.enqueue(ctx, e, target)
	}
	if err != nil {
		return fmt.Errorf("queueing for client %s, target %s: %w", name.Client, name.Target, err)
	}
	return nil
}

// enqueue stores an item unless it waits already.
func (q *queue) enqueue(ctx context.Context, e vault.Event, target *Target) error {
	id := idOf(e.ID)
	for {
		first, wait := q.index.reserve(id)
		if first {
			break
		}
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	e.Dead = q.index.waiting() > target.maxWaiting() // with this one
	err := q.write(ctx, &e)
	switch {
	case err != nil:
		q.index.stored(id, nil, e.Due)
	case e.Dead:
		q.index.stored(id, nil, e.Due)
		q.died(e, "the queue is full, what comes now is a dead letter", zap.Int("queue", target.maxWaiting()))
	default:
		q.index.stored(id, &e.EventKey, e.Due)
		metrics.Delivered(e.Client, e.Target, e.Kind, metrics.Queued)
	}
	q.poke()
	return err
}

// write stores an item, when fewer than maxWriters others are being stored.
func (q *queue) write(ctx context.Context, e *vault.Event) error {
	select {
	case q.writers <- struct{}{}:
		defer func() { <-q.writers }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if e.Dead {
		e.Died, e.Failure = time.Now(), "the queue was full"
	}
	return q.settings().Vault.Enqueue(ctx, *e)
}

// Withdraw removes an item that Enqueue has stored, because the direct attempt,
// which was still running then, has succeeded. After an error the item is
// delivered once more. It is no error if the item is not in the queue.
func (c *Courier) Withdraw(ctx context.Context, item Item, target *Target) error {
	name := target.Queue()
	key := newEvent(item, name, time.Time{}).EventKey
	if q := c.queue(name); q != nil {
		found := q.index.withdraw(idOf(item.ID), key.Arrived)
		if found == nil {
			return nil
		}
		key = *found
	}
	// It is not due yet, so no node tries it, and no lock is needed.
	if err := c.settings().Vault.RemoveEvent(ctx, key); err != nil {
		return fmt.Errorf("withdrawing from the queue of client %s, target %s: %w", name.Client, name.Target, err)
	}
	return nil
}

// newEvent returns what is stored of an item.
func newEvent(item Item, name vault.Queue, due time.Time) vault.Event {
	return vault.Event{
		EventKey: vault.EventKey{Queue: name, Arrived: item.Arrived.UnixMicro(), AppID: item.AppID, ID: item.ID},
		Kind:     string(item.Kind), InfoType: item.InfoType, ToUserName: item.ToUserName, OpenID: item.OpenID,
		CodeIn: item.CodeIn, Body: item.Body, Queued: item.Arrived, Due: due,
	}
}

// itemOf returns the item that was stored. What the release before has stored are
// authorisation events.
func itemOf(e vault.Event) Item {
	return Item{
		Kind: kindOf(e), Component: e.Component, AppID: e.AppID, ID: e.ID, InfoType: e.InfoType,
		ToUserName: e.ToUserName, OpenID: e.OpenID, CodeIn: e.CodeIn, Arrived: time.UnixMicro(e.Arrived), Body: e.Body,
	}
}

// kindOf returns the kind of a stored item.
func kindOf(e vault.Event) Kind {
	if e.Kind == "" {
		return KindEvent
	}
	return Kind(e.Kind)
}
