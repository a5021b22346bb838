// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// overlap is how long requests that began under an old configuration may queue for
// its targets.
const overlap = time.Minute

// adopter brings to the first target of a client what is in queues that nobody
// serves: in the flat queue, where the release before keeps events, and which nodes
// of that release may still use; and in the queues of targets that are no longer
// configured. Dead letters are moved likewise.
//
// From a target that is not configured it takes only what came before the
// configuration did: what comes later was queued by another node, which may have a
// newer configuration with a target that this node does not know yet.
type adopter struct {
	courier *Courier
	client  vault.Queue // the client's flat queue
	stop    context.CancelFunc
	wake    chan struct{}           // capacity 1
	skip    map[vault.EventKey]bool // what does not open; only run uses it

	// Guarded by the courier's mu.
	first   vault.Queue
	targets map[vault.Queue]*Target
	since   time.Time // when the targets came into force
}

// adopt begins and ends adopters, one for each client of targets. The caller holds
// mu.
func (c *Courier) adopt(targets map[vault.Queue]*Target) {
	first := make(map[vault.Queue]*Target) // by the flat queues
	for name, target := range targets {
		flat := vault.Queue{Component: name.Component, Client: name.Client}
		if other := first[flat]; other == nil || target.before(other) {
			first[flat] = target
		}
	}
	for flat, a := range c.adopted {
		if first[flat] == nil {
			a.stop()
			delete(c.adopted, flat)
		}
	}
	for flat, target := range first {
		a := c.adopted[flat]
		if a == nil {
			ctx, stop := context.WithCancel(c.life)
			a = &adopter{courier: c, client: flat, stop: stop, wake: make(chan struct{}, 1), skip: make(map[vault.EventKey]bool)}
			c.adopted[flat] = a
			c.work.Go(func() { a.run(ctx) })
		}
		a.first, a.targets, a.since = target.Queue(), targets, time.Now()
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// run looks for such items every pollInterval until ctx ends.
func (a *adopter) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := a.once(ctx); err != nil && ctx.Err() == nil {
			logFor(a.courier.settings().Log, a.client).Warn("moving events to another queue failed, it is tried again", zap.Error(err))
		}
		timer := time.NewTimer(pollInterval)
		select {
		case <-timer.C:
		case <-a.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (a *adopter) once(ctx context.Context) error {
	for _, dead := range []bool{false, true} {
		limited, cancel := context.WithTimeout(ctx, storageTimeout)
		names, err := a.courier.settings().Vault.QueuesOf(limited, a.client.Component, a.client.Client, dead)
		cancel()
		for _, name := range names {
			err = errors.Join(err, a.empty(ctx, name, dead))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// empty moves what may be moved from one queue.
func (a *adopter) empty(ctx context.Context, from vault.Queue, dead bool) error {
	a.courier.mu.Lock()
	to, served, before := a.first, a.targets[from] != nil, a.since.Add(overlap).UnixMicro()
	a.courier.mu.Unlock()
	if served {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	keys, err := a.courier.settings().Vault.Events(limited, from, dead)
	var unlock func() error
	var began time.Time // when it was locked
	for _, key := range keys {
		if a.skip[key] || from.Target != "" && key.Arrived >= before {
			continue
		}
		if unlock == nil {
			if unlock, err = a.courier.settings().Vault.LockQueue(ctx, from); err != nil {
				return err
			}
			defer unlock() // if that fails, the lock expires by itself
			began = time.Now()
		}
		if time.Since(began) > passTime { // an older node may wait for the lock; the rest is moved the next time
			return nil
		}
		if err := a.move(ctx, key, to); err != nil {
			return err
		}
	}
	return err
}

// move moves one item. The caller holds the lock of the queue that it is in.
func (a *adopter) move(ctx context.Context, from vault.EventKey, to vault.Queue) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	v := a.courier.settings().Vault
	key := vault.EventKey{Queue: to, Arrived: from.Arrived, AppID: from.AppID, ID: from.ID, Dead: from.Dead}
	if from.Target == "" {
		e, err := v.LoadEvent(ctx, from)
		if err != nil {
			return a.unmoved(ctx, from, err)
		}
		key.Arrived = e.Queued.UnixMicro()
	}
	e, err := v.MoveEvent(ctx, from, key, nil)
	if err != nil {
		return a.unmoved(ctx, from, err)
	}
	if q := a.courier.queue(to); q != nil {
		q.adopted(e)
	}
	return nil
}

// unmoved decides what to do with an item that could not be moved.
func (a *adopter) unmoved(ctx context.Context, key vault.EventKey, err error) error {
	var unreadable *vault.Unreadable
	switch {
	case errors.Is(err, vault.ErrNotFound): // an older node has delivered it
		return nil
	case !errors.As(err, &unreadable):
		return err
	case key.Dead: // it stays, and is listed
		a.skip[key] = true
		return nil
	}
	logFor(a.courier.settings().Log, a.client).Error("event does not open, set aside", zap.Error(err))
	return a.courier.settings().Vault.SetEventAside(ctx, key)
}

// adopted brings an item that was moved into this queue.
func (q *queue) adopted(e vault.Event) {
	if e.Dead {
		q.dead.Add(1)
		return
	}
	q.index.put(e.EventKey, e.Due)
	q.poke()
}
