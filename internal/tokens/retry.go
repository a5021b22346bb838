// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// saveTimeout bounds the storing of what WeChat has handed out, which goes on when
// callers leave and when the gateway ends.
const saveTimeout = 15 * time.Second

// save stores the record before anybody is handed its token. If that fails, it
// raises the alarm, the record is served from memory, and storing goes on being
// tried. It returns what now stands, and why it is not stored yet. It does not end
// with ctx. The caller holds the lock.
func (r *records) save(ctx context.Context, who subject.Subject, record vault.Record) (vault.Record, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	stands, err := r.store(ctx, who, record)
	if err == nil {
		return stands, nil
	}
	r.log(who).Error("storing token failed; it is served from memory and storing is tried again", zap.Error(err))
	if r.unsaved.put(who, record) {
		r.background(func() { r.retry(who) })
	}
	return record, err
}

// saveIssued changes the record of who for tokens that WeChat has just handed out
// and that exist nowhere else, and saves it even where it cannot be locked or
// read. It returns what now stands.
func (r *records) saveIssued(ctx context.Context, who subject.Subject, change func(*vault.Record)) vault.Record {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	unlock, err := r.lock(ctx, who)
	if err == nil {
		defer unlock()
	}
	record, _ := r.loadForUpdate(ctx, who)
	change(&record)
	stands, _ := r.save(ctx, who, record)
	return stands
}

// retry tries to store an unsaved record, with growing delays, until that
// succeeds or the lifetime ends. It runs in the background; a second one for the
// same subject does no harm, because each attempt takes the lock.
func (r *records) retry(who subject.Subject) {
	for attempt := 1; backoff.Wait(r.ctx, backoff.Jitter(backoff.Delay(attempt, time.Second, 30*time.Second))); attempt++ {
		ctx, cancel := context.WithTimeout(r.ctx, renewTimeout)
		saved := r.retryOnce(ctx, who)
		cancel()
		if saved {
			return
		}
	}
}

// flush tries once to store what is not saved yet, and waits for saveTimeout at
// most: the refresh tokens in these records exist nowhere else. It is called
// before the storage is closed, and when all other work has ended.
func (r *records) flush() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), saveTimeout)
	defer cancel()
	for _, who := range r.unsaved.all() {
		r.retryOnce(ctx, who)
	}
}

// retryOnce reports whether nothing of who is left to save.
func (r *records) retryOnce(ctx context.Context, who subject.Subject) bool {
	unlock, err := r.lock(ctx, who)
	if err != nil {
		return false
	}
	defer unlock()
	record, ok := r.unsaved.get(who)
	if !ok {
		return true
	}
	v := r.settings().Vault
	stands, err := v.Load(ctx, who)
	if err != nil && !recoverable(err) {
		return false
	}
	// A record that was made while storage could not be read knows nothing of a
	// tombstone there. If its tokens are newer, the account is authorized again.
	if record.State == vault.Authorized && stands.State == vault.Unauthorized && record.Obtained.After(stands.EventTime) {
		record.Generation = max(record.Generation, stands.Generation)
	}
	if _, err := v.Store(ctx, who, record); err != nil {
		return false
	}
	r.log(who).Info("storage is back, token stored")
	return r.unsaved.remove(who, record)
}
