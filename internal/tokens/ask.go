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

// What clients ask of the component API, the gateway asks for them. What
// WeChat hands out is stored here before the client is answered; no answer
// that leaves this file holds a credential, but for those of Ask.

// Ask makes a call with who's token and returns WeChat's answer as it came.
func (t *Keeper) Ask(ctx context.Context, who subject.Subject, endpoint string, body openapi.Params) (answer []byte, err error) {
	err = t.as(ctx, who, func(token secret.Secret) (err error) {
		answer, err = t.settings().API.Ask(ctx, endpoint, token, body)
		return err
	})
	return answer, shownOf(err)
}

// AskWithSecret makes a call that carries the component's app secret, in the
// member of that name, and no token.
func (t *Keeper) AskWithSecret(ctx context.Context, component, endpoint, name string, body openapi.Params) ([]byte, error) {
	s := t.settings()
	return s.API.AskWithSecret(ctx, endpoint, name, s.Components[component], body)
}

// Authorization is what a client is told about an authorization_code.
type Authorization struct {
	Authorizer string
	Functions  []int  // ids of the permission sets granted
	Tokens     bool   // the account has tokens: it has granted an API
	Answer     []byte // WeChat's, with openapi.Withheld for its tokens; nil if another process has exchanged the code
}

// QueryAuth is Exchange for a client that wants to know more than the appid.
func (t *Keeper) QueryAuth(ctx context.Context, component string, code secret.Secret) (Authorization, error) {
	appid, err := t.Exchange(ctx, component, code)
	if err != nil {
		return Authorization{}, err
	}
	if answer := t.codes.answer(idOf(component, code)); answer != nil {
		return Authorization{Authorizer: appid, Answer: answer}, nil
	}
	record, err := t.load(ctx, subject.Of(component, appid))
	return Authorization{Authorizer: appid, Functions: record.Functions, Tokens: record.Refresh != nil}, err
}

// AuthorizerInfo asks WeChat who an authorizer is, and stores the refresh
// token that it tells.
func (t *Keeper) AuthorizerInfo(ctx context.Context, who subject.Subject) (info openapi.AuthorizerInfo, err error) {
	began := time.Now()
	err = t.asComponent(ctx, who.Component(), func(token secret.Secret) (err error) {
		info, err = t.settings().API.AuthorizerInfo(ctx, who.Component(), who.Authorizer(), token)
		return err
	})
	if err != nil {
		return info, shownOf(err)
	}
	t.learn(ctx, who, info.Refresh, began)
	return info, nil
}

// AuthorizerList asks WeChat for one page of the authorizers, and stores the
// refresh tokens that it tells.
func (t *Keeper) AuthorizerList(ctx context.Context, component string, offset, count int) (list openapi.AuthorizerList, err error) {
	began := time.Now()
	err = t.asComponent(ctx, component, func(token secret.Secret) (err error) {
		list, err = t.settings().API.AuthorizerList(ctx, component, token, offset, count)
		return err
	})
	if err != nil {
		return list, shownOf(err)
	}
	var learning errgroup.Group
	learning.SetLimit(learnAtOnce)
	for _, listed := range list.Authorizers {
		if subject.ValidAppID(listed.AppID) {
			learning.Go(func() error {
				t.learn(ctx, subject.Of(component, listed.AppID), listed.Refresh, began)
				return nil
			})
		}
	}
	return list, learning.Wait()
}

// learnAtOnce is how many records of one page are looked at at the same time.
const learnAtOnce = 8

// learn stores a refresh token that WeChat has told at the time asked, if it is
// not known already. Where the account has withdrawn, its next authorized
// event decides and not a list. Without storage nothing is learnt and nothing
// lost: WeChat tells again.
func (t *Keeper) learn(ctx context.Context, who subject.Subject, refresh secret.Secret, asked time.Time) {
	record, err := t.load(ctx, who)
	if err == nil || recoverable(err) {
		if refresh == nil || record.State == vault.Unauthorized || refresh.Equal(record.Refresh) || t.begin() != nil {
			return
		}
		defer t.work.Done()
		err = t.update(ctx, who, func(record *vault.Record) error {
			if record.State != vault.Unauthorized && !asked.Before(record.Obtained) { // else it was renewed meanwhile
				record.Refresh = refresh
			}
			return nil
		})
	}
	if err != nil {
		t.settings().Log.Warn("storing the refresh token of a list or an info failed; WeChat will tell it again",
			zap.String("component", who.Component()), zap.String("authorizer", who.Authorizer()), zap.Error(err))
	}
}
