// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// components is the source of component tokens. WeChat issues one for the app
// secret and a ticket that is at most twelve hours old. Each call issues another
// token, and the one before it dies five minutes later: so two processes that
// renew on their own end each other's tokens.
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getcomponentaccesstoken
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
func (c *components) issue(ctx context.Context, who subject.Subject, record vault.Record, _ bool) (vault.Record, error) {
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
	began := time.Now() // the lifetime counts from WeChat's answer; from here is earlier, and safe
	token, err := s.API.ComponentToken(ctx, who.Component(), appSecret, ticket.Value)
	if err != nil {
		if openapi.KindOf(err) == openapi.TicketBad {
			c.tickets.request(ctx, who.Component(), ticket)
		}
		return record, err
	}
	record.Token, record.Obtained, record.Expires = token.Value, began, began.Add(token.Lifetime)
	metrics.ComponentToken(who.Component(), record.Expires) // else it would be missing for a minute, see measure
	return record, nil
}

// measure notes for Prometheus until when the stored token of a component is valid:
// another node may have renewed it. If the storage does not tell, nothing changes.
func (c *components) measure(ctx context.Context, component string) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	record, err := c.load(ctx, subject.Of(component, ""))
	if err == nil || recoverable(err) {
		metrics.ComponentToken(component, record.Expires)
	}
}

// withComponentToken makes a component-level call, see withToken. It is the only
// way from an authorizer down to its component, and renews the component's token
// if that is necessary.
func (c *components) withComponentToken(ctx context.Context, component string, by Caller, call func(componentToken secret.Secret) error) error {
	return c.withToken(ctx, subject.Of(component, ""), by, call)
}
