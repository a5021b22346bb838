// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

// The events that other modules can subscribe to, by Caddy's events app. Each
// carries component, and where there is one authorizer; none carries a secret.
const (
	// eventTicket: a component_verify_ticket was pushed and stored.
	eventTicket = "wechat_ticket_received"
	// eventAuthorized: an account has authorised the platform or changed what it grants.
	eventAuthorized = "wechat_authorized"
	// eventUnauthorized: an account has withdrawn.
	eventUnauthorized = "wechat_unauthorized"
	// eventRenewalFailed: a token could not be renewed; once for each kind of
	// failure, with its slug as reason.
	eventRenewalFailed = "wechat_renewal_failed"
)

// emitter emits events of one configuration.
type emitter struct {
	ctx    caddy.Context
	events *caddyevents.App
}

func newEmitter(ctx caddy.Context) (*emitter, error) {
	app, err := ctx.App("events")
	if err != nil {
		return nil, err
	}
	return &emitter{ctx, app.(*caddyevents.App)}, nil
}

// emit emits an event. Subscribers are called before it returns, so it is
// called where nobody waits.
func (e *emitter) emit(name string, data map[string]any) {
	if e.events.ShouldEmit(name) {
		e.events.Emit(e.ctx, name, data)
	}
}
