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

// exchange turns authorization_codes into tokens. A code can be exchanged once, and
// until then a new authorisation has no refresh token. So a code that comes by an
// event is stored before it is exchanged, the same code is exchanged by one
// goroutine of a node at a time, and if WeChat calls a code spent, the tokens are
// looked for: see spentElsewhere.
type exchange struct{ *authorizers }

// newExchange lets pending codes be exchanged before authorizers are renewed.
func newExchange(authorizers *authorizers) *exchange {
	x := &exchange{authorizers}
	authorizers.before = x.exchangePending
	return x
}

// do exchanges a code and returns the authorizer's appid, see Keeper.Exchange.
func (x *exchange) do(ctx context.Context, component string, code secret.Secret) (string, error) {
	id := codeID(component, code)
	return await[string](ctx, x.join("code "+id, func(ctx context.Context) (any, error) {
		if appid, spent := x.codes.Spent(id); spent {
			return appid, nil
		}
		if refusal := x.codes.Refused(id); refusal != nil {
			if _, announced := x.announced(ctx, component, id); !announced {
				return "", refusal
			}
		}
		return x.spend(ctx, component, code)
	}))
}

// spend lets WeChat exchange the code (api_query_auth) and saves what it issues.
// If the process dies between the two, the refresh token is not lost: the event
// has stored the code as pending, WeChat then says that it is spent, and
// spentElsewhere asks for the refresh token.
func (x *exchange) spend(ctx context.Context, component string, code secret.Secret) (string, error) {
	began := time.Now()
	var granted openapi.Authorization
	err := x.components.withComponentToken(ctx, component, itself(openapi.EndpointQueryAuth, ""), func(componentToken secret.Secret) (err error) {
		granted, err = x.settings().API.QueryAuth(ctx, component, componentToken, code)
		return err
	})
	if openapi.KindOf(err) == openapi.CodeSpent {
		return x.spentElsewhere(ctx, component, code, err)
	}
	if err != nil {
		return "", x.exchangeFailed(component, code, err)
	}
	who := subject.Of(component, granted.AppID)
	stands := x.saveIssued(ctx, who, func(record *vault.Record) { grant(record, granted, code, began) })
	x.granted(who, began) // before adopt, which tells that the account is used: that is not urgent
	x.adopt(who, stands)
	x.bringNews(who, stands, vault.NoTrouble, nil)
	id := codeID(component, code)
	x.codes.MarkSpent(id, granted.AppID, granted.Answer)
	x.notices.publish(ctx, who, id)
	x.health.Reset(healthKey{who, renewal})
	x.health.Reset(healthKey{who, codeExchange})
	x.settings().Log.Info("authorizer authorized", zap.String("component", component),
		zap.String("authorizer", granted.AppID), zap.Ints("functions", granted.Functions))
	return granted.AppID, nil
}

// granted lets it be learnt what an account has granted at this time.
func (x *exchange) granted(who subject.Subject, at time.Time) {
	if profiles := x.settings().Profiles; profiles != nil {
		profiles.Granted(who, at)
	}
}

// grant writes into a record what WeChat has granted for a code at the time asked.
func grant(record *vault.Record, granted openapi.Authorization, code secret.Secret, asked time.Time) {
	if record.State == vault.Unauthorized && asked.Before(record.EventTime) {
		return // withdrawn meanwhile
	}
	record.State, record.Functions = vault.Authorized, granted.Functions
	if record.Code.Equal(code) {
		record.Code = nil
	}
	if asked.Before(record.Obtained) {
		return // renewed meanwhile, perhaps by a node that found the code spent
	}
	record.Token, record.Obtained, record.Expires = granted.Access.Value, asked, asked.Add(granted.Access.Lifetime)
	if granted.Refresh != nil {
		record.Refresh = granted.Refresh
	}
}

// exchangePending exchanges the code of a record that still has one, unless that
// has just failed.
func (x *exchange) exchangePending(ctx context.Context, who subject.Subject, record vault.Record) error {
	if !codePending(record) {
		return nil
	}
	if err := x.health.CoolingDown(healthKey{who, codeExchange}, time.Now()); err != nil {
		return err
	}
	id := codeID(who.Component(), record.Code)
	if _, spent := x.codes.Spent(id); spent { // it came to another node after this one had exchanged it
		_, err := x.clearCode(ctx, who, record.Code)
		return err
	}
	x.codes.Announce(id, who.Authorizer()) // it may have come to another node, or before a restart
	_, err := x.do(ctx, who.Component(), record.Code)
	return err
}

// clearCode takes a spent code out of the record of who, and returns the record.
func (x *exchange) clearCode(ctx context.Context, who subject.Subject, code secret.Secret) (stands vault.Record, err error) {
	err = x.update(ctx, who, func(record *vault.Record) error {
		if record.Code.Equal(code) {
			record.Code = nil
		}
		stands = *record
		return nil
	})
	return stands, err
}

// exchangeFailed returns what callers are to be shown. If it is known whose code
// it is, exchanges for that account cool down, unless the component or storage has
// failed.
func (x *exchange) exchangeFailed(component string, code secret.Secret, err error) error {
	if appid, announced := x.codes.Announced(codeID(component, code)); announced {
		who := subject.Of(component, appid)
		return x.failed(exchangeFailing, who, healthKey{who, codeExchange}, err)
	}
	x.settings().Log.Error(exchangeFailing,
		zap.String("component", component), zap.Error(err), openapi.RemedyField(err))
	return publicError(subject.Of(component, ""), err)
}

// spentElsewhere is called when WeChat says that a code is invalid, spent or
// expired. If it is known whose code it is, another node may have exchanged it, or
// the answer to this node was lost, or it has expired. If the vault then has no
// refresh token of the account, WeChat is asked for it. If it is not known whose
// code it is, somebody may have made it up: the refusal is returned, and
// remembered until it becomes known whose code it is.
func (x *exchange) spentElsewhere(ctx context.Context, component string, code secret.Secret, refused error) (string, error) {
	id := codeID(component, code)
	appid, announced := x.announced(ctx, component, id)
	if !announced {
		x.codes.MarkRefused(id, refused)
		x.settings().Log.Warn("authorization_code refused", zap.String("component", component), zap.Error(refused))
		return "", refused
	}
	x.codes.MarkSpent(id, appid, nil) // whatever follows, asking again is of no use
	who := subject.Of(component, appid)
	stands, err := x.clearCode(ctx, who, code)
	if err == nil && (stands.Refresh == nil || stands.State == vault.Unauthorized) {
		x.health.Reset(healthKey{who, renewal}) // of the failures before this answer
		_, err = x.renewLocked(ctx, who, vault.Record{}, wanted{})
	}
	if err != nil {
		return "", errors.Join(refused, err)
	}
	x.granted(who, stands.EventTime) // whoever has exchanged the code may have died
	return appid, nil
}

// announced returns whose code this is, if an event has told that to this node or to
// another one.
func (x *exchange) announced(ctx context.Context, component, id string) (appid string, ok bool) {
	if appid, ok = x.codes.Announced(id); !ok {
		x.notices.poll(ctx, component)
		appid, ok = x.codes.Announced(id)
	}
	return appid, ok
}
