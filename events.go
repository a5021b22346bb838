// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

// emitter emits Caddy events of one configuration. It is safe for concurrent
// use.
type emitter struct {
	ctx    caddy.Context
	events *caddyevents.App
}

// newEmitter returns an emitter. It makes Caddy provision the app for events,
// which needs no configuration.
func newEmitter(ctx caddy.Context) (*emitter, error) {
	app, err := ctx.App("events")
	if err != nil {
		return nil, err
	}
	return &emitter{ctx, app.(*caddyevents.App)}, nil
}

// emit emits an event, and returns when all subscribers have handled it. A
// subscriber may take any time, so package tokens calls emit on a goroutine of
// its own. data must contain no secret and must not be changed afterwards.
func (e *emitter) emit(name string, data map[string]any) {
	if e.events.ShouldEmit(name) {
		e.events.Emit(e.ctx, name, data)
	}
}
