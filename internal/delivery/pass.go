// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// passTime is how long a pass begins new attempts. Then another node gets the
	// lock, if one waits for it.
	passTime = time.Minute
	// The delay after the first failed attempt is between 1 s and 1.7 s. It is
	// doubled after each further one, up to between 6 and 10 min: backoff.Jitter
	// adds or takes a quarter.
	minDelay = 4 * time.Second / 3
	maxDelay = 8 * time.Minute
	// maxHoldOff is the longest time for which an application can ask to be left
	// alone with an item.
	maxHoldOff = time.Hour
)

// pass tries all items that are due, those of different accounts at the same time,
// as many as the target's health allows. It ends when nothing is due any more, or
// after passTime, and always waits for the attempts that it has begun. The caller
// holds the queue's lock. The results are those of once. The error is that of the
// storage, after which no further attempt is begun.
func (q *queue) pass(ctx context.Context) (wait time.Duration, rest bool, err error) {
	end := time.Now().Add(passTime)
	running, ended := 0, make(chan error)
	for {
		err = errors.Join(err, q.removeRepeats(ctx))
		for err == nil && ctx.Err() == nil && q.wanted.Load() == 0 && time.Now().Before(end) && running < q.limit() {
			e := q.next(ctx)
			if e == nil {
				break
			}
			running++
			go func() { ended <- q.attempt(e) }()
		}
		if running == 0 {
			break
		}
		select {
		case failure := <-ended:
			running--
			err = errors.Join(err, failure)
		case <-q.wake: // something may be due
		case <-q.due(running): // something is
		}
	}
	if err == nil && (q.wanted.Load() > 0 || !time.Now().Before(end)) {
		return restAfterPass, true, nil
	}
	return 0, false, err
}

// due returns a channel that gets an element when another item is due, nil if none
// will be, or if none may be tried beside those that are running.
func (q *queue) due(running int) <-chan time.Time {
	if running >= q.limit() {
		return nil
	}
	wait, any := q.index.wait(time.Now())
	if !any || wait == 0 {
		return nil // the pass begins nothing any more, or it would have begun it
	}
	return time.After(wait)
}

// limit returns how many attempts may run now.
func (q *queue) limit() int {
	target := q.target()
	if target == nil {
		return 0
	}
	n, _ := q.health.limit(target, time.Now())
	return n
}

// attempt makes one attempt to deliver an item that next has returned, and stores
// the result. The caller holds the queue's lock. The attempt ends with the life of
// the courier and not with that of the queue, so a reload does not interrupt it. It
// takes at most the target's timeout and twice storageTimeout.
//
// If the result cannot be stored, the item is delivered again after pollInterval,
// also if the target has taken it. The error is that of the storage before the
// attempt.
func (q *queue) attempt(e *entry) error {
	event, err := q.load(e)
	if err != nil || event == nil {
		return err
	}
	target := q.target()
	if target == nil { // a reload has just removed it
		q.index.finish(e, false, time.Now().Add(pollInterval))
		return nil
	}
	ctx, cancel := context.WithTimeout(q.courier.life, target.timeout())
	result := q.courier.send(ctx, target, itemOf(*event))
	cancel()
	if result.Err != nil && q.courier.life.Err() != nil { // interrupted by Close; this is no failure of the target
		q.index.finish(e, false, time.Now())
		return nil
	}
	ctx, cancel = context.WithTimeout(q.courier.life, storageTimeout)
	defer cancel()
	done, due, err := q.settle(ctx, *event, target, result)
	if err == nil && !done && q.index.isWithdrawn(e) { // meanwhile a direct attempt was taken
		err = q.settings().Vault.RemoveEvent(ctx, event.EventKey)
	}
	if err != nil {
		done, due = false, time.Now().Add(pollInterval)
		q.log().Error("noting the delivery of an event failed, it may be delivered again",
			zap.String("event_id", event.ID), zap.Error(err))
	}
	q.index.finish(e, done, due)
	note(q.health, q, target, result, e, q.settings().Log)
	return nil
}

// load reads an item under the queue's lock. It returns nil, and has ended what
// next has begun, if there is nothing to try: another node has delivered the item,
// or has stored a later time for it, or it does not open and is set aside.
func (q *queue) load(e *entry) (*vault.Event, error) {
	ctx, cancel := context.WithTimeout(q.courier.life, storageTimeout)
	defer cancel()
	key := q.index.key(e)
	event, err := q.settings().Vault.LoadEvent(ctx, key)
	var unreadable *vault.Unreadable
	switch {
	case errors.Is(err, vault.ErrNotFound):
		q.index.finish(e, true, time.Time{})
		return nil, nil
	case errors.As(err, &unreadable):
		if err = q.setAside(ctx, key, err); err == nil {
			q.index.finish(e, true, time.Time{})
			return nil, nil
		}
	}
	if err != nil {
		q.index.finish(e, false, time.Now())
		return nil, err
	}
	if due := q.storedDue(e, event); time.Now().Before(due) {
		q.index.finish(e, false, due)
		return nil, nil
	}
	return &event, nil
}

// setAside removes an item that does not open from the queue, so that the later ones
// of its account do not wait for ever. The caller holds the queue's lock.
func (q *queue) setAside(ctx context.Context, key vault.EventKey, why error) error {
	q.log().Error("event does not open, set aside", zap.Error(why))
	return q.settings().Vault.SetEventAside(ctx, key)
}

// storedDue returns the time before which an item must not be tried, by what is
// stored.
func (q *queue) storedDue(e *entry, event vault.Event) time.Time {
	forced, woken := q.index.wishes(e)
	switch {
	case forced:
		return time.Time{}
	case woken || event.NotBefore.After(event.Due):
		return event.NotBefore
	}
	return event.Due
}

// settle stores the result of an attempt: it deletes a delivered item, stores a
// later time for a failed one, or makes it a dead letter if it has been tried for
// long enough. It reports whether the item has left the queue, or when it is due
// again. The text of the failure is stored with the item and logged.
func (q *queue) settle(ctx context.Context, event vault.Event, target *Target, r Result) (done bool, due time.Time, err error) {
	v := q.settings().Vault
	names := []zap.Field{zap.String("event_id", event.ID), zap.String("info_type", event.InfoType), zap.String("appid", event.AppID)}
	log := q.log().With(names...)
	if r.Err == nil {
		log.Info("event delivered", zap.Int("failed_attempts", event.Attempts))
		if r.Unusable != nil && kindOf(event) != KindMessage {
			q.log().Warn(notAcknowledged, append(names, zap.Error(r.Unusable))...) // not by log: see logging.Throttle, all events would differ
		}
		metrics.Delivered(event.Client, event.Target, string(kindOf(event)), metrics.Taken)
		return true, due, v.RemoveEvent(ctx, event.EventKey)
	}
	now := time.Now()
	event.Attempts++
	event.Failure = r.Err.Error()
	log = log.With(zap.Int("failed_attempts", event.Attempts), zap.Error(r.Err))
	if now.Sub(event.Queued) >= target.retryFor() {
		log.Error("event given up, kept as a dead letter", zap.Time("queued", event.Queued))
		return true, due, q.bury(ctx, event)
	}
	event.Due = now.Add(backoff.Jitter(backoff.Delay(event.Attempts, minDelay, maxDelay)))
	if r.RetryAfter > 0 {
		event.NotBefore = now.Add(min(r.RetryAfter, maxHoldOff))
	}
	if event.NotBefore.After(event.Due) {
		event.Due = event.NotBefore
	}
	log.Warn("event not delivered, will be tried again", zap.Time("due", event.Due))
	return false, event.Due, v.StoreEvent(ctx, event)
}

// note brings the result of an attempt into the health of a target: of a direct
// one if e is nil. q is nil if the queue is not served here.
func note(h *health, q *queue, target *Target, r Result, e *entry, log *zap.Logger) {
	if r.Err == nil {
		recovered := h.success()
		if q != nil && len(recovered) > 0 {
			q.index.change(recovered, func(e *entry) { e.due, e.woken = 0, true })
			q.poke()
		}
		return
	}
	var id itemID
	doubtful := false
	if e != nil {
		id = e.id
		doubtful = q.index.failedAgain(e)
	}
	if h.failure(target, r, id, doubtful) {
		logFor(log, target.Queue()).Error("the application has answered 410 Gone, it gets nothing more, what comes waits",
			zap.String("remedy", "when it takes deliveries again, replay what waits or send it a test, or give the target another URL"))
	}
}
