// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// maxAdopting is how many records of one page of a list are looked at at a time.
const maxAdopting = 8

// Authorization is what a client is told about an authorization_code.
type Authorization struct {
	Authorizer string
	Functions  []int  // ids of the permission sets granted
	Tokens     bool   // the account has tokens: it has granted an API
	Answer     []byte // WeChat's, with openapi.Withheld for its tokens; nil if another process has exchanged the code
}

// componentAPI makes the calls of WeChat's component API that clients ask for.
// What WeChat hands out is stored before the client is answered; no answer holds a
// credential but for those of Keeper.CallComponentAPI.
type componentAPI struct{ *exchange }

// queryAuth is Keeper.QueryAuth.
func (c *componentAPI) queryAuth(ctx context.Context, component string, code secret.Secret) (Authorization, error) {
	appid, err := c.do(ctx, component, code)
	if err != nil {
		return Authorization{}, err
	}
	if answer := c.codes.Answer(codeID(component, code)); answer != nil {
		return Authorization{Authorizer: appid, Answer: answer}, nil
	}
	record, err := c.load(ctx, subject.Of(component, appid))
	return authorizationIn(record, appid), err
}

// authorizationIn returns what a record says of an authorisation.
func authorizationIn(record vault.Record, appid string) Authorization {
	return Authorization{Authorizer: appid, Functions: record.Functions, Tokens: record.Refresh != nil}
}

// authorizationOf is Keeper.Authorization.
func (c *componentAPI) authorizationOf(ctx context.Context, who subject.Subject, client string) (Authorization, error) {
	record, err := c.load(ctx, who)
	if err == nil && codePending(record) {
		// An account that only changes what it grants has a refresh token, which is good
		// whatever becomes of the code. Without one, current meets the same failure.
		_ = c.exchangePending(ctx, who, record)
		record, err = c.load(ctx, who)
	}
	if err == nil && !tellsGrant(record) || recoverable(err) {
		if _, err = c.authorizers.current(ctx, who, client); err == nil {
			record, err = c.load(ctx, who)
		}
	}
	return authorizationIn(record, who.Authorizer()), err
}

// tellsGrant reports whether a record tells what its account has granted. One that has
// been exchanged and still has no refresh token is of an account that has granted no API.
func tellsGrant(record vault.Record) bool {
	exchanged := !record.Obtained.IsZero() && !codePending(record)
	return record.State == vault.Authorized && (record.Refresh != nil || exchanged)
}

// preAuthCode is Keeper.PreAuthCode.
func (c *componentAPI) preAuthCode(ctx context.Context, component string) (code openapi.PreAuthCode, err error) {
	err = c.components.withComponentToken(ctx, component, itself(openapi.EndpointPreAuthCode, ""), func(componentToken secret.Secret) (err error) {
		code, err = c.settings().API.PreAuthCode(ctx, component, componentToken)
		return err
	})
	return code, publicError(subject.Of(component, ""), err)
}

// authorizerInfo is Keeper.AuthorizerInfo.
func (c *componentAPI) authorizerInfo(ctx context.Context, who subject.Subject, client string) (info openapi.AuthorizerInfo, err error) {
	began := time.Now()
	info, err = c.askInfo(ctx, who, Caller{client, openapi.EndpointAuthorizerInfo})
	if err != nil {
		return info, callError(err)
	}
	_, _ = c.adoptRefreshToken(ctx, who, info.Refresh, began) // WeChat tells it again
	return info, nil
}

// authorizerList is Keeper.AuthorizerList.
func (c *componentAPI) authorizerList(ctx context.Context, component, client string, offset, count int) (list openapi.AuthorizerList, err error) {
	began := time.Now()
	if list, err = c.fetchList(ctx, component, client, offset, count); err != nil {
		return list, callError(err)
	}
	var adopting errgroup.Group
	adopting.SetLimit(maxAdopting)
	for _, listed := range list.Authorizers {
		if subject.ValidAppID(listed.AppID) {
			adopting.Go(func() error {
				_, _ = c.adoptRefreshToken(ctx, subject.Of(component, listed.AppID), listed.Refresh, began) // WeChat tells it again
				return nil
			})
		}
	}
	return list, adopting.Wait()
}

// fetchList asks WeChat for one page of the authorizers, for client.
func (c *componentAPI) fetchList(ctx context.Context, component, client string, offset, count int) (list openapi.AuthorizerList, err error) {
	by := Caller{client, openapi.EndpointAuthorizerList}
	err = c.components.withComponentToken(ctx, component, by, func(token secret.Secret) (err error) {
		list, err = c.settings().API.AuthorizerList(ctx, component, token, offset, count)
		return err
	})
	return list, err
}

// adopted is what has become of a refresh token that WeChat has told.
type adopted uint8

const (
	adoptedNothing adopted = iota // it is known, or is not to be stored
	adoptedNew                    // nothing was stored of the account
	adoptedOther                  // another one was stored, or none
)

// adoptRefreshToken stores a refresh token that WeChat has told at the time asked,
// if it is not known already. Where the account has withdrawn, its next authorized
// event decides and not a list. Without storage nothing is stored and nothing
// lost: WeChat tells again. The error, which it logs, is that of the storage.
func (c *componentAPI) adoptRefreshToken(ctx context.Context, who subject.Subject, refresh secret.Secret, asked time.Time) (done adopted, err error) {
	record, err := c.load(ctx, who)
	if err == nil || recoverable(err) {
		if refresh == nil || record.State == vault.Unauthorized || refresh.Equal(record.Refresh) || c.begin() != nil {
			return adoptedNothing, nil
		}
		defer c.work.Done()
		err = c.update(ctx, who, func(stored *vault.Record) error {
			if stored.State != vault.Unauthorized && !asked.Before(stored.Obtained) { // else it was renewed meanwhile
				stored.Refresh, done = refresh, adoptedOther
			}
			if stored.Generation == 0 {
				stored.Met, done = c.meets(), adoptedNew
			}
			record = *stored
			return nil
		})
		if err == nil {
			c.bringNews(who, record, record.Trouble, nil)
			return done, nil
		}
	}
	c.log(who).Warn("storing the refresh token of a list or an info failed; WeChat will tell it again", zap.Error(err))
	return adoptedNothing, err
}
