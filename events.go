// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

// newEmitter returns a function that emits Caddy events of one configuration, and returns
// when all subscribers have handled it. A subscriber may take any time, so package tokens
// calls it on a goroutine of its own. data must contain no secret and must not be changed
// afterwards. Caddy provisions the app for events, which needs no configuration.
func newEmitter(ctx caddy.Context) (emit func(name string, data map[string]any), err error) {
	app, err := ctx.App("events")
	if err != nil {
		return nil, err
	}
	events := app.(*caddyevents.App)
	return func(name string, data map[string]any) {
		if events.ShouldEmit(name) {
			events.Emit(ctx, name, data)
		}
	}, nil
}
