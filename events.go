// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
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
