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

// round goes through one queue again and again. It belongs to one goroutine.
type round struct {
	courier *Courier
	queue   vault.Queue
	stop    context.CancelFunc
	wake    chan struct{}

	// due is when the next attempt may be made, zero where that is not known.
	// Another node may have put it off since, so it is read again before.
	due map[vault.EventKey]time.Time
}

// run goes on until ctx ends.
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

// once delivers what is due and returns when to look again. The storage lock
// is taken only if something is due.
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
	defer unlock()                // a lock that cannot be released expires
	held := make(map[string]bool) // accounts with an earlier event that is still there
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

// idle returns how long no event of the queue is due. Of each account only the
// first counts.
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

// list returns the queue, and forgets what is no longer in it.
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

// load returns an event, nil if another node has delivered it meanwhile. One that does not open is taken
// out of the way, because others would wait behind it for ever.
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

// deliver makes one attempt, writes down what came of it, and reports success.
func (r *round) deliver(e vault.Event) bool {
	c := r.courier
	target := c.settings().Targets[r.queue]
	if target == nil { // the client has lost its URL just now
		r.due[e.EventKey] = time.Now().Add(pollInterval)
		return false
	}
	attempt, cancel := context.WithTimeout(c.life, attemptTimeout)
	failure := target.postEvent(attempt, c.transport, e)
	cancel()
	if failure != nil && c.life.Err() != nil { // cut off, which is no fault of the client
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

// settle removes a delivered event, puts off a failed one, or buries it.
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

func (r *round) log() *zap.Logger {
	return r.courier.settings().Log.With(zap.String("component", r.queue.Component), zap.String("client", r.queue.Client))
}
