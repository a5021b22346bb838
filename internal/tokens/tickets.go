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
	// ticketRequestInterval is the least time between two api_start_push_ticket
	// calls of all nodes together.
	ticketRequestInterval = 10 * time.Minute
)

// tickets stores the component_verify_tickets, and asks WeChat for them when none
// comes. A ticket is valid for twelve hours; without one no component token can be
// had, and without that no authorizer token.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/component_verify_ticket.html
type tickets struct{ *records }

// store stores a ticket that WeChat pushed, see Keeper.Ticket.
func (t *tickets) store(ctx context.Context, component string, ticket secret.Secret, created time.Time) error {
	who := subject.Of(component, "")
	before, unknown := t.load(ctx, component)
	pushed := vault.Ticket{Value: ticket, CreateTime: created, Received: time.Now()}
	stands, err := t.settings().Vault.StoreTicket(ctx, component, pushed)
	if err != nil {
		return err
	}
	if stands.Received.Equal(pushed.Received) && (unknown == nil || recoverable(unknown)) {
		t.reportReturn(who, before, pushed.Received)
	}
	metrics.TicketReceived(component, time.Now())
	t.health.Reset(healthKey{who, renewal})
	t.emit(eventTicket, who, "")
	return nil
}

// reportReturn says that tickets come, if there was none before, or none for too long.
func (t *tickets) reportReturn(who subject.Subject, before vault.Ticket, now time.Time) {
	switch gap := now.Sub(before.Received); {
	case before.Value == nil:
		t.log(who).Info("the first component_verify_ticket has come")
	case gap >= ticketDrought:
		t.log(who).Info("component_verify_ticket comes again", zap.Duration("gap", gap))
	}
}

// load returns the ticket of a component.
func (t *tickets) load(ctx context.Context, component string) (vault.Ticket, error) {
	ticket, err := t.settings().Vault.LoadTicket(ctx, component)
	t.reportUnreadable(subject.Of(component, ""), err)
	return ticket, err
}

// check asks for tickets if none came for too long.
func (t *tickets) check(ctx context.Context, component string) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	ticket, err := t.load(ctx, component)
	switch {
	case ticket.Value != nil:
		metrics.TicketReceived(component, ticket.Received) // it may have come to another node
	case recoverable(err) || err == nil:
		metrics.NoTicket(component)
	}
	if !ticketMissing(ticket, err) {
		return
	}
	unlock, err := t.lock(ctx, subject.Of(component, ""))
	if err != nil {
		return
	}
	defer unlock()
	ticket, err = t.load(ctx, component)
	if ticketMissing(ticket, err) {
		t.request(ctx, component, ticket)
	}
}

func ticketMissing(ticket vault.Ticket, err error) bool {
	if err != nil {
		return recoverable(err)
	}
	return time.Since(ticket.Received) >= ticketDrought
}

// request calls api_start_push_ticket, unless some node has done so within
// ticketRequestInterval. WeChat stops its pushes after repeated failures and
// starts them again only when it is asked. The caller holds the component's lock.
func (t *tickets) request(ctx context.Context, component string, ticket vault.Ticket) {
	s := t.settings()
	if time.Since(ticket.Asked) < ticketRequestInterval {
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
		log.Error("no component_verify_ticket, and api_start_push_ticket failed", zap.Error(err), openapi.RemedyField(err))
		return
	}
	log.Warn("no component_verify_ticket, asked WeChat to push again",
		zap.String("remedy", checkEventsURL))
}
