// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// keepDeadFor is how long a dead letter is kept: messages of followers must not
	// stay for ever.
	keepDeadFor = 30 * 24 * time.Hour
	// deadFactor bounds the number of dead letters, in queues.
	deadFactor = 10
	// deadInterval is the time between two listings of the dead letters.
	deadInterval = 10 * time.Minute
	// oldestKept is how many of the oldest dead letters are remembered from a
	// listing, so that not every new one costs a listing when there are too many.
	oldestKept = 1000
)

// bury makes an item a dead letter. The caller holds the queue's lock.
func (q *queue) bury(ctx context.Context, e vault.Event) error {
	e.Died = time.Now()
	if err := q.settings().Vault.BuryEvent(ctx, e); err != nil {
		return err
	}
	q.dead.Add(1)
	metrics.Delivered(e.Client, e.Target, string(kindOf(e)), metrics.Dead)
	return nil
}

// died counts a dead letter that was stored as one, and says why.
func (q *queue) died(e vault.Event, why string, fields ...zap.Field) {
	q.dead.Add(1)
	metrics.Delivered(e.Client, e.Target, string(kindOf(e)), metrics.Dead)
	q.log().Error(why, append(fields, zap.String("event_id", e.ID), zap.String("appid", e.AppID),
		zap.String("remedy", "see that the application takes deliveries again, then replay the dead letters"))...)
}

// buryExpired makes dead letters of the items that are too old, while the target is
// down or paused, so that nothing is tried. At other times an item is tried before
// it is given up, see settle. It takes the queue's lock if there is one.
func (q *queue) buryExpired(ctx context.Context, target *Target) error {
	if !q.health.stuck(target) {
		return nil
	}
	expired := q.index.before(time.Now().Add(-target.retryFor()))
	known := q.young
	q.young = make(map[itemID]time.Time) // without those that have left the queue
	expired = slices.DeleteFunc(expired, func(e *entry) bool {
		end := known[e.id]
		if time.Now().Before(end) {
			q.young[e.id] = end
		}
		return time.Now().Before(end)
	})
	if len(expired) == 0 {
		return nil
	}
	unlock, err := q.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock() // if that fails, the lock expires by itself
	for _, e := range expired {
		if ctx.Err() != nil || q.wanted.Load() > 0 {
			return nil
		}
		if err := q.buryIfExpired(ctx, e, target); err != nil {
			return err
		}
	}
	return nil
}

// buryIfExpired reads an item and buries it if it is too old.
func (q *queue) buryIfExpired(ctx context.Context, e *entry, target *Target) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	event, err := q.settings().Vault.LoadEvent(ctx, q.index.key(e))
	var unreadable *vault.Unreadable
	switch {
	case errors.As(err, &unreadable):
		if err := q.setAside(ctx, q.index.key(e), err); err != nil {
			return err
		}
		q.index.drop(e.id)
		return nil
	case errors.Is(err, vault.ErrNotFound):
		q.index.drop(e.id)
		return nil
	case err != nil:
		return err
	}
	if end := event.Queued.Add(target.retryFor()); time.Now().Before(end) {
		q.young[e.id] = end
		return nil
	}
	if event.Failure == "" {
		event.Failure = "the target was down or paused all the time"
	}
	if err := q.bury(ctx, event); err != nil {
		return err
	}
	q.log().Error("event given up, kept as a dead letter", zap.String("event_id", event.ID), zap.String("info_type", event.InfoType),
		zap.String("appid", event.AppID), zap.Int("failed_attempts", event.Attempts), zap.Time("queued", event.Queued))
	q.index.drop(e.id)
	return nil
}

// keepDead counts the dead letters from time to time, and deletes those that are
// too many or too old. For that it takes the queue's lock.
func (q *queue) keepDead(ctx context.Context, target *Target) error {
	most := deadFactor * target.maxWaiting()
	began := time.Now()
	if began.Before(q.deadAt) && int(q.dead.Load()) <= most {
		return nil
	}
	var old []vault.EventKey
	if !began.Before(q.deadAt) || len(q.oldest) == 0 {
		q.deadAt = began.Add(pollInterval) // if the listing fails
		before := q.dead.Load()
		keys, err := q.listing(ctx, true)
		if err != nil {
			return err
		}
		interval := deadInterval
		if q.dead.Swap(int64(len(keys))) != before { // some came meanwhile: nobody knows whether they were listed
			interval = pollInterval
		}
		q.deadAt = began.Add(max(interval, listingShare*time.Since(began)))
		limit := began.Add(-keepDeadFor).UnixMicro()
		n, _ := slices.BinarySearchFunc(keys, limit, func(k vault.EventKey, limit int64) int { return cmp.Compare(k.Arrived, limit) })
		old = q.longDead(keys[:n])
		q.oldest = slices.Clone(keys[:min(len(keys), max(oldestKept, len(keys)-most))])
	}
	if len(old) == 0 && int(q.dead.Load()) <= most {
		return nil
	}
	unlock, err := q.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock() // if that fails, the lock expires by itself
	return q.trimDead(ctx, old, most)
}

// longDead returns the keys of those dead letters that may have been dead for long
// enough: not of those that were read before, and found to be more recent.
func (q *queue) longDead(keys []vault.EventKey) (old []vault.EventKey) {
	known := q.recent
	q.recent = make(map[itemID]time.Time) // without those that are gone
	for _, key := range keys {
		if end := known[idOf(key.ID)]; time.Now().Before(end) {
			q.recent[idOf(key.ID)] = end
		} else {
			old = append(old, key)
		}
	}
	return old
}

// trimDead deletes the dead letters among old that have been dead for long enough,
// and then the oldest of all until there are no more than most. The caller holds
// the queue's lock.
func (q *queue) trimDead(ctx context.Context, old []vault.EventKey, most int) error {
	for _, key := range old {
		if err := q.drop(ctx, key, "it was dead for 30 days", true); err != nil {
			return err
		}
	}
	q.oldest = slices.DeleteFunc(q.oldest, func(key vault.EventKey) bool {
		_, recent := q.recent[idOf(key.ID)]
		return slices.Contains(old, key) && !recent
	})
	for len(q.oldest) > 0 && int(q.dead.Load()) > most {
		if err := q.drop(ctx, q.oldest[0], "there are too many dead letters", false); err != nil {
			return err
		}
		q.oldest = q.oldest[1:]
	}
	return nil
}

// drop deletes a dead letter; if onlyOld, only one that has died long ago.
func (q *queue) drop(ctx context.Context, key vault.EventKey, why string, onlyOld bool) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	v := q.settings().Vault
	e, err := v.LoadEvent(ctx, key) // for its kind, and when it died
	var unreadable *vault.Unreadable
	switch {
	case errors.Is(err, vault.ErrNotFound): // an operator was faster, on another node
		q.dead.Add(-1)
		return nil
	case errors.As(err, &unreadable):
		e.EventKey = key
	case err != nil:
		return err
	}
	if end := e.Died.Add(keepDeadFor); onlyOld && time.Now().Before(end) {
		q.recent[idOf(key.ID)] = end
		return nil
	}
	if err := v.RemoveEvent(ctx, key); err != nil {
		return err
	}
	q.dead.Add(-1)
	metrics.Delivered(key.Client, key.Target, string(kindOf(e)), metrics.Dropped)
	q.log().With(zap.String("reason", why)).Warn("dead letter deleted", zap.String("event_id", key.ID), zap.String("appid", key.AppID))
	return nil
}
