// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// claimPollInterval is the time between two looks at the claim of another node.
const claimPollInterval = 250 * time.Millisecond

// claim is what the storage knows of a delivery that takes long.
type claim struct {
	turn turn // of whoever stores it

	mu  sync.Mutex     // guards key
	key vault.ClaimKey // zero: this node has not written a claim
}

// written returns the key of the claim that this node has written, zero if it has not.
func (c *claim) written() vault.ClaimKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.key
}

// writeClaim lets the other nodes know that this one delivers the message. If the
// storage fails, the delivery goes on without a claim.
func (d *Delivery) writeClaim() {
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	if d.claim.turn.take(ctx) != nil {
		return
	}
	defer d.claim.turn.leave()
	select {
	case <-d.ended: // just now
		return
	default:
	}
	key := vault.ClaimKey{Component: d.item.Component, ID: d.item.ID, Made: d.began}
	if !d.storeClaim(ctx, key, vault.Claim{Until: d.began.Add(directTimeout)}) {
		return
	}
	d.claim.mu.Lock()
	d.claim.key = key
	d.claim.mu.Unlock()
	time.AfterFunc(vault.ClaimLife, func() { d.removeClaim(key) })
}

// answerClaim notes the end of the delivery in its claim, if there is one.
func (d *Delivery) answerClaim() {
	d.mu.Lock()
	reply := d.reply
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 2*storageTimeout) // it may be being written
	defer cancel()
	if d.claim.turn.take(ctx) != nil {
		return
	}
	defer d.claim.turn.leave()
	if key := d.claim.written(); key.ID != "" {
		d.storeClaim(ctx, key, vault.Claim{Until: d.began.Add(directTimeout), Answered: time.Now(), Taken: d.takers(), Reply: reply})
	}
}

// storeClaim reports whether the claim is stored. When a target begins to hang, many
// claims are written at once; at most maxWriters use the storage at a time.
func (d *Delivery) storeClaim(ctx context.Context, key vault.ClaimKey, c vault.Claim) bool {
	var err error
	select {
	case d.desk.writers <- struct{}{}:
		err = d.desk.settings().Vault.StoreClaim(ctx, key, c)
		<-d.desk.writers
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		d.desk.log(d.item).Warn("a message may be delivered twice: its delivery could not be noted", zap.Error(err))
	}
	return err == nil
}

// removeClaim deletes a claim that is no longer found. What fails is left to a sweep.
func (d *Delivery) removeClaim(key vault.ClaimKey) {
	ctx, cancel := context.WithTimeout(d.desk.life, storageTimeout)
	defer cancel()
	_ = d.desk.settings().Vault.RemoveClaim(ctx, key)
}

// joinOther looks whether another node, or this one before a restart, has claimed the
// message, and waits until that delivery has ended. It reports whether it has ended:
// then its reply is the one of this delivery too, if it is not too old. Otherwise this
// node delivers the message.
func (d *Delivery) joinOther() bool {
	for first := true; ; first = false {
		key, c, err := d.findClaim()
		if err != nil {
			return false
		}
		if first {
			d.markRepeated(key)
		}
		now := time.Now()
		if !c.Answered.IsZero() {
			d.adopt(c, now)
			return true
		}
		if !now.Before(c.Until) {
			return false // the node that claimed it has ended
		}
		if !backoff.Wait(d.desk.life, min(claimPollInterval, c.Until.Sub(now))) {
			return false
		}
	}
}

// findClaim loads the claim. An error that is not ErrNotFound is logged.
func (d *Delivery) findClaim() (vault.ClaimKey, vault.Claim, error) {
	ctx, cancel := context.WithTimeout(d.desk.life, claimAfter)
	defer cancel()
	key, c, err := d.desk.settings().Vault.FindClaim(ctx, d.item.Component, d.item.ID, time.Now())
	if err != nil && !errors.Is(err, vault.ErrNotFound) {
		d.desk.log(d.item).Warn("a message may be delivered twice: nobody knows whether another node has it", zap.Error(err))
	}
	return key, c, err
}

// adopt ends this delivery with what another one has brought. What this node has
// queued meanwhile, in case the other one ends, is taken out again where the target has
// taken the item. Elsewhere it stays: the other node may rely on it.
func (d *Delivery) adopt(c vault.Claim, now time.Time) {
	for _, p := range d.parts {
		p.taken.Store(true) // or it is in the queue, from there
	}
	left := replyLife - now.Sub(c.Answered)
	if left > 0 {
		d.mu.Lock()
		d.reply = c.Reply
		d.mu.Unlock()
	}
	d.end(max(left, 0))
	for _, p := range d.parts {
		if slices.Contains(c.Taken, p.name()) {
			d.withdraw(p)
		}
	}
}

// takers returns the names of the targets that have taken the item.
func (d *Delivery) takers() (names []string) {
	for _, p := range d.parts {
		if p.taken.Load() {
			names = append(names, p.name())
		}
	}
	return names
}

// markRepeated tells the node that made the claim that WeChat has asked again.
func (d *Delivery) markRepeated(key vault.ClaimKey) {
	ctx, cancel := context.WithTimeout(d.desk.life, storageTimeout)
	defer cancel()
	if err := d.desk.settings().Vault.MarkRepeated(ctx, key); err != nil {
		d.desk.log(d.item).Warn("the repetition of a message could not be noted", zap.Error(err))
	}
}

// RepeatedSince reports whether a copy of the message has come, here or to another
// node, since there were that many here.
func (d *Delivery) RepeatedSince(visits int) bool {
	if d.Visits() > visits {
		return true
	}
	key := d.claim.written()
	if key.ID == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(d.desk.life, storageTimeout)
	defer cancel()
	repeated, err := d.desk.settings().Vault.WasRepeated(ctx, key)
	return repeated || err != nil // nobody knows, so nothing is concluded from it
}
