// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// pollInterval is how often a waiter for the storage lock looks whether somebody
// else has done the work meanwhile; storage locks poll only every second.
const pollInterval = 50 * time.Millisecond

// maxTelling is of how many accounts applications are told at a time: a list may bring
// hundreds that were not known, and storage must not be flooded.
const maxTelling = 16

// records reads and changes what is stored of components and authorizers, under
// the storage's locks. It knows what storage has not taken yet.
type records struct {
	*base
	unsaved  unsaved
	bringing sync.Map      // condition → whose news are being told here, see bringNews
	telling  chan struct{} // holds an element per account of which it is being told
}

func newRecords(b *base) *records { return &records{base: b, telling: make(chan struct{}, maxTelling)} }

// load returns the record of who: one that could not be saved yet, or the
// vault's. It waits for storage, no longer than ctx.
func (r *records) load(ctx context.Context, who subject.Subject) (vault.Record, error) {
	if record, ok := r.unsaved.get(who); ok {
		return record, nil
	}
	return r.settings().Vault.Load(ctx, who)
}

// loadForUpdate is load for who holds the lock and goes on to store: a record
// that is not there or does not open counts as empty.
func (r *records) loadForUpdate(ctx context.Context, who subject.Subject) (vault.Record, error) {
	record, err := r.load(ctx, who)
	r.reportUnreadable(who, err)
	if recoverable(err) {
		return record, nil
	}
	return record, err
}

// recoverable reports whether a record that could not be loaded may be rebuilt
// from WeChat: it is not there, or it does not open. Storage that is merely
// unavailable is neither.
func recoverable(err error) bool {
	var unreadable *vault.Unreadable
	return errors.Is(err, vault.ErrNotFound) || errors.As(err, &unreadable)
}

// reportUnreadable counts, and says once an hour, that what is stored of who does
// not open, if that is what err says.
func (r *records) reportUnreadable(who subject.Subject, err error) {
	var unreadable *vault.Unreadable
	if !errors.As(err, &unreadable) {
		return
	}
	metrics.StorageFailures.WithLabelValues("open").Inc()
	if !r.health.UnreadableIsDue(who, time.Now()) {
		return
	}
	remedy := zap.Skip()
	switch {
	case errors.Is(err, vault.ErrOtherKey):
		remedy = zap.String("remedy", "if the seal key or app secret was changed, configure the previous one as well")
	case errors.Is(err, vault.ErrNewer):
		remedy = zap.String("remedy", "run the newer release on every node")
	}
	r.log(who).Error("stored record does not open; it is kept aside and rebuilt from WeChat", zap.Error(err), remedy)
}

// locked calls do with the record of who while it holds the storage lock. A record
// that is not there or does not open is empty. The error is that of storage, or of
// do.
func (r *records) locked(ctx context.Context, who subject.Subject, do func(record vault.Record) error) error {
	unlock, err := r.lock(ctx, who)
	if err != nil {
		return err
	}
	defer unlock()
	record, err := r.loadForUpdate(ctx, who)
	if err != nil {
		return err
	}
	return do(record)
}

// update changes the record of who under its lock and stores it. The record is not
// changed if it returns an error, which may be that of change.
func (r *records) update(ctx context.Context, who subject.Subject, change func(*vault.Record) error) error {
	return r.locked(ctx, who, func(record vault.Record) error {
		if err := change(&record); err != nil {
			return err
		}
		_, err := r.store(ctx, who, record)
		return err
	})
}

// store stores a record and returns what then stands. The caller holds the lock.
func (r *records) store(ctx context.Context, who subject.Subject, record vault.Record) (vault.Record, error) {
	stands, err := r.settings().Vault.Store(ctx, who, record)
	if err == nil {
		r.unsaved.remove(who, record)
	}
	return stands, err
}

// lock takes the storage lock of who.
func (r *records) lock(ctx context.Context, who subject.Subject) (unlock func(), err error) {
	return r.lockUnless(ctx, who, func() bool { return false })
}

// lockUnless takes the storage lock of who, unless done reports meanwhile that
// another holder has done the work; then both results are nil. The lock is raced
// against the record because storage looks for a free lock only once a second,
// while a look at the record costs little. It waits no longer than ctx.
//
// A lock that comes too late is released in the background. Callers have begun
// work, so that the end of the lifetime waits for that as well; flush, which runs
// after that end, leaves it to the storage.
func (r *records) lockUnless(ctx context.Context, who subject.Subject, done func() bool) (unlock func(), err error) {
	type lock struct {
		release func() error
		err     error
	}
	ctx, cancel := context.WithCancel(ctx)
	taken := make(chan lock, 1)
	log := r.log(who)
	release := func(l lock) {
		cancel()
		if l.err != nil {
			return
		}
		if err := l.release(); err != nil {
			log.Warn("releasing storage lock failed", zap.Error(err))
		}
	}
	go func() {
		unlock, err := r.settings().Vault.Lock(ctx, who)
		taken <- lock{unlock, err}
	}()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		select {
		case l := <-taken:
			if l.err != nil {
				cancel()
				return nil, l.err
			}
			return func() { release(l) }, nil
		case <-poll.C:
			if len(taken) > 0 {
				continue // a look at slow storage would leave the lock idle
			}
			if done() {
				cancel()
				r.work.Go(func() { release(<-taken) })
				return nil, nil
			}
		case <-ctx.Done(): // not every storage looks at the context while it waits
			r.work.Go(func() { release(<-taken) })
			return nil, fmt.Errorf("waiting for the storage lock: %w: %w", vault.ErrUnavailable, context.Cause(ctx))
		}
	}
}
