// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// round delivers the events of one queue. It has one goroutine, which runs run;
// no other uses due. Every node has a round for the queue; the queue's lock in
// the storage decides which one delivers.
type round struct {
	courier *Courier
	queue   vault.Queue
	stop    context.CancelFunc // ends run
	wake    chan struct{}      // capacity 1; makes run look at the queue now

	// due is the time of the next attempt for each event that this node has
	// seen in the queue, zero if it is not known. Another node may have made an
	// attempt and stored a later time, so the time is read again under the
	// lock.
	due map[vault.EventKey]time.Time
}

// run delivers until ctx ends. It looks at the queue when an event is due, when
// it is woken, and every pollInterval. A delivery in progress when ctx ends is
// finished, see deliver.
func (r *round) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait, err := r.once(ctx)
		if err != nil && ctx.Err() == nil {
			r.log().Warn("looking for events to deliver failed", zap.Error(err))
		}
		timer := time.NewTimer(min(wait, pollInterval))
		select {
		case <-timer.C:
		case <-r.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// once delivers all events that are due, and returns how long to wait until the
// next look at the queue. If an event may be due, it takes the queue's lock,
// and waits for it as long as [vault.Vault.LockQueue] does. If no event is due,
// it only lists the queue: on most nodes at most times this is all that is
// done.
//
// It ends early after an error of the storage, and after downAfter failures in
// a row. The wait is then pollInterval, so that a client that is down does not
// get one request after the other.
func (r *round) once(ctx context.Context) (time.Duration, error) {
	keys, err := r.list(ctx)
	if err != nil {
		return pollInterval, err
	}
	if wait := r.idle(keys); wait > 0 {
		return wait, nil
	}
	unlock, err := r.courier.settings().Vault.LockQueue(ctx, r.queue)
	if err != nil {
		return pollInterval, err
	}
	defer unlock()                // if that fails, the lock expires by itself
	held := make(map[string]bool) // accounts with an earlier event that is not delivered yet
	failures := 0
	for _, key := range keys {
		if ctx.Err() != nil {
			break
		}
		if held[key.AppID] || time.Now().Before(r.due[key]) {
			held[key.AppID] = true
			continue
		}
		event, err := r.load(ctx, key)
		switch {
		case err != nil:
			return pollInterval, err
		case event == nil:
			continue
		case time.Now().Before(event.Due):
			r.due[key], held[key.AppID] = event.Due, true
		case r.deliver(*event):
			failures = 0
		default:
			held[key.AppID] = true
			failures++
		}
		if failures == downAfter {
			return pollInterval, nil
		}
	}
	return 0, nil
}

// idle returns the time until the next event is due, at most pollInterval; zero
// or less if one is due or its time is not known. Only the first event of each
// account counts, because the others wait for it.
func (r *round) idle(keys []vault.EventKey) time.Duration {
	wait := pollInterval
	seen := make(map[string]bool)
	for _, key := range keys {
		if !seen[key.AppID] {
			seen[key.AppID] = true
			wait = min(wait, time.Until(r.due[key]))
		}
	}
	return wait
}

// list returns the keys of the queue, sorted by CreateTime, and removes from
// due the events that are no longer in the queue.
func (r *round) list(ctx context.Context) ([]vault.EventKey, error) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	keys, err := r.courier.settings().Vault.Events(ctx, r.queue, false)
	if err != nil {
		return nil, err
	}
	due := make(map[vault.EventKey]time.Time, len(keys))
	for _, key := range keys {
		due[key] = r.due[key]
	}
	r.due = due
	return keys, nil
}

// load reads an event under the queue's lock. It returns nil if another node
// has delivered the event in the meantime. It also returns nil for an event
// that does not open, after it has removed the event from the queue: otherwise
// the later events of the account would wait for ever.
func (r *round) load(ctx context.Context, key vault.EventKey) (*vault.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	v := r.courier.settings().Vault
	event, err := v.LoadEvent(ctx, key)
	var unreadable *vault.Unreadable
	switch {
	case errors.Is(err, vault.ErrNotFound):
		return nil, nil
	case errors.As(err, &unreadable):
		r.log().Error("event does not open, set aside", zap.Error(err))
		return nil, v.SetEventAside(ctx, key)
	case err != nil:
		return nil, err
	}
	return &event, nil
}

// deliver makes one attempt, stores the result, and reports whether the client
// has accepted the event. The caller holds the queue's lock. The attempt ends
// with the life of the courier and not with that of the round, so a reload does
// not interrupt it. It takes at most attemptTimeout plus storageTimeout.
//
// If the result cannot be stored, the event is delivered again after
// pollInterval, also if the client has accepted it.
func (r *round) deliver(e vault.Event) bool {
	c := r.courier
	target := c.settings().Targets[r.queue]
	if target == nil { // a reload has just removed the client's target
		r.due[e.EventKey] = time.Now().Add(pollInterval)
		return false
	}
	attempt, cancel := context.WithTimeout(c.life, attemptTimeout)
	failure := target.postEvent(attempt, c.transport, e)
	cancel()
	if failure != nil && c.life.Err() != nil { // interrupted by Close; this is no failure of the client
		return false
	}
	ctx, cancel := context.WithTimeout(c.life, storageTimeout)
	defer cancel()
	if err := r.settle(ctx, e, failure); err != nil {
		r.due[e.EventKey] = time.Now().Add(pollInterval)
		r.log().Error("noting the delivery of an event failed, it may be delivered again",
			zap.String("event_id", e.ID), zap.Error(err))
	}
	return failure == nil
}

// settle stores the result of an attempt: it deletes a delivered event, stores
// a later time for a failed one, or makes it a dead letter if it is giveUpAfter
// old. The text of failure is stored with the event and logged.
func (r *round) settle(ctx context.Context, e vault.Event, failure error) error {
	v := r.courier.settings().Vault
	log := r.log().With(zap.String("event_id", e.ID), zap.String("info_type", e.InfoType), zap.String("appid", e.AppID))
	if failure == nil {
		log.Info("event delivered", zap.Int("failed_attempts", e.Attempts))
		return v.RemoveEvent(ctx, e.EventKey)
	}
	e.Attempts++
	e.Failure = failure.Error()
	log = log.With(zap.Int("failed_attempts", e.Attempts), zap.Error(failure))
	if time.Since(e.Queued) >= giveUpAfter {
		log.Error("event given up, kept as a dead letter", zap.Time("queued", e.Queued))
		return v.BuryEvent(ctx, e)
	}
	e.Due = time.Now().Add(backoff.Delay(e.Attempts, minDelay, maxDelay))
	log.Warn("event not delivered, will be tried again", zap.Time("due", e.Due))
	return v.StoreEvent(ctx, e)
}

// log returns the logger of the current configuration, with the names of the
// queue.
func (r *round) log() *zap.Logger {
	return r.courier.settings().Log.With(zap.String("component", r.queue.Component), zap.String("client", r.queue.Client))
}
