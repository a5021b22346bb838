// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// State says where an item is.
type State string

const (
	StateWaiting State = "waiting" // in a queue
	StateDead    State = "dead"    // a dead letter
)

// Selection says which items an operator means: those to which all of the fields
// apply that are set.
type Selection struct {
	Client, Target string
	EventID        string
	Since          time.Time // those that arrived then or later
	State          State     // "": in both states; this alone names nothing
	All            bool      // needed if nothing else is set
}

// empty reports whether nothing is named.
func (s Selection) empty() bool {
	return s.Client == "" && s.Target == "" && s.EventID == "" && s.Since.IsZero() && !s.All
}

// names reports whether items of a queue can be meant.
func (s Selection) names(name vault.Queue) bool {
	return (s.Client == "" || s.Client == name.Client) && (s.Target == "" || s.Target == name.Target)
}

// means reports whether an item of a queue that is named is meant.
func (s Selection) means(key vault.EventKey) bool {
	return (s.EventID == "" || s.EventID == key.ID) && (s.Since.IsZero() || !key.Time().Before(s.Since))
}

// Replay moves dead letters back into their queues, with no attempts made and a
// whole new time until they are given up, and makes what waits due at once. On this
// node a pause of the targets that are named ends. Of dead letters at most as many
// are moved as may wait in the queue, the oldest first. Those of a target that is
// gone go to the first target of the client; what else no target of this
// configuration can get stays. It returns how many items these are. It waits for the
// locks of the queues, which another node may have for a minute or two; ctx ends
// that. After an error some may have been replayed.
func (c *Courier) Replay(ctx context.Context, s Selection) (int, error) {
	if !s.empty() {
		c.resume(s)
	}
	return c.operate(ctx, s, "replay", func(name vault.Queue, keys []vault.EventKey) (int, error) {
		waiting := len(keys) > 0 && !keys[0].Dead
		q := c.queue(name)
		if q == nil && !waiting {
			q = c.successor(name)
		}
		if q == nil {
			return 0, nil
		}
		defer q.poke()
		if waiting {
			return q.hasten(keys), nil
		}
		return q.revive(ctx, keys)
	})
}

// Discard deletes items, waiting ones and dead letters, in whatever state they are.
// It returns how many. It waits for the locks as Replay does.
func (c *Courier) Discard(ctx context.Context, s Selection) (int, error) {
	return c.operate(ctx, s, "discard", func(name vault.Queue, keys []vault.EventKey) (n int, err error) {
		q := c.queue(name)
		for _, key := range keys {
			if err := c.settings().Vault.RemoveEvent(ctx, key); err != nil {
				return n, err
			}
			n++
			switch {
			case q == nil:
			case key.Dead:
				q.dead.Add(-1)
			default:
				q.index.drop(idOf(key.ID))
			}
		}
		return n, nil
	})
}

// operate calls do, under the lock of each queue, with the keys that are meant in it,
// once for each state, and returns the sum of the results.
func (c *Courier) operate(ctx context.Context, s Selection, action string, do func(vault.Queue, []vault.EventKey) (int, error)) (sum int, err error) {
	if s.empty() {
		return 0, ErrNothingNamed
	}
	defer func() {
		c.settings().Log.Info("operator acts on queues", zap.String("action", action), zap.String("client", s.Client),
			zap.String("target", s.Target), zap.String("event_id", s.EventID), zap.Int("count", sum), zap.Error(err))
	}()
	v := c.settings().Vault
	for _, state := range []State{StateWaiting, StateDead} { // in this order, so that what is replayed is counted once
		if s.State != "" && s.State != state {
			continue
		}
		names, err := v.Queues(ctx, state == StateDead)
		if err != nil {
			return sum, err
		}
		for _, name := range names {
			if !s.names(name) {
				continue
			}
			n, err := c.locked(ctx, name, func() (int, error) {
				keys, err := v.Events(ctx, name, state == StateDead)
				if err != nil {
					return 0, err
				}
				var meant []vault.EventKey
				for _, key := range keys {
					if s.means(key) {
						meant = append(meant, key)
					}
				}
				return do(name, meant)
			})
			if sum += n; err != nil {
				return sum, err
			}
		}
	}
	return sum, nil
}

// resume ends the pauses of the targets that are named, also of those with an empty
// queue.
func (c *Courier) resume(s Selection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, q := range c.queues {
		if s.names(name) {
			q.health.resume()
			q.poke()
		}
	}
}

// locked calls do with the lock of a queue. A pass on this node ends early for it.
// Of ctx only the end counts: with a deadline, the vault would take the lock from a
// node that delivers, see [vault.Vault.LockQueue].
func (c *Courier) locked(ctx context.Context, name vault.Queue, do func() (int, error)) (int, error) {
	if q := c.queue(name); q != nil {
		q.wanted.Add(1)
		q.poke()
		defer q.wanted.Add(-1)
	}
	waiting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	unlock, err := c.settings().Vault.LockQueue(waiting, name)
	if err != nil {
		return 0, errors.Join(ctx.Err(), err)
	}
	defer unlock() // if that fails, the lock expires by itself
	return do()
}

// successor returns the queue that takes over what is in one that is not served,
// nil if the client has no target.
func (c *Courier) successor(name vault.Queue) *queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.adopted[vault.Queue{Component: name.Component, Client: name.Client}]
	if a == nil {
		return nil
	}
	return c.queues[a.first]
}

// hasten makes waiting items of this queue due, whatever is stored.
func (q *queue) hasten(keys []vault.EventKey) int {
	ids := make([]itemID, len(keys))
	for i, key := range keys {
		ids[i] = idOf(key.ID)
		q.index.put(key, time.Time{})
	}
	q.index.change(ids, func(e *entry) { e.due, e.forced = 0, true })
	return len(keys)
}

// revive moves dead letters into this queue.
func (q *queue) revive(ctx context.Context, keys []vault.EventKey) (n int, err error) {
	target := q.target()
	if target == nil {
		return 0, nil
	}
	for i, from := range keys {
		if q.index.waiting() >= target.maxWaiting() {
			q.log().Warn("the queue is full, not all dead letters are replayed", zap.Int("queue", target.maxWaiting()), zap.Int("replayed", n),
				zap.Int("left", len(keys)-i), zap.String("remedy", "replay again when what waits has been delivered, or let more wait (queue)"))
			return n, nil
		}
		to := vault.EventKey{Queue: q.name, Arrived: from.Time().UnixMicro(), AppID: from.AppID, ID: from.ID}
		e, err := q.settings().Vault.MoveEvent(ctx, from, to, func(e *vault.Event) {
			e.Attempts, e.Failure, e.Died, e.NotBefore = 0, "", time.Time{}, time.Time{}
			e.Queued = time.Now()
			e.Due = e.Queued
		})
		var unreadable *vault.Unreadable
		switch {
		case errors.Is(err, vault.ErrNotFound) || errors.As(err, &unreadable):
			continue
		case err != nil:
			return n, err
		}
		n++
		if from.Queue == q.name {
			q.dead.Add(-1)
		}
		q.index.put(to, e.Due)
	}
	return n, nil
}
