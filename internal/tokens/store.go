// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// load returns the record of who: one that could not be stored yet, or the
// vault's.
func (t *Keeper) load(ctx context.Context, who subject.Subject) (vault.Record, error) {
	if record, ok := t.unstored.get(who); ok {
		return record, nil
	}
	return t.settings().Vault.Load(ctx, who)
}

// loadToChange is load for who holds the lock and goes on to store: a record
// that is not there or does not open counts as empty.
func (t *Keeper) loadToChange(ctx context.Context, who subject.Subject) (vault.Record, error) {
	record, err := t.load(ctx, who)
	t.sayUnreadable(who, err)
	if recoverable(err) {
		return record, nil
	}
	return record, err
}

// loadTicket returns the ticket of a component.
func (t *Keeper) loadTicket(ctx context.Context, component string) (vault.Ticket, error) {
	ticket, err := t.settings().Vault.LoadTicket(ctx, component)
	t.sayUnreadable(subject.Of(component, ""), err)
	return ticket, err
}

// sayUnreadable says once an hour that what is stored of who does not open, if
// that is what err says.
func (t *Keeper) sayUnreadable(who subject.Subject, err error) {
	var unreadable *vault.Unreadable
	if !errors.As(err, &unreadable) {
		return
	}
	metrics.StorageFailures.WithLabelValues("open").Inc()
	if !t.troubles.unreadable(who, time.Now()) {
		return
	}
	remedy := zap.Skip()
	switch {
	case errors.Is(err, vault.ErrOtherKey):
		remedy = zap.String("remedy", "if the seal key or app secret was changed, configure the previous one as well")
	case errors.Is(err, vault.ErrNewer):
		remedy = zap.String("remedy", "run the newer release on every node")
	}
	t.settings().Log.Error("stored record does not open; it is kept aside and rebuilt from WeChat", zap.Error(err), remedy)
}

// lock takes the storage lock of who.
func (t *Keeper) lock(ctx context.Context, who subject.Subject) (unlock func(), err error) {
	return t.lockUnless(ctx, who, func() bool { return false })
}

// lockUnless takes the storage lock of who, unless done reports meanwhile
// that another holder has done the work; then both results are nil.
// Storage locks poll only every second, a look at the record costs little. The
// caller has begun work, so that Close waits for a lock that comes too late.
func (t *Keeper) lockUnless(ctx context.Context, who subject.Subject, done func() bool) (unlock func(), err error) {
	type lock struct {
		release func() error
		err     error
	}
	ctx, cancel := context.WithCancel(ctx)
	taken := make(chan lock, 1)
	log := t.settings().Log
	release := func(l lock) {
		cancel()
		if l.err != nil {
			return
		}
		if err := l.release(); err != nil {
			log.Warn("releasing storage lock failed", zap.String("component", who.Component()),
				zap.String("authorizer", who.Authorizer()), zap.Error(err))
		}
	}
	go func() {
		unlock, err := t.settings().Vault.Lock(ctx, who)
		taken <- lock{unlock, err}
	}()
	poll := time.NewTicker(pollEvery)
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
				t.work.Go(func() { release(<-taken) })
				return nil, nil
			}
		case <-ctx.Done(): // not every storage looks at the context while it waits
			t.work.Go(func() { release(<-taken) })
			return nil, fmt.Errorf("waiting for the storage lock: %w: %w", vault.ErrUnavailable, context.Cause(ctx))
		}
	}
}

// update changes the record of who under its lock and stores it. Nothing is
// changed if it returns an error, which may be that of change.
func (t *Keeper) update(ctx context.Context, who subject.Subject, change func(*vault.Record) error) error {
	unlock, err := t.lock(ctx, who)
	if err != nil {
		return err
	}
	defer unlock()
	record, err := t.loadToChange(ctx, who)
	if err != nil {
		return err
	}
	if err := change(&record); err != nil {
		return err
	}
	if _, err = t.settings().Vault.Store(ctx, who, record); err == nil {
		t.unstored.remove(who, record)
	}
	return err
}

// keep is update for tokens that WeChat has just handed out and that exist
// nowhere else: where storage fails they stay in memory until it is back.
func (t *Keeper) keep(ctx context.Context, who subject.Subject, change func(*vault.Record)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeLimit)
	defer cancel()
	unlock, err := t.lock(ctx, who)
	if err == nil {
		defer unlock()
	}
	record, _ := t.loadToChange(ctx, who)
	change(&record)
	record, _ = t.store(ctx, who, record)
	t.memory.Drop(who)
	if token := t.tokenOf(who, record); token.live(time.Now()) {
		t.remember(who, token)
	}
}

// store stores the record before anybody is handed its token. If that fails,
// the alarm is raised, the record is served from memory and storing goes on
// being tried. It returns what now stands, and why it is not stored yet.
func (t *Keeper) store(ctx context.Context, who subject.Subject, record vault.Record) (vault.Record, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeLimit)
	defer cancel()
	stored, err := t.settings().Vault.Store(ctx, who, record)
	if err == nil {
		t.unstored.remove(who, record)
		return stored, nil
	}
	t.settings().Log.Error("storing token failed; it is served from memory and storing is tried again",
		zap.String("component", who.Component()), zap.String("authorizer", who.Authorizer()), zap.Error(err))
	if t.unstored.put(who, record) {
		t.background(func() { t.storeLater(who) })
	}
	return record, err
}

// storeLater tries to store an unstored record until it succeeds.
func (t *Keeper) storeLater(who subject.Subject) {
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		select {
		case <-time.After(jitter(wait)):
		case <-t.life.Done():
			return
		}
		ctx, cancel := context.WithTimeout(t.life, obtainLimit)
		stored := t.storeUnstored(ctx, who)
		cancel()
		if stored {
			return
		}
	}
}

// storeRest tries a last time to store what is not stored yet, when all other
// work has ended: the refresh tokens are nowhere else.
func (t *Keeper) storeRest() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.life), storeLimit)
	defer cancel()
	for _, who := range t.unstored.all() {
		t.storeUnstored(ctx, who)
	}
}

// storeUnstored reports whether nothing of who is left to store.
func (t *Keeper) storeUnstored(ctx context.Context, who subject.Subject) bool {
	unlock, err := t.lock(ctx, who)
	if err != nil {
		return false
	}
	defer unlock()
	record, ok := t.unstored.get(who)
	if !ok {
		return true
	}
	v := t.settings().Vault
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
	t.settings().Log.Info("storage is back, token stored",
		zap.String("component", who.Component()), zap.String("authorizer", who.Authorizer()))
	return t.unstored.remove(who, record)
}

// unstored holds the records that storage did not take yet.
type unstored struct {
	mu      sync.Mutex
	records map[subject.Subject]vault.Record
}

func (u *unstored) get(who subject.Subject) (vault.Record, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	record, ok := u.records[who]
	return record, ok
}

func (u *unstored) all() []subject.Subject {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Keys(u.records))
}

// put reports whether who is new here.
func (u *unstored) put(who subject.Subject, record vault.Record) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.records == nil {
		u.records = make(map[subject.Subject]vault.Record)
	}
	_, known := u.records[who]
	u.records[who] = record
	metrics.UnstoredRecords.Set(float64(len(u.records)))
	return !known
}

// remove forgets record, unless a newer one has taken its place meanwhile. It
// reports whether nothing is left to store.
func (u *unstored) remove(who subject.Subject, record vault.Record) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if held, ok := u.records[who]; ok && held.Obtained.After(record.Obtained) {
		return false
	}
	delete(u.records, who)
	metrics.UnstoredRecords.Set(float64(len(u.records)))
	return true
}
