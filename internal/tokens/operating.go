// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

var (
	// ErrAuthorized means that an account cannot be forgotten: it is authorized, or has a
	// code that may still be exchanged, and the next call or list would bring it back.
	ErrAuthorized = errors.New("the account is authorized")
	// ErrAskedLately means that WeChat was asked for a ticket less than a minute ago.
	ErrAskedLately = errors.New("WeChat was asked to push tickets less than a minute ago")
)

// Synced is what came of one page of WeChat's list of the authorizers.
type Synced struct {
	Listed   int // on this page
	New      int // of which nothing was stored here
	Restored int // whose refresh token was another one here, or lost
	Total    int // on all pages
}

// operating is what operators have done. It works on what is known already: an appid
// that an operator has mistyped leaves no record.
type operating struct {
	*componentAPI
}

// renew is Keeper.Renew.
func (o *operating) renew(ctx context.Context, who subject.Subject) (time.Time, error) {
	record, err := o.known(ctx, who)
	if err != nil {
		return time.Time{}, err
	}
	o.endCoolDowns(who)
	source := o.authorizers.source
	if who.IsComponent() {
		source = o.components.source
	}
	token, err := source.fetch(ctx, who, Itself, wanted{old: o.tokenOf(who, record), urged: true})
	if err != nil {
		return time.Time{}, err
	}
	return token.Expires, nil
}

// known returns the record of who. Of a component there need not be one, and one that
// does not open is empty: a renewal replaces it.
func (o *operating) known(ctx context.Context, who subject.Subject) (vault.Record, error) {
	record, err := o.load(ctx, who)
	missing := errors.Is(err, vault.ErrNotFound)
	if recoverable(err) && (who.IsComponent() || !missing) {
		return vault.Record{}, nil
	}
	return record, err
}

func (o *operating) endCoolDowns(who subject.Subject) {
	o.health.Reset(healthKey{who, renewal})
	o.health.Reset(healthKey{who, codeExchange})
}

// reread is Keeper.Reread.
func (o *operating) reread(ctx context.Context, who subject.Subject) error {
	before, err := o.known(ctx, who)
	if err != nil {
		return err
	}
	if err := o.begin(); err != nil {
		return err
	}
	defer o.work.Done()
	o.endCoolDowns(who)
	asked := time.Now()
	info, err := o.callInfo(ctx, who, itself(openapi.EndpointAuthorizerInfo, who.Authorizer()))
	if err != nil {
		return callError(err)
	}
	if profiles := o.settings().Profiles; profiles != nil {
		if err := profiles.Save(ctx, who, info, asked); err != nil {
			return fmt.Errorf("storing the profile: %w", err)
		}
	}
	record, changed, err := o.adoptInfo(ctx, who, before, info, asked)
	if err != nil {
		return err
	}
	o.drop(who)
	if changed {
		o.notices.publish(ctx, who, newID())
		o.bringNews(who, record, record.Trouble, nil)
	}
	return nil
}

// adoptInfo stores what WeChat has told of an account at the time asked, unless its
// record has been renewed since it was as before. An account that had withdrawn has
// authorised the component again, unless an event says otherwise meanwhile.
func (o *operating) adoptInfo(ctx context.Context, who subject.Subject, before vault.Record, info openapi.AuthorizerInfo, asked time.Time) (record vault.Record, changed bool, err error) {
	err = o.locked(ctx, who, func(stored vault.Record) error {
		overtaken := asked.Before(stored.Obtained) || !stored.EventTime.Equal(before.EventTime)
		revived := stored.State == vault.Unauthorized
		if info.Refresh == nil || overtaken || !revived && info.Refresh.Equal(stored.Refresh) {
			return nil
		}
		stored.Refresh, stored.Functions, changed = info.Refresh, info.Functions, true
		if revived {
			stored.State, stored.Met = vault.Authorized, o.meets()
		}
		record, err = o.store(ctx, who, stored)
		return err
	})
	return record, changed, err
}

// forget is Keeper.Forget.
func (o *operating) forget(ctx context.Context, who subject.Subject) error {
	if err := o.begin(); err != nil {
		return err
	}
	defer o.work.Done()
	unlock, err := o.lock(ctx, who)
	if err != nil {
		return err
	}
	defer unlock()
	record, err := o.load(ctx, who)
	if err != nil {
		return err
	}
	if record.State != vault.Unauthorized || codePending(record) {
		return ErrAuthorized
	}
	s := o.settings()
	if err := s.Vault.Remove(ctx, who); err != nil {
		return err
	}
	o.unsaved.remove(who, record)
	o.drop(who)
	o.endCoolDowns(who)
	if s.Profiles != nil {
		s.Profiles.Forget(who)
	}
	o.notices.publish(ctx, who, newID())
	return nil
}

// requestTicket is Keeper.RequestTicket.
func (o *operating) requestTicket(ctx context.Context, component string) error {
	s := o.settings()
	appSecret, ok := s.Components[component]
	if !ok {
		return problem.ErrNoComponent.Because("component %s is not configured", component)
	}
	if !o.health.TicketIsDue(subject.Of(component, ""), time.Now()) {
		return ErrAskedLately
	}
	if _, err := s.Vault.StoreTicket(ctx, component, vault.Ticket{Asked: time.Now()}); err != nil {
		return err
	}
	return s.API.StartPushTicket(ctx, component, appSecret)
}

// tryComponent is Keeper.TryComponent.
func (o *operating) tryComponent(ctx context.Context, component string) error {
	return o.components.withComponentToken(ctx, component, itself(openapi.EndpointPreAuthCode, ""), func(token secret.Secret) error {
		_, err := o.settings().API.PreAuthCode(ctx, component, token)
		return err
	})
}

// syncPage is Keeper.SyncPage.
func (o *operating) syncPage(ctx context.Context, component string, offset int) (Synced, error) {
	began := time.Now()
	list, err := o.fetchList(ctx, component, Itself, offset, openapi.MaxListed)
	if err != nil {
		return Synced{}, callError(err)
	}
	var isNew, restored atomic.Int64
	var adopting errgroup.Group
	adopting.SetLimit(maxAdopting)
	for _, listed := range list.Authorizers {
		if !subject.ValidAppID(listed.AppID) {
			continue
		}
		adopting.Go(func() error {
			adopted, err := o.adoptRefreshToken(ctx, subject.Of(component, listed.AppID), listed.Refresh, began)
			switch adopted {
			case adoptedNew:
				isNew.Add(1)
			case adoptedOther:
				restored.Add(1)
			}
			return err
		})
	}
	err = adopting.Wait()
	return Synced{Listed: len(list.Authorizers), New: int(isNew.Load()), Restored: int(restored.Load()), Total: list.Total}, err
}
