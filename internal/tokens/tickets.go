// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// ticketDrought is how long without a ticket is no longer normal: WeChat
	// pushes one every ten minutes.
	ticketDrought = 25 * time.Minute
	// askEvery is the least time between two api_start_push_ticket calls of
	// all nodes together.
	askEvery = 10 * time.Minute
	// watchEvery is how often the age of the tickets is looked at.
	watchEvery = time.Minute
)

// Ticket stores a component_verify_ticket that WeChat pushed. Only when it
// returns nil may the push be acknowledged. An older ticket never replaces a
// newer one, by WeChat's CreateTime; a new one ends the component's cool-down.
func (t *Keeper) Ticket(ctx context.Context, component string, ticket secret.Secret, created time.Time) error {
	_, err := t.settings().Vault.StoreTicket(ctx, component, vault.Ticket{Value: ticket, CreateTime: created, Received: time.Now()})
	if err != nil {
		return err
	}
	metrics.TicketReceived(component, time.Now())
	t.troubles.heal(subject.Of(component, ""))
	t.emit(eventTicket, subject.Of(component, ""), "")
	return nil
}

// PreAuthCode fetches a pre_auth_code for the launch page.
func (t *Keeper) PreAuthCode(ctx context.Context, component string) (openapi.PreAuthCode, error) {
	var code openapi.PreAuthCode
	err := t.asComponent(ctx, component, func(componentToken secret.Secret) (err error) {
		code, err = t.settings().API.PreAuthCode(ctx, component, componentToken)
		return err
	})
	return code, publicOf(subject.Of(component, ""), err)
}

// watch asks WeChat to push tickets whenever they fail to come, and goes on
// with codes that were left pending, until ctx ends or t is closed. It looks
// once at the start and then every minute.
func (t *Keeper) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		for component := range t.settings().Components {
			t.watchTicket(ctx, component)
			t.resumePending(ctx, component)
		}
		t.troubles.sweep(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		case <-t.life.Done():
			return
		}
	}
}

// watchTicket asks for tickets if none came for too long.
func (t *Keeper) watchTicket(ctx context.Context, component string) {
	ctx, cancel := context.WithTimeout(ctx, obtainLimit)
	defer cancel()
	ticket, err := t.loadTicket(ctx, component)
	if ticket.Value != nil {
		metrics.TicketReceived(component, ticket.Received) // it may have come to another node
	}
	if !ticketsMissing(ticket, err) {
		return
	}
	unlock, err := t.lock(ctx, subject.Of(component, ""))
	if err != nil {
		return
	}
	defer unlock()
	ticket, err = t.loadTicket(ctx, component)
	if ticketsMissing(ticket, err) {
		t.askForTicket(ctx, component, ticket)
	}
}

func ticketsMissing(ticket vault.Ticket, err error) bool {
	if err != nil {
		return recoverable(err)
	}
	return time.Since(ticket.Received) >= ticketDrought
}

// askForTicket calls api_start_push_ticket, unless some node has done so
// within the last ten minutes. The caller holds the component's lock.
func (t *Keeper) askForTicket(ctx context.Context, component string, ticket vault.Ticket) {
	s := t.settings()
	if time.Since(ticket.Asked) < askEvery {
		return
	}
	// Written down before the call: a crash in between must not let every
	// restart ask again.
	if _, err := s.Vault.StoreTicket(ctx, component, vault.Ticket{Asked: time.Now()}); err != nil {
		return // the storage says so itself, and this is tried again in a minute at the latest
	}
	last := "never"
	if !ticket.Received.IsZero() {
		last = ticket.Received.Format(time.RFC3339)
	}
	log := s.Log.With(zap.String("component", component), zap.String("last_ticket", last))
	if err := s.API.StartPushTicket(ctx, component, s.Components[component]); err != nil {
		log.Error("no component_verify_ticket, and api_start_push_ticket failed", zap.Error(err), remedyOf(err))
		return
	}
	log.Warn("no component_verify_ticket, asked WeChat to push again",
		zap.String("remedy", "check that the authorization events URL on open.weixin.qq.com is this gateway's"))
}
