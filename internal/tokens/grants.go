// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// codeLifetime is how long an authorization_code is tried at most. WeChat's
// own are said to live ten minutes, but the field that tells is not to be
// relied on, so WeChat's refusal decides.
const codeLifetime = time.Hour

// Grant is an authorisation as the events URL reports it.
type Grant struct {
	Component  string
	Authorizer string
	Code       secret.Secret // authorization_code, for api_query_auth
	Time       time.Time     // CreateTime of the event
}

// Authorized takes an authorized or updateauthorized event. The code is
// stored before Authorized returns, so that no crash can lose it: until it is
// exchanged no refresh token exists. The exchange itself follows behind.
// An event older than what is known changes nothing.
func (t *Keeper) Authorized(ctx context.Context, g Grant) error {
	if err := t.begin(); err != nil {
		return err
	}
	defer t.work.Done()
	who := subject.Of(g.Component, g.Authorizer)
	code := idOf(g.Component, g.Code)
	appid, spent := t.codes.spent(code)
	spent = spent && appid == g.Authorizer
	t.codes.announce(code, g.Authorizer)
	err := t.update(ctx, who, func(record *vault.Record) error {
		if g.Time.Before(record.EventTime) {
			return nil
		}
		record.EventTime, record.State = g.Time, vault.Authorized
		if spent {
			return nil
		}
		record.Code, record.CodeExpires = g.Code, time.Now().Add(codeLifetime)
		return t.settings().Vault.MarkPending(ctx, who)
	})
	if err != nil {
		return err
	}
	t.tell(ctx, who, code)
	t.emit(eventAuthorized, who, "")
	t.troubles.heal(who)
	t.troubles.heal(codeOf(who))
	t.resume(who)
	return nil
}

// Unauthorized takes an unauthorized event: the tokens are dropped at once,
// the record stays as a tombstone that a newer authorized event revives. The
// push may be acknowledged only if Unauthorized returns nil.
func (t *Keeper) Unauthorized(ctx context.Context, component, authorizer string, at time.Time) error {
	if err := t.begin(); err != nil {
		return err
	}
	defer t.work.Done()
	who := subject.Of(component, authorizer)
	unlock, err := t.lock(ctx, who)
	if err != nil {
		return err
	}
	defer unlock()
	record, err := t.loadToChange(ctx, who)
	if err != nil {
		return err
	}
	if at.Before(record.EventTime) {
		return nil
	}
	record.EventTime = at
	return t.withdraw(ctx, who, record)
}

// leftToOthers is how long a code that is pending is left to the node which has
// stored it, and which mostly exchanges it in this moment.
const leftToOthers = 5 * time.Second

// resumePending goes on with the codes that a process which ended, this or
// another, has stored and not exchanged.
func (t *Keeper) resumePending(ctx context.Context, component string) {
	appids, err := t.settings().Vault.Pending(ctx, component)
	if err != nil {
		return // the storage says so elsewhere, and this is tried again in a minute
	}
	for _, appid := range appids {
		t.background(func() {
			select {
			case <-time.After(leftToOthers):
				t.resume(subject.Of(component, appid))
			case <-t.life.Done():
			}
		})
	}
}

// resume exchanges the pending code of who behind the caller's back, unless
// this node is at it.
func (t *Keeper) resume(who subject.Subject) {
	if _, at := t.pending.LoadOrStore(who, true); at {
		return
	}
	t.background(func() {
		defer t.pending.Delete(who)
		t.exchangePending(who)
	})
}

// exchangePending exchanges the code that Authorized stored, again and again
// until WeChat has answered for good.
func (t *Keeper) exchangePending(who subject.Subject) {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		record, err := t.load(t.life, who)
		if err == nil && codePending(record) {
			if t.settle(t.life, who, record) == nil {
				continue // to see whether another code has come meanwhile
			}
		} else if t.settled(who) {
			return
		}
		select {
		case <-time.After(jitter(wait)):
		case <-t.life.Done():
			return
		}
	}
}

// settled takes the mark of a pending code away, and reports whether it is
// gone: not while nobody knows what is stored, nor if another code has come.
// Marks are put and taken under the lock.
func (t *Keeper) settled(who subject.Subject) bool {
	unlock, err := t.lock(t.life, who)
	if err != nil {
		return false
	}
	defer unlock()
	record, err := t.load(t.life, who)
	if codePending(record) || err != nil && !errors.Is(err, vault.ErrNotFound) {
		return false
	}
	return t.settings().Vault.ClearPending(t.life, who) == nil
}

// codePending reports whether a record has a code that may be good.
func codePending(record vault.Record) bool {
	return record.Code != nil && time.Now().Before(record.CodeExpires)
}

// settle exchanges the code of a record that still has one, unless that has
// just failed.
func (t *Keeper) settle(ctx context.Context, who subject.Subject, record vault.Record) error {
	if !codePending(record) {
		return nil
	}
	if err := t.troubles.pause(codeOf(who), time.Now()); err != nil {
		return err
	}
	id := idOf(who.Component(), record.Code)
	if _, spent := t.codes.spent(id); spent { // it came to another node after this one had exchanged it
		_, err := t.clearCode(ctx, who, record.Code)
		return err
	}
	t.codes.announce(id, who.Authorizer()) // it may have come to another node, or before a restart
	_, err := t.Exchange(ctx, who.Component(), record.Code)
	return err
}

// clearCode takes a spent code out of the record of who, and returns what stands.
func (t *Keeper) clearCode(ctx context.Context, who subject.Subject, code secret.Secret) (stands vault.Record, err error) {
	err = t.update(ctx, who, func(record *vault.Record) error {
		if record.Code.Equal(code) {
			record.Code = nil
		}
		stands = *record
		return nil
	})
	return stands, err
}

// Exchange turns an authorization_code into stored tokens and returns the
// authorizer's appid. The event and the browser's redirect may bring the same
// code in either order: it is spent once, both get the same answer.
func (t *Keeper) Exchange(ctx context.Context, component string, code secret.Secret) (string, error) {
	id := idOf(component, code)
	done := t.join("code "+id, func(ctx context.Context) (any, error) {
		if appid, spent := t.codes.spent(id); spent {
			return appid, nil
		}
		return t.exchange(ctx, component, code)
	})
	select {
	case result := <-done:
		if result.Err != nil {
			return "", result.Err
		}
		return result.Val.(string), nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func (t *Keeper) exchange(ctx context.Context, component string, code secret.Secret) (string, error) {
	began := time.Now()
	var grant openapi.Authorization
	err := t.asComponent(ctx, component, func(componentToken secret.Secret) (err error) {
		grant, err = t.settings().API.QueryAuth(ctx, component, componentToken, code)
		return err
	})
	if openapi.KindOf(err) == openapi.CodeSpent {
		return t.codeSpent(ctx, component, code, err)
	}
	if err != nil {
		return "", t.exchangeFailed(component, code, err)
	}
	who := subject.Of(component, grant.AppID)
	t.keep(ctx, who, func(record *vault.Record) {
		if record.State == vault.Unauthorized && began.Before(record.EventTime) {
			return // withdrawn meanwhile
		}
		record.State, record.Functions = vault.Authorized, grant.Functions
		if record.Code.Equal(code) {
			record.Code = nil
		}
		if began.Before(record.Obtained) {
			return // renewed meanwhile, by a node that found the code spent
		}
		record.Token, record.Obtained, record.Expires = grant.Access.Value, began, began.Add(grant.Access.Lifetime)
		if grant.Refresh != nil {
			record.Refresh = grant.Refresh
		}
	})
	t.codes.spend(idOf(component, code), grant.AppID, grant.Answer)
	t.tell(ctx, who, idOf(component, code))
	t.troubles.heal(who)
	t.troubles.heal(codeOf(who))
	t.settings().Log.Info("authorizer authorized", zap.String("component", component),
		zap.String("authorizer", grant.AppID), zap.Ints("functions", grant.Functions))
	return grant.AppID, nil
}

// codeOf names what cools down when the code of who cannot be exchanged. It is
// not who: an account that only changes what it grants has a refresh token,
// which goes on working.
func codeOf(who subject.Subject) subject.Subject { return who + "/code" }

// exchangeFailed returns what callers are to be shown. Where it is known whose
// code it is, the code cools down.
func (t *Keeper) exchangeFailed(component string, code secret.Secret, err error) error {
	if appid, announced := t.codes.announced(idOf(component, code)); announced {
		who := subject.Of(component, appid)
		return t.failed(exchangeFailing, who, codeOf(who), err)
	}
	t.settings().Log.Error(exchangeFailing,
		zap.String("component", component), zap.Error(err), remedyOf(err))
	return publicOf(subject.Of(component, ""), err)
}

// codeSpent is called when WeChat says that a code is invalid, spent or
// expired. If it is known whose code it is, somebody else has exchanged it, or
// the answer was lost: then the authorizer has its tokens, or WeChat tells.
func (t *Keeper) codeSpent(ctx context.Context, component string, code secret.Secret, refused error) (string, error) {
	id := idOf(component, code)
	appid, announced := t.codes.announced(id)
	if !announced {
		t.listen(ctx, component) // its event may have come to another node
		appid, announced = t.codes.announced(id)
	}
	if !announced {
		t.settings().Log.Warn("authorization_code refused", zap.String("component", component), zap.Error(refused))
		return "", refused
	}
	t.codes.spend(id, appid, nil) // whatever follows, asking again is of no use
	who := subject.Of(component, appid)
	stands, err := t.clearCode(ctx, who, code)
	if err == nil && (stands.Refresh == nil || stands.State == vault.Unauthorized) {
		t.troubles.heal(who) // of the failures before this answer
		_, err = t.renewOnce(ctx, who, vault.Record{}, nil)
	}
	if err != nil {
		return "", errors.Join(refused, err)
	}
	return appid, nil
}
