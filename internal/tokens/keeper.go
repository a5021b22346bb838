// SPDX-License-Identifier: Apache-2.0

// Package tokens is the engine: it decides about every real token, and nothing
// else in the gateway does. [Keeper] is its door. It knows neither Caddy nor who
// calls; what it is told of the world is in [Settings], where it remembers tokens
// is a [Memory], and what it writes down goes through package vault.
package tokens

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// obtainLimit bounds one whole renewal: waiting for a lock that a killed
	// process left behind (about 11 s in file system storage), then WeChat.
	obtainLimit = 30 * time.Second
	// pollEvery is how often a waiter for the storage lock looks whether
	// somebody else has renewed meanwhile; storage locks poll only every second.
	pollEvery = 50 * time.Millisecond
	// aheadMost is how many renewals ahead run at a time. Nobody waits for them,
	// and a burst of calls for many accounts that are due must not fill memory.
	aheadMost = 100
	// lookingMost is how many callers read the storage themselves at a time. A file
	// system that hangs lets nobody go, and these are all that it may hold.
	lookingMost = 16
	// storeLimit bounds the storing of what WeChat has handed out, which goes on
	// when callers leave and when the gateway ends.
	storeLimit = 15 * time.Second
)

// Keeper decides about every real token: which one is served, when it is
// renewed and by whom, what is stored before what, and what a failure means.
// It outlives configuration reloads and is safe for concurrent use.
//
// The order is always memory, then vault, then WeChat. A live token in memory
// is served without allocation, and without waiting for anything.
type Keeper struct {
	settings func() *Settings
	memory   Memory
	calls    singleflight.Group
	troubles *troubles
	codes    *codes
	news     news
	unstored unstored
	pending  sync.Map      // subject.Subject → whose code is being exchanged here
	ahead    chan struct{} // holds an element per renewal ahead
	looking  chan struct{} // holds an element per caller in look

	life   context.Context // ends with Close; bounds work that nobody waits for
	stop   context.CancelFunc
	ending sync.Mutex // no work begins after life has ended, see begin
	work   sync.WaitGroup
}

// Settings is what a Keeper takes from one configuration. It is read only.
type Settings struct {
	Components map[string]secret.Secret // component_appid → current app secret
	API        *openapi.Client
	Vault      *vault.Vault
	Log        *zap.Logger

	// Emit tells other modules of an event, one of those in events.go. It is
	// called where nobody waits for it.
	Emit func(event string, data map[string]any)
}

// Memory remembers tokens, so that most calls need no storage. It only saves the
// way to the vault: a Get right after a Set may miss, a Set may be dropped, and
// anything may be forgotten at any time. After a Drop no Get returns what was set
// before it. A Memory is safe for concurrent use, never blocks, and answers a Get
// without allocation.
type Memory interface {
	Get(who subject.Subject) *Token // nil if there is none
	Set(who subject.Subject, token *Token)
	Drop(who subject.Subject)

	// Close is called once the Keeper has ended. Requests of a configuration that
	// is gone go on: from now on a Get finds nothing, and the others do nothing.
	Close()
}

// NewKeeper returns a Keeper that remembers tokens in memory and asks current
// for the configuration in force whenever it needs it.
func NewKeeper(current func() *Settings, memory Memory) *Keeper {
	t := &Keeper{settings: current, memory: memory, troubles: newTroubles(), codes: newCodes(),
		ahead: make(chan struct{}, aheadMost), looking: make(chan struct{}, lookingMost)}
	t.life, t.stop = context.WithCancel(context.Background())
	return t
}

// Run does in the background what no caller asks for, until ctx ends or t is
// closed: it watches the tickets, goes on with codes that were left pending, and
// listens to the other nodes. It returns at once.
func (t *Keeper) Run(ctx context.Context) {
	t.background(func() { t.watch(ctx) })
	t.background(func() { t.follow(ctx) })
}

// Close ends all work and waits for it. Callers who come later, with requests
// of a configuration that is gone, get an error.
func (t *Keeper) Close() {
	t.ending.Lock()
	t.stop()
	t.ending.Unlock()
	t.work.Wait()
	t.storeRest()
	t.memory.Close()
}

// begin counts work that Close has to wait for; the caller calls work.Done. It
// fails once Close has been called.
func (t *Keeper) begin() error {
	t.ending.Lock()
	defer t.ending.Unlock()
	if err := t.life.Err(); err != nil {
		return err
	}
	t.work.Add(1)
	return nil
}

// background runs work that nobody waits for but Close.
func (t *Keeper) background(work func()) {
	if t.begin() == nil {
		go func() {
			defer t.work.Done()
			work()
		}()
	}
}

// join runs work as the one call of that key on this node, or joins the one
// that is running. It runs on t.life, within obtainLimit.
func (t *Keeper) join(key string, work func(ctx context.Context) (any, error)) <-chan singleflight.Result {
	return t.calls.DoChan(key, func() (any, error) {
		if err := t.begin(); err != nil {
			return nil, err
		}
		defer t.work.Done()
		ctx, cancel := context.WithTimeout(t.life, obtainLimit)
		defer cancel()
		return work(ctx)
	})
}

// Current returns a token of who that is alive and that WeChat has not refused
// yet. When it is soon due it is returned all the same and renewed behind the
// caller's back. Current waits for a renewal in flight, but no longer than ctx,
// unless the storage ignores it, see lookingMost; the renewal itself goes on
// without the caller.
func (t *Keeper) Current(ctx context.Context, who subject.Subject) (*Token, error) {
	token := t.memory.Get(who)
	if token == nil {
		if found, err := t.look(ctx, who); found != nil || err != nil {
			return found, err
		}
	}
	now := time.Now()
	if !token.live(now) {
		return t.await(ctx, who)
	}
	if due := token.due.Load(); now.UnixNano() >= due &&
		token.due.CompareAndSwap(due, now.Add(time.Second).UnixNano()) {
		t.renewAhead(who, token)
	}
	return token, nil
}

// look brings who's token from the vault into memory; nil without an error
// means that await has to find one, or to say why there is none. It runs on the
// caller's own goroutine, which spares the processor the work of waking others.
func (t *Keeper) look(ctx context.Context, who subject.Subject) (*Token, error) {
	if t.troubles.pause(who, time.Now()) != nil {
		return nil, nil
	}
	select {
	case t.looking <- struct{}{}:
		defer func() { <-t.looking }()
	default:
		return nil, nil
	}
	if err := t.begin(); err != nil {
		return nil, err
	}
	defer t.work.Done()
	limited, cancel := context.WithTimeout(t.life, obtainLimit)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	record, err := t.load(limited, who)
	switch {
	case recoverable(err), err != nil && ctx.Err() != nil: // where a caller leaves, await reads on for the next
		return nil, nil
	case err != nil:
		return nil, err
	}
	token := t.tokenOf(who, record)
	if now := time.Now(); !token.live(now) || !t.remember(who, token).live(now) {
		return nil, nil
	}
	return token, nil
}

// renewAhead renews a token that is soon due, unless too many others are being
// renewed: then a later call does it.
func (t *Keeper) renewAhead(who subject.Subject, token *Token) {
	select {
	case t.ahead <- struct{}{}:
	default:
		return
	}
	t.background(func() {
		defer func() { <-t.ahead }()
		<-t.join(string(who)+" ahead", func(ctx context.Context) (any, error) { return t.obtain(ctx, who, token) })
	})
}

// After returns a token of who other than refused, which WeChat has just
// rejected. If another caller or node has a newer one, that is returned;
// only otherwise a new one is fetched.
func (t *Keeper) After(ctx context.Context, who subject.Subject, refused *Token) (*Token, error) {
	t.refuse(who, refused)
	if token := t.memory.Get(who); token.other(refused, time.Now()) {
		return token, nil
	}
	return t.await(ctx, who)
}

// Doubt is told that WeChat has answered "not authorized" (61003) to a call
// with a token that is alive. Some calls mean something else by it, so the
// refresh token decides, behind the caller's back: if the account has
// withdrawn and the event was lost, WeChat says so again there.
func (t *Keeper) Doubt(who subject.Subject, token *Token) {
	if who.IsComponent() || !t.troubles.doubt(who, time.Now()) {
		return
	}
	t.join(string(who)+" ahead", func(ctx context.Context) (any, error) { return t.obtain(ctx, who, token) })
}

// await joins or starts the one renewal of who on this node. A caller that
// joined a renewal whose token was rejected before it returned looks once more.
func (t *Keeper) await(ctx context.Context, who subject.Subject) (*Token, error) {
	for range 2 {
		done := t.join(string(who), func(ctx context.Context) (any, error) { return t.obtain(ctx, who, nil) })
		select {
		case result := <-done:
			if result.Err != nil {
				return nil, result.Err
			}
			if token := result.Val.(*Token); !t.troubles.isRefused(who, token.Value) {
				return token, nil
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return nil, problem.ErrContended
}

// obtain finds a live token of who other than due, which is nil or still
// alive: in the vault, or by renewing it with WeChat. If renewing fails and
// the token at hand is still alive and not refused, that one is served.
func (t *Keeper) obtain(ctx context.Context, who subject.Subject, due *Token) (*Token, error) {
	record, err := t.load(ctx, who)
	if err != nil && !recoverable(err) {
		return nil, err
	}
	token := t.tokenOf(who, record)
	if token.other(due, time.Now()) {
		return t.remember(who, token), nil
	}
	renewed, err := t.renewOnce(ctx, who, record, due)
	if err == nil || token == nil || errors.Is(err, problem.ErrUnauthorized) {
		return renewed, err
	}
	if token.refused.Store(t.troubles.isRefused(who, token.Value)); !token.live(time.Now()) {
		return nil, err
	}
	if !t.memory.Get(who).live(time.Now()) {
		t.remember(who, token)
	}
	return token, nil
}

// renewOnce renews who under the storage lock, unless somebody else was
// faster or who is cooling down after a failure.
func (t *Keeper) renewOnce(ctx context.Context, who subject.Subject, record vault.Record, due *Token) (*Token, error) {
	if err := t.troubles.pause(who, time.Now()); err != nil {
		return nil, err
	}
	if err := t.settle(ctx, who, record); err != nil && record.Refresh == nil {
		return nil, err
	}
	var found *Token
	unlock, err := t.lockUnless(ctx, who, func() bool {
		record, err := t.load(ctx, who)
		if err == nil {
			found = t.tokenOf(who, record)
		}
		return found.other(due, time.Now())
	})
	if err != nil {
		return nil, err
	}
	if unlock == nil {
		return t.remember(who, found), nil
	}
	defer unlock()
	record, err = t.loadToChange(ctx, who)
	if err != nil {
		return nil, err
	}
	if token := t.tokenOf(who, record); token.other(due, time.Now()) {
		return t.remember(who, token), nil
	}
	if err := t.troubles.pause(who, time.Now()); err != nil { // who held the lock before has failed
		return nil, err
	}
	return t.renew(ctx, who, record)
}

// renew fetches a new token of who from WeChat, stores it, and only then
// hands it out. The caller holds the lock.
func (t *Keeper) renew(ctx context.Context, who subject.Subject, record vault.Record) (*Token, error) {
	forced := time.Now().Before(record.Expires) && t.troubles.isRefused(who, record.Token)
	if forced && t.troubles.contended(who, time.Now()) {
		return nil, t.fail(who, problem.ErrContended)
	}
	var err error
	if who.IsComponent() {
		record, err = t.renewComponent(ctx, who, record)
	} else {
		record, err = t.renewAuthorizer(ctx, who, record)
	}
	if errors.Is(err, problem.ErrUnauthorized) {
		t.memory.Drop(who)
	}
	if err != nil {
		return nil, t.fail(who, err)
	}
	record, _ = t.store(ctx, who, record)
	token := t.tokenOf(who, record)
	if token == nil { // the lock was lost, and who had it next wrote a tombstone
		return nil, t.fail(who, problem.ErrUnauthorized)
	}
	t.troubles.heal(who)
	if forced {
		t.troubles.force(who, time.Now())
	}
	metrics.Renewals.WithLabelValues(levelOf(who), "ok").Inc()
	t.settings().Log.Info("token renewed", zap.String("component", who.Component()),
		zap.String("authorizer", who.Authorizer()), zap.Uint64("generation", record.Generation),
		zap.Time("expires", record.Expires))
	return t.remember(who, token), nil
}

// recoverable reports whether a record that could not be loaded may be rebuilt
// from WeChat: it is not there, or it does not open. Storage that is merely
// unavailable is neither.
func recoverable(err error) bool {
	var unreadable *vault.Unreadable
	return errors.Is(err, vault.ErrNotFound) || errors.As(err, &unreadable)
}
