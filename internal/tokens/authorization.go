// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// handoffDelay is how long a code that is pending is left to the node which has
// stored it, and which mostly exchanges it in this moment.
const handoffDelay = 5 * time.Second

// Grant is an authorisation as the events URL reports it.
type Grant struct {
	Component  string
	Authorizer string
	Code       secret.Secret // authorization_code, for api_query_auth
	Time       time.Time     // CreateTime of the event
}

// authorization takes what the events URL reports of authorisations, and finishes
// the exchange of their codes in the background, over restarts and on whichever
// node is alive. An event that is older than the last one of its account, by WeChat's
// CreateTime, changes no record: WeChat repeats events, and they overtake each
// other.
type authorization struct {
	*exchange
	finishing sync.Map // subject.Subject → whose code is being exchanged here
}

// authorized takes an authorized or updateauthorized event, see Keeper.Authorized.
func (a *authorization) authorized(ctx context.Context, g Grant) error {
	if err := a.begin(); err != nil {
		return err
	}
	defer a.work.Done()
	who := subject.Of(g.Component, g.Authorizer)
	id := codeID(g.Component, g.Code)
	appid, spent := a.codes.Spent(id)
	spent = spent && appid == g.Authorizer
	a.codes.Announce(id, g.Authorizer)
	err := a.update(ctx, who, func(record *vault.Record) error {
		if g.Time.Before(record.EventTime) {
			return nil
		}
		record.EventTime, record.State = g.Time, vault.Authorized
		if spent {
			return nil
		}
		record.Code, record.CodeExpires = g.Code, time.Now().Add(codeLifetime)
		return a.settings().Vault.MarkPending(ctx, who)
	})
	if err != nil {
		return err
	}
	a.notices.publish(ctx, who, id)
	a.emit(eventAuthorized, who, "")
	a.health.Reset(healthKey{who, renewal})
	a.health.Reset(healthKey{who, codeExchange})
	a.startExchange(who)
	return nil
}

// unauthorized takes an unauthorized event, see Keeper.Unauthorized.
func (a *authorization) unauthorized(ctx context.Context, component, authorizer string, at time.Time) error {
	if err := a.begin(); err != nil {
		return err
	}
	defer a.work.Done()
	who := subject.Of(component, authorizer)
	return a.locked(ctx, who, func(record vault.Record) error {
		if at.Before(record.EventTime) {
			return nil
		}
		record.EventTime = at
		return a.markUnauthorized(ctx, who, record, nil)
	})
}

// resumePending starts the exchange of every code of a component that is marked as
// pending, after handoffDelay: a process that has ended may have left it.
func (a *authorization) resumePending(ctx context.Context, component string) {
	appids, err := a.settings().Vault.Pending(ctx, component)
	if err != nil {
		return // the storage says so elsewhere, and this is tried again in a minute
	}
	for _, appid := range appids {
		a.background(func() {
			if backoff.Wait(a.ctx, handoffDelay) {
				a.startExchange(subject.Of(component, appid))
			}
		})
	}
}

// startExchange exchanges the pending code of who in the background, unless this
// node is at it.
func (a *authorization) startExchange(who subject.Subject) {
	if _, at := a.finishing.LoadOrStore(who, true); at {
		return
	}
	a.background(func() {
		defer a.finishing.Delete(who)
		a.finishExchange(who)
	})
}

// finishExchange exchanges the code that authorized has stored. It tries again,
// with growing delays, until the record has no code that may be good (exchanged,
// refused as spent, or older than codeLifetime) and the mark is removed.
func (a *authorization) finishExchange(who subject.Subject) {
	for failures := 0; ; {
		record, err := a.load(a.ctx, who)
		if err == nil && codePending(record) {
			if a.exchangePending(a.ctx, who, record) == nil {
				continue // to see whether another code has come meanwhile
			}
		} else if a.clearPending(who) {
			return
		}
		failures++
		if !backoff.Wait(a.ctx, backoff.Jitter(backoff.Delay(failures, time.Second, time.Minute))) {
			return
		}
	}
}

// clearPending takes the mark of a pending code away, and reports whether it is
// gone: not while nobody knows what is stored, nor if another code has come.
// Marks are put and taken under the lock.
func (a *authorization) clearPending(who subject.Subject) bool {
	unlock, err := a.lock(a.ctx, who)
	if err != nil {
		return false
	}
	defer unlock()
	record, err := a.load(a.ctx, who)
	if codePending(record) || err != nil && !errors.Is(err, vault.ErrNotFound) {
		return false
	}
	return a.settings().Vault.ClearPending(a.ctx, who) == nil
}
