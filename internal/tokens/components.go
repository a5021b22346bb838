// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// components is the source of component tokens: WeChat issues one for the newest
// ticket.
type components struct {
	*source
	tickets *tickets
}

func newComponents(tickets *tickets, slots *slots) *components {
	c := &components{tickets: tickets}
	c.source = &source{records: tickets.records, slots: slots, issue: c.issue}
	return c
}

// issue fetches a component token with the newest ticket.
func (c *components) issue(ctx context.Context, who subject.Subject, record vault.Record) (vault.Record, error) {
	s := c.settings()
	appSecret, ok := s.Components[who.Component()]
	if !ok {
		return record, problem.ErrNoComponent.Because("component %s is not configured", who.Component())
	}
	ticket, err := c.tickets.load(ctx, who.Component())
	if err != nil && !recoverable(err) {
		return record, err
	}
	if ticket.Value == nil {
		c.tickets.request(ctx, who.Component(), ticket)
		return record, problem.ErrNoTicket
	}
	began := time.Now()
	token, err := s.API.ComponentToken(ctx, who.Component(), appSecret, ticket.Value)
	if err != nil {
		if openapi.KindOf(err) == openapi.TicketBad {
			c.tickets.request(ctx, who.Component(), ticket)
		}
		return record, err
	}
	record.Token, record.Obtained, record.Expires = token.Value, began, began.Add(token.Lifetime)
	return record, nil
}

// withComponentToken makes a component-level call, see withToken.
func (c *components) withComponentToken(ctx context.Context, component string, call func(componentToken secret.Secret) error) error {
	return c.withToken(ctx, subject.Of(component, ""), call)
}
