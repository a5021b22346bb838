// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
)

// part is the delivery to one target.
type part struct {
	target  *Target
	late    bool                   // see findLate; never changed afterwards
	ended   chan struct{}          // closed when the direct attempt has ended
	taken   atomic.Bool            // the target has taken the item
	queued  atomic.Bool            // the item is in the queue of the target
	failure atomic.Pointer[string] // why the direct attempt has failed; nil: it has not
	turn    turn                   // of whoever changes the queue
}

// name returns the name of the target, with that of its client.
func (p *part) name() string { return p.target.Client + "/" + p.target.Name }

// wait returns when the target has the item, or the direct attempt has ended, or ctx.
func (p *part) wait(ctx context.Context) {
	if p.taken.Load() || p.queued.Load() {
		return
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
	}
}

// turn is a lock that may be held while the storage works: it can be waited for within
// a context.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// take waits for the turn until ctx ends.
func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave ends what take has begun.
func (t turn) leave() { <-t }

// queue stores the item in the queue of a target that has not taken it. If the storage
// fails, it tries again in the background.
func (d *Delivery) queue(p *part, due time.Time) {
	if d.queueOnce(p, due) == nil {
		return
	}
	d.desk.mu.Lock()
	defer d.desk.mu.Unlock()
	d.desk.spawn(func() { d.keepQueueing(p, due) })
}

// keepQueueing tries for keepTrying to store the item. In the end it is lost, which is
// logged: WeChat has had its 503 then, and does not ask again.
func (d *Delivery) keepQueueing(p *part, due time.Time) {
	for end, failures := time.Now().Add(keepTrying), 1; ; failures++ {
		backoff.Wait(d.desk.life, backoff.Delay(failures, minDelay, pollInterval))
		err := d.queueOnce(p, due) // once more if life has ended
		switch {
		case err == nil:
			return
		case time.Now().After(end) || d.desk.life.Err() != nil:
			d.log(p.target).Error("message lost: the application has not taken it, and it cannot be queued", zap.Error(err))
			return
		}
	}
}

// queueOnce is queueUntil within storageTimeout.
func (d *Delivery) queueOnce(p *part, due time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	return d.queueUntil(ctx, p, due)
}

// queueUntil stores the item in the queue of a target, unless the target has taken it
// or it is queued already. It waits for the storage until ctx ends.
func (d *Delivery) queueUntil(ctx context.Context, p *part, due time.Time) error {
	if p.taken.Load() || p.queued.Load() {
		return nil
	}
	if err := p.turn.take(ctx); err != nil {
		return err
	}
	defer p.turn.leave()
	if p.taken.Load() || p.queued.Load() {
		return nil
	}
	failure := ""
	if failed := p.failure.Load(); failed != nil {
		failure = *failed
	}
	if err := d.desk.courier.enqueueFor(ctx, d.item, p.target, due, failure); err != nil {
		return err
	}
	p.queued.Store(true)
	return nil
}

// withdraw takes an item that was taken out of the queue again, if it was queued during
// the attempt. If that fails, the application gets the item a second time.
func (d *Delivery) withdraw(p *part) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*storageTimeout) // it may be being queued
	defer cancel()
	err := p.turn.take(ctx)
	if err == nil {
		defer p.turn.leave()
		if !p.queued.Load() {
			return
		}
		err = d.desk.courier.Withdraw(ctx, d.item, p.target)
	}
	if err != nil {
		d.log(p.target).Warn("a message that was taken may be delivered again", zap.Error(err))
	}
}
