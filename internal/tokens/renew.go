// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// renewComponent fetches a component token with the newest ticket.
func (t *Keeper) renewComponent(ctx context.Context, who subject.Subject, record vault.Record) (vault.Record, error) {
	s := t.settings()
	appSecret, ok := s.Components[who.Component()]
	if !ok {
		return record, problem.ErrNoComponent.Because("component %s is not configured", who.Component())
	}
	ticket, err := t.loadTicket(ctx, who.Component())
	if err != nil && !recoverable(err) {
		return record, err
	}
	if ticket.Value == nil {
		t.askForTicket(ctx, who.Component(), ticket)
		return record, problem.ErrNoTicket
	}
	began := time.Now()
	token, err := s.API.ComponentToken(ctx, who.Component(), appSecret, ticket.Value)
	if err != nil {
		if openapi.KindOf(err) == openapi.TicketBad {
			t.askForTicket(ctx, who.Component(), ticket)
		}
		return record, err
	}
	record.Token, record.Obtained, record.Expires = token.Value, began, began.Add(token.Lifetime)
	return record, nil
}

// renewAuthorizer fetches an authorizer token with the refresh token, or
// finds the refresh token again where it is lost.
func (t *Keeper) renewAuthorizer(ctx context.Context, who subject.Subject, record vault.Record) (vault.Record, error) {
	if record.State == vault.Unauthorized {
		return t.revive(ctx, who, record)
	}
	renewed, err := record, error(nil)
	if record.Refresh != nil {
		renewed, err = t.refresh(ctx, who, record)
	}
	if record.Refresh == nil || openapi.KindOf(err) == openapi.RefreshDead {
		renewed, err = t.recover(ctx, who, record)
	}
	switch {
	case openapi.KindOf(err) == openapi.RefreshDead:
		return record, problem.ErrNeedsAdmin
	case openapi.KindOf(err) == openapi.Withdrawn && !codePending(record): // a code would be of a new authorization
		t.withdraw(ctx, who, record)
		return record, problem.ErrUnauthorized
	}
	return renewed, err
}

// refresh exchanges the record's refresh token for an access token. WeChat's
// refresh token overwrites ours if it sends one; an empty one never does.
func (t *Keeper) refresh(ctx context.Context, who subject.Subject, record vault.Record) (vault.Record, error) {
	began := time.Now()
	var token openapi.Token
	var refresh secret.Secret
	err := t.asComponent(ctx, who.Component(), func(componentToken secret.Secret) (err error) {
		token, refresh, err = t.settings().API.AuthorizerToken(ctx, who.Component(), who.Authorizer(), componentToken, record.Refresh)
		return err
	})
	if err != nil {
		return record, err
	}
	if refresh != nil {
		record.Refresh = refresh
	}
	record.Token, record.Obtained, record.Expires = token.Value, began, began.Add(token.Lifetime)
	return record, nil
}

// recover asks WeChat once for the refresh token of an authorizer whose own is
// lost or was never known here. Whoever starts from an empty storage comes
// back this way.
// https://developers.weixin.qq.com/doc/oplatform/developers/dev/AuthorizerAccessToken.html
func (t *Keeper) recover(ctx context.Context, who subject.Subject, record vault.Record) (vault.Record, error) {
	info, err := t.ask(ctx, who, record.Generation > 0)
	if err != nil {
		return record, err
	}
	if info.Refresh == nil || info.Refresh.Equal(record.Refresh) {
		return record, problem.ErrNeedsAdmin
	}
	record.Refresh, record.State, record.Functions = info.Refresh, vault.Authorized, info.Functions
	return t.refresh(ctx, who, record)
}

// revive asks whether an account that has withdrawn is back: its authorized
// event may be lost, or the unauthorized one of the time before came after it.
// That is asked every ten minutes at most, and not soon after the withdrawal.
func (t *Keeper) revive(ctx context.Context, who subject.Subject, record vault.Record) (vault.Record, error) {
	now := time.Now()
	if now.Sub(record.EventTime) < doubtEvery || !t.troubles.doubt(who, now) {
		return record, problem.ErrUnauthorized
	}
	revived, err := t.recover(ctx, who, record)
	if err != nil {
		return record, problem.ErrUnauthorized
	}
	return revived, nil
}

// ask calls api_get_authorizer_info. Questions about authorizers that are not
// known here are rationed.
func (t *Keeper) ask(ctx context.Context, who subject.Subject, known bool) (info openapi.AuthorizerInfo, err error) {
	question := func() bool {
		err = t.asComponent(ctx, who.Component(), func(componentToken secret.Secret) (err error) {
			info, err = t.settings().API.AuthorizerInfo(ctx, who.Component(), who.Authorizer(), componentToken)
			return err
		})
		return saysUnauthorized(err)
	}
	if known {
		question()
		return info, err
	}
	ration := t.troubles.rationOf(who.Component())
	if err := ration.ask(ctx, question); err != nil {
		return info, err
	}
	if saysUnauthorized(err) {
		return info, problem.ErrUnauthorized
	}
	return info, err
}

// saysUnauthorized reports whether api_get_authorizer_info says that the
// account is none of the component's: it has not authorized it, or there is
// no such account.
func saysUnauthorized(err error) bool {
	var fault *componentFault
	var refusal *openapi.Refusal
	return !errors.As(err, &fault) && errors.As(err, &refusal) &&
		(refusal.Kind() == openapi.Withdrawn || refusal.Code == 40013)
}

// withdraw writes down that the account has taken its authorisation back and
// drops its tokens. The caller holds the lock. The error is that of storing;
// this node has forgotten the tokens in any case.
func (t *Keeper) withdraw(ctx context.Context, who subject.Subject, record vault.Record) error {
	for _, token := range []*Token{t.tokenOf(who, record), t.memory.Get(who)} {
		if token != nil {
			t.refuse(who, token)
		}
	}
	t.troubles.doubt(who, time.Now()) // there is none about what WeChat has just told
	record.State = vault.Unauthorized
	record.Token, record.Refresh, record.Code = nil, nil, nil
	_, err := t.store(ctx, who, record)
	t.memory.Drop(who)
	t.tell(ctx, who, chance())
	t.emit(eventUnauthorized, who, "")
	t.settings().Log.Warn("authorizer has withdrawn its authorization",
		zap.String("component", who.Component()), zap.String("authorizer", who.Authorizer()))
	return err
}

// asComponent makes a component-level call. If WeChat rejects the component
// token, the call is made once more with another one.
func (t *Keeper) asComponent(ctx context.Context, component string, call func(componentToken secret.Secret) error) error {
	return t.as(ctx, subject.Of(component, ""), call)
}

// as makes a call with who's token. If WeChat rejects it, the call is made
// once more with another one.
func (t *Keeper) as(ctx context.Context, who subject.Subject, call func(token secret.Secret) error) error {
	token, err := t.Current(ctx, who)
	if err != nil {
		return faultOf(who, err)
	}
	err = call(token.Value)
	if openapi.KindOf(err) != openapi.TokenDead {
		return err
	}
	if token, err = t.After(ctx, who, token); err != nil {
		return faultOf(who, err)
	}
	if err = call(token.Value); openapi.KindOf(err) == openapi.TokenDead {
		return faultOf(who, err)
	}
	return err
}

func faultOf(who subject.Subject, err error) error {
	if who.IsComponent() {
		return &componentFault{err}
	}
	return err
}

// componentFault marks a failure that is the component's, not the
// authorizer's that suffers from it: only the component cools down.
type componentFault struct{ error }

func (f *componentFault) Unwrap() error { return f.error }

// fail notes a failed renewal, says so in the log, and returns what callers
// are to be shown.
func (t *Keeper) fail(who subject.Subject, err error) error {
	return t.failed(renewalFailing, who, who, err)
}

const (
	renewalFailing  = "renewing token failed"
	exchangeFailing = "exchanging authorization_code failed"
)

// failed is fail for what the log calls doing and lets cool down. Failures of
// another's making, of the component, of the storage or by the end of
// everything, let nobody cool down.
func (t *Keeper) failed(doing string, who, cooling subject.Subject, err error) error {
	slug := problem.Of(publicOf(who, err)).Slug
	metrics.Renewals.WithLabelValues(levelOf(who), slug).Inc()
	if errors.Is(err, problem.ErrRationed) {
		t.troubles.rationOf(who.Component()).news.Do(func() {
			t.settings().Log.Warn("too many unknown authorizers are asked for; WeChat is not asked about more",
				zap.String("component", who.Component()), zap.String("authorizer", who.Authorizer()))
		})
		return err
	}
	var fault *componentFault
	if errors.As(err, &fault) && !who.IsComponent() || errors.Is(err, vault.ErrUnavailable) || t.life.Err() != nil {
		return publicOf(who, err)
	}
	pause, news := t.troubles.note(cooling, err, time.Now())
	if news {
		level := zap.ErrorLevel
		if errors.Is(err, problem.ErrUnauthorized) {
			level = zap.InfoLevel // no fault of anybody
		}
		t.settings().Log.Log(level, doing, zap.String("component", who.Component()),
			zap.String("authorizer", who.Authorizer()), zap.Error(err), remedyOf(err), zap.Duration("retry_in", pause))
		t.emit(eventRenewalFailed, who, slug)
	}
	return publicOf(who, err)
}

// levelOf says what kind of token is who's, for metrics.
func levelOf(who subject.Subject) string {
	if who.IsComponent() {
		return "component"
	}
	return "authorizer"
}

// emit tells Caddy's events app, behind the caller's back.
func (t *Keeper) emit(event string, who subject.Subject, reason string) {
	emit := t.settings().Emit
	data := map[string]any{"component": who.Component()}
	if !who.IsComponent() {
		data["authorizer"] = who.Authorizer()
	}
	if reason != "" {
		data["reason"] = reason
	}
	t.background(func() { emit(event, data) })
}

// remedyOf is the log field that tells an operator what to do, if WeChat's
// refusal asks for anything.
func remedyOf(err error) zap.Field {
	var refusal *openapi.Refusal
	if errors.As(err, &refusal) && refusal.Remedy() != "" {
		return zap.String("remedy", refusal.Remedy())
	}
	return zap.Skip()
}

// publicOf turns a refusal of the component token into the answer there is
// for it; other errors speak for themselves.
func publicOf(who subject.Subject, err error) error {
	if who.IsComponent() && err != nil {
		err = &componentFault{err}
	}
	return shownOf(err)
}

// shownOf is publicOf for a call that the component token, if it could be had,
// was only the means of: a refusal of the call itself speaks for itself.
func shownOf(err error) error {
	var refusal *openapi.Refusal
	var fault *componentFault
	if errors.As(err, &fault) && errors.As(fault, &refusal) {
		return problem.ErrNoComponent.Because("WeChat refuses with errcode %d", refusal.Code)
	}
	return err
}
