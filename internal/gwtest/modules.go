// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"context"
	"encoding/json"
	"net/http"
	"os"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(eventLog{})
	caddy.RegisterModule(panicker{})
	httpcaddyfile.RegisterHandlerDirective("gwtest_panic", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return new(panicker), nil
	})
}

// eventLog writes Caddy's events to a file, one in a line.
type eventLog struct {
	File string `json:"file,omitempty"`
}

func (eventLog) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.gwtest_events", New: func() caddy.Module { return new(eventLog) }}
}

// UnmarshalCaddyfile reads gwtest_events <file>.
func (e *eventLog) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&e.File) {
		return d.ArgErr()
	}
	return nil
}

// Handle implements caddyevents.Handler.
func (e *eventLog) Handle(_ context.Context, event caddy.Event) error {
	line, err := json.Marshal(map[string]any{"name": event.Name(), "data": event.Data})
	if err != nil {
		return err
	}
	file, err := os.OpenFile(e.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.Write(append(line, '\n'))
	return err
}

// PanicHeader makes the gateway panic at a request, "before" or "after" it is
// handled, as a mistake in some other module would.
const PanicHeader = "X-Gwtest-Panic"

type panicker struct{}

func (panicker) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.gwtest_panic", New: func() caddy.Module { return new(panicker) }}
}

func (panicker) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.Header.Get(PanicHeader) == "before" {
		panic("a panic before the handler")
	}
	err := next.ServeHTTP(w, r)
	if r.Header.Get(PanicHeader) == "after" {
		panic("a panic after the handler")
	}
	return err
}

var (
	_ caddyevents.Handler         = (*eventLog)(nil)
	_ caddyfile.Unmarshaler       = (*eventLog)(nil)
	_ caddyhttp.MiddlewareHandler = (*panicker)(nil)
)
