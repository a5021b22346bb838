// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// authorizers is the source of authorizer tokens. WeChat issues one for the
// account's refresh token, which does not expire and must not be lost; if it is
// lost all the same, api_get_authorizer_info may return it again.
// https://developers.weixin.qq.com/doc/oplatform/developers/dev/AuthorizerAccessToken.html
type authorizers struct {
	*source
	components *components
	notices    *notices
}

func newAuthorizers(components *components, notices *notices) *authorizers {
	a := &authorizers{components: components, notices: notices}
	a.source = &source{records: components.records, slots: components.slots, issue: a.issue, limitsLookups: true}
	return a
}

// issue fetches an authorizer token with the refresh token, or finds the refresh
// token again where it is lost.
func (a *authorizers) issue(ctx context.Context, who subject.Subject, record vault.Record, urged bool) (vault.Record, error) {
	if record.State == vault.Unauthorized {
		return a.recheckRevoked(ctx, who, record, urged)
	}
	issued, err := record, error(nil)
	if record.Refresh != nil {
		issued, err = a.refresh(ctx, who, record)
	}
	refused := err
	if record.Refresh == nil || openapi.KindOf(err) == openapi.RefreshDead {
		issued, err = a.recoverRefreshToken(ctx, who, record)
	}
	switch {
	case openapi.KindOf(err) == openapi.RefreshDead:
		return issued, fmt.Errorf("%w: %w", problem.ErrNeedsAdmin, err)
	case errors.Is(err, problem.ErrNeedsAdmin) && refused != nil:
		return issued, fmt.Errorf("%w: %w", err, refused)
	case openapi.KindOf(err) == openapi.Withdrawn && !codePending(record): // a code would be of a new authorization
		_ = a.markUnauthorized(ctx, who, record, err) // what could not be stored is tried again
		return record, problem.ErrUnauthorized
	}
	return issued, err
}

// codePending reports whether a record has a code that may be good.
func codePending(record vault.Record) bool {
	return record.Code != nil && time.Now().Before(record.CodeExpires)
}

// refresh exchanges the record's refresh token for an access token. If WeChat
// sends a refresh token, it replaces ours; an empty one never does, because some
// answers leave it out.
func (a *authorizers) refresh(ctx context.Context, who subject.Subject, record vault.Record) (vault.Record, error) {
	began := time.Now()
	var token openapi.Token
	var refresh secret.Secret
	by := itself(openapi.EndpointAuthorizerToken, who.Authorizer())
	err := a.components.withComponentToken(ctx, who.Component(), by, func(componentToken secret.Secret) (err error) {
		token, refresh, err = a.settings().API.AuthorizerToken(ctx, who.Component(), who.Authorizer(), componentToken, record.Refresh)
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

// recoverRefreshToken asks WeChat for the refresh token of an authorizer whose own
// is lost or was never known here. This is how all accounts of a platform come
// back after the storage was lost. If WeChat returns the same refresh token that
// it has just called invalid, only the account's admin can help: ErrNeedsAdmin.
func (a *authorizers) recoverRefreshToken(ctx context.Context, who subject.Subject, record vault.Record) (vault.Record, error) {
	info, err := a.fetchInfo(ctx, who, record.Generation > 0)
	if err != nil {
		return record, err
	}
	if record.Generation == 0 || record.State == vault.Unauthorized {
		record.Met = a.meets()
	}
	if info.Refresh == nil || info.Refresh.Equal(record.Refresh) {
		return record, problem.ErrNeedsAdmin
	}
	record.Refresh, record.State, record.Functions = info.Refresh, vault.Authorized, info.Functions
	return a.refresh(ctx, who, record)
}

// recheckRevoked asks WeChat whether an account that has withdrawn is authorized
// again: its authorized event may be lost, or an old unauthorized event may have
// come after it. It asks at most every recheckInterval, and not within that time
// after the withdrawal. Otherwise, and if the answer is no, it returns
// ErrUnauthorized. For an operator who urges WeChat is always asked, and the error wraps
// its answer as well.
func (a *authorizers) recheckRevoked(ctx context.Context, who subject.Subject, record vault.Record, urged bool) (vault.Record, error) {
	now := time.Now()
	if due := now.Sub(record.EventTime) >= recheckInterval && a.health.RecheckIsDue(who, now); !due && !urged {
		return record, problem.ErrUnauthorized
	}
	issued, err := a.recoverRefreshToken(ctx, who, record)
	switch {
	case err == nil:
		return issued, nil
	case urged:
		return record, fmt.Errorf("%w: %w", problem.ErrUnauthorized, err)
	}
	return record, problem.ErrUnauthorized
}

// fetchInfo calls api_get_authorizer_info. If the account is not known here and is
// none of the component's, it returns ErrUnauthorized: nothing is stored of appids
// that somebody tries. source limits how often that happens.
func (a *authorizers) fetchInfo(ctx context.Context, who subject.Subject, known bool) (info openapi.AuthorizerInfo, err error) {
	info, err = a.askInfo(ctx, who, itself(openapi.EndpointAuthorizerInfo, who.Authorizer()))
	if !known && openapi.SaysForeign(err) {
		return info, problem.ErrUnauthorized
	}
	return info, err
}

// askInfo makes the call, for by, and lets the profile be kept.
func (a *authorizers) askInfo(ctx context.Context, who subject.Subject, by Caller) (info openapi.AuthorizerInfo, err error) {
	asked := time.Now()
	info, err = a.callInfo(ctx, who, by)
	if profiles := a.settings().Profiles; profiles != nil && err == nil {
		profiles.Learned(who, info, asked)
	}
	return info, err
}

// callInfo makes the call, for by, and tells nobody.
func (a *authorizers) callInfo(ctx context.Context, who subject.Subject, by Caller) (info openapi.AuthorizerInfo, err error) {
	err = a.components.withComponentToken(ctx, who.Component(), by, func(componentToken secret.Secret) (err error) {
		info, err = a.settings().API.AuthorizerInfo(ctx, who.Component(), who.Authorizer(), componentToken)
		return err
	})
	return info, err
}

// markUnauthorized stores that the account has withdrawn its authorisation, and
// drops its tokens. The record stays as a tombstone: without it, the next call
// would look the account up at WeChat. cause is how WeChat has said so, nil for by an
// event. The caller holds the lock. The error is
// that of storing; this node has dropped the tokens in any case.
func (a *authorizers) markUnauthorized(ctx context.Context, who subject.Subject, record vault.Record, cause error) error {
	for _, token := range []*Token{a.tokenOf(who, record), a.memory.Get(who)} {
		if token != nil {
			a.revoke(who, token)
		}
	}
	a.health.RecheckIsDue(who, time.Now()) // so that it is not, after what WeChat has just said
	record.State, record.Note = vault.Unauthorized, withdrawalNote(cause, time.Now())
	record.Token, record.Refresh, record.Code = nil, nil, nil
	_, err := a.save(ctx, who, record)
	a.drop(who)
	a.notices.publish(ctx, who, newID())
	a.emit(eventUnauthorized, who, "")
	a.log(who).Warn("authorizer has withdrawn its authorization")
	return err
}

// recheck starts a renewal in the background, which shows whether an account is
// still authorized, see Keeper.Recheck. It does so at most every recheckInterval.
func (a *authorizers) recheck(who subject.Subject, token *Token) {
	if a.health.RecheckIsDue(who, time.Now()) {
		a.background(func() { _, _ = a.fetch(a.ctx, who, Itself, wanted{old: token}) })
	}
}
