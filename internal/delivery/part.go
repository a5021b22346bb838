// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
)

// part is the delivery to one target.
type part struct {
	target *Target

	mu     sync.Mutex // guards all below; held while the item is queued, too
	taken  bool       // the target has taken the item
	queued bool       // the item is in the queue of the target
}

// take notes that the target has taken the item, and reports whether it was queued
// before.
func (p *part) take() (queued bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = true
	return p.queued
}

func (p *part) isQueued() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queued
}

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
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken || p.queued {
		return nil
	}
	if err := d.desk.courier.Enqueue(ctx, d.item, []*Target{p.target}, due); err != nil {
		return err
	}
	p.queued = true
	return nil
}

// withdraw takes the item out of the queue again, because the attempt during which it
// was queued has succeeded. If that fails, the application gets the item a second time.
func (d *Delivery) withdraw(p *part) {
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	if err := d.desk.courier.Withdraw(ctx, d.item, p.target); err != nil {
		d.log(p.target).Warn("a message that was taken may be delivered again", zap.Error(err))
	}
}
