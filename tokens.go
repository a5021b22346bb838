// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
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
)

// Token is a real WeChat access token as the proxy attaches it.
type Token struct {
	Value   secret.Secret
	Expires time.Time

	refused atomic.Bool  // WeChat has rejected it; never served again
	due     atomic.Int64 // unix nanoseconds from which a renewal ahead may start
}

func (t *Token) live(now time.Time) bool {
	return t != nil && now.Before(t.Expires) && !t.refused.Load()
}

func (t *Token) fresh(now time.Time) bool {
	return t.live(now) && now.UnixNano() < t.due.Load()
}

// Tokens decides about every real token: which one is served, when it is
// renewed and by whom, what is stored before what, and what a failure means.
// It outlives configuration reloads and is safe for concurrent use.
//
// The order is always memory, then vault, then WeChat. A live token in memory
// is served without lock, allocation or storage access.
type Tokens struct {
	settings func() *settings
	cache    *tokenCache
	calls    singleflight.Group
	troubles *troubles
	codes    *codes
	unstored unstored

	life context.Context // ends with Close; bounds work that nobody waits for
	stop context.CancelFunc
	work sync.WaitGroup
}

// settings is what Tokens takes from one configuration.
type settings struct {
	components map[string]secret.Secret // component_appid → current app secret
	api        *openapi.Client
	vault      *vault.Vault
	log        *zap.Logger
	deliveries delivery.Settings // for the courier
}

// newTokens returns Tokens that keep up to cacheSize tokens in memory and ask
// current for the configuration in force whenever they need it.
func newTokens(current func() *settings, cacheSize int) (*Tokens, error) {
	cache, err := newTokenCache(cacheSize)
	if err != nil {
		return nil, err
	}
	t := &Tokens{settings: current, cache: cache, troubles: newTroubles(), codes: newCodes()}
	t.life, t.stop = context.WithCancel(context.Background())
	return t, nil
}

// Close ends the background work and waits for it.
func (t *Tokens) Close() {
	t.stop()
	t.work.Wait()
	t.cache.close()
}

// Current returns a token of who that is alive and that WeChat has not refused
// yet. When it is soon due it is returned all the same and renewed behind the
// caller's back. Current waits for a renewal in flight, but never longer than
// ctx; the renewal itself goes on without the caller.
func (t *Tokens) Current(ctx context.Context, who subject.Subject) (*Token, error) {
	now := time.Now()
	token := t.cache.get(who)
	if !token.live(now) {
		return t.await(ctx, who, nil)
	}
	if due := token.due.Load(); now.UnixNano() >= due &&
		token.due.CompareAndSwap(due, now.Add(time.Second).UnixNano()) {
		t.renewAhead(who)
	}
	return token, nil
}

// After returns a token of who other than refused, which WeChat has just
// rejected. If another caller or node has a newer one, that is returned;
// only otherwise a new one is fetched.
func (t *Tokens) After(ctx context.Context, who subject.Subject, refused *Token) (*Token, error) {
	refused.refused.Store(true)
	if token := t.cache.get(who); token.live(time.Now()) && !token.Value.Equal(refused.Value) {
		return token, nil
	}
	t.troubles.refuse(who, refused.Value)
	return t.await(ctx, who, refused)
}

// await joins or starts the one renewal of who on this node. A caller that
// joined a renewal begun without knowledge of refused looks once more.
func (t *Tokens) await(ctx context.Context, who subject.Subject, refused *Token) (*Token, error) {
	for range 2 {
		done := t.calls.DoChan(string(who), func() (any, error) {
			return t.obtain(who, func(token *Token) bool { return token.live(time.Now()) })
		})
		select {
		case result := <-done:
			if result.Err != nil {
				return nil, result.Err
			}
			token := result.Val.(*Token)
			if refused == nil || !token.Value.Equal(refused.Value) {
				return token, nil
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return nil, ErrContended
}

// renewAhead replaces a token that is still alive but soon due.
func (t *Tokens) renewAhead(who subject.Subject) {
	t.calls.DoChan(string(who)+" ahead", func() (any, error) {
		return t.obtain(who, func(token *Token) bool { return token.fresh(time.Now()) })
	})
}

// obtain finds a token that is good enough: in the vault, or by renewing it
// with WeChat. If renewing fails and the token at hand is still alive and not
// refused, that one is served.
func (t *Tokens) obtain(who subject.Subject, good func(*Token) bool) (*Token, error) {
	ctx, cancel := context.WithTimeout(t.life, obtainLimit)
	defer cancel()

	record, err := t.load(ctx, who)
	if err != nil && !recoverable(err) {
		return nil, err
	}
	token := t.tokenOf(who, record)
	if good(token) {
		t.cache.set(who, token)
		return token, nil
	}
	renewed, err := t.renewOnce(ctx, who, record, good)
	if err == nil || !token.live(time.Now()) || errors.Is(err, ErrUnauthorized) {
		return renewed, err
	}
	if !t.cache.get(who).live(time.Now()) {
		t.cache.set(who, token)
	}
	return token, nil
}

// renewOnce renews who under the storage lock, unless somebody else was
// faster or who is cooling down after a failure.
func (t *Tokens) renewOnce(ctx context.Context, who subject.Subject, record vault.Record, good func(*Token) bool) (*Token, error) {
	if err := t.troubles.pause(who, time.Now()); err != nil {
		return nil, err
	}
	if err := t.settle(ctx, who, record); err != nil {
		return nil, err
	}
	unlock, err := t.lockUnless(ctx, who, func() bool {
		record, err := t.load(ctx, who)
		return err == nil && good(t.tokenOf(who, record))
	})
	if err != nil {
		return nil, err
	}
	defer unlock()
	record, err = t.load(ctx, who)
	if err != nil && !recoverable(err) {
		return nil, err
	}
	if token := t.tokenOf(who, record); good(token) {
		t.cache.set(who, token)
		return token, nil
	}
	return t.renew(ctx, who, record)
}

// renew fetches a new token of who from WeChat, stores it, and only then
// hands it out. The caller holds the lock.
func (t *Tokens) renew(ctx context.Context, who subject.Subject, record vault.Record) (*Token, error) {
	if record.Token != nil && t.troubles.isRefused(who, record.Token) {
		if err := t.troubles.force(who, time.Now()); err != nil {
			return nil, t.fail(who, err)
		}
	}
	var err error
	if who.IsComponent() {
		record, err = t.renewComponent(ctx, who, record)
	} else {
		record, err = t.renewAuthorizer(ctx, who, record)
	}
	if err != nil {
		return nil, t.fail(who, err)
	}
	record = t.store(ctx, who, record)
	t.troubles.heal(who)
	token := t.tokenOf(who, record)
	t.cache.set(who, token)
	t.settings().log.Info("token renewed", zap.String("component", who.Component()),
		zap.String("authorizer", who.Authorizer()), zap.Uint64("generation", record.Generation),
		zap.Time("expires", record.Expires))
	return token, nil
}

// tokenOf returns the record's token, nil if it has none.
func (t *Tokens) tokenOf(who subject.Subject, record vault.Record) *Token {
	if record.Token == nil {
		return nil
	}
	// A twelfth of the lifetime ahead, ten minutes of two hours, less a little
	// chance so that nodes and subjects do not all renew at once.
	window := record.Expires.Sub(record.Obtained) / 12
	token := &Token{Value: record.Token, Expires: record.Expires}
	token.due.Store(record.Expires.Add(-window + rand.N(window/4+1)).UnixNano())
	token.refused.Store(t.troubles.isRefused(who, record.Token))
	return token
}

// recoverable reports whether a record that could not be loaded may be rebuilt
// from WeChat: it is not there, or it does not open. Storage that is merely
// unavailable is neither.
func recoverable(err error) bool {
	var unreadable *vault.Unreadable
	return errors.Is(err, vault.ErrNotFound) || errors.As(err, &unreadable)
}
