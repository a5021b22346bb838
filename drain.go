// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechat/caddy-wechat/internal/apart"
)

const (
	// drainTimeout is the longest time, within that of apart.Quiet, by which a drain
	// delays the stop of a configuration. It is also the time in which the TLS
	// handshake and the header of a request must arrive on a connection that is
	// served apart.
	drainTimeout = time.Second
	// defaultGrace is used here in place of grace_period where that is not set.
	// Caddy itself then waits without a limit for connections that it knows.
	defaultGrace = 10 * time.Second
)

// servedApart is the number of connections that the drains of all configurations
// serve apart. The servers of Caddy do not know them, so an exit must wait for
// them itself.
var servedApart atomic.Int64

// drain closes the idle (keep-alive) connections of clients without losing a
// request, before Caddy stops the servers of a configuration, at a reload or at
// the end of the process.
//
// Server.Shutdown of net/http closes a connection at once if no request on it
// is being served. A request that has arrived but is not read yet is lost with
// it. Under load that is one request for every second connection.
//
// So, from the event stopping on, every answer tells its client to close the
// connection. Most new connections are then accepted by the servers of the next
// configuration. Those that the old servers still accept are served apart, by a
// server that is not shut down.
//
// There is one drain for each App. It is safe for concurrent use, except watch
// and subscribe.
type drain struct {
	stopping atomic.Bool                // set by the event stopping, never reset
	requests atomic.Int64               // number of answers while stopping
	before   func()                     // what may take long and must be done before the stop
	guarded  map[*caddyhttp.Server]bool // servers that call accept; used by watch only
	ctx      caddy.Context              // of the configuration; set by subscribe
	end      time.Time                  // nothing is waited for longer; set before stopping
}

// newDrain returns a drain that does nothing until the configuration stops. It calls
// before when the stop begins. What takes long belongs there and not into App.Stop:
// between the end of the drain and the stop of the servers no time may pass, or
// requests come on connections that seemed to be idle.
func newDrain(before func()) *drain {
	return &drain{before: before, guarded: make(map[*caddyhttp.Server]bool)}
}

// watch makes the server of a handler call accept for each new connection, and
// finish when it has shut down. It is called while the handler is provisioned
// with ctx. Caddy provisions handlers one after the other.
func (d *drain) watch(ctx caddy.Context) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || d.guarded[server] { // another handler of the same server has done it
		return
	}
	d.guarded[server] = true
	// Caddy makes the configuration of its listeners from the policies, too.
	config := sync.OnceValue(func() *tls.Config { return server.TLSConnPolicies.TLSConfig(ctx) })
	server.RegisterConnContext(func(connCtx context.Context, conn net.Conn) context.Context {
		if d.stopping.Load() {
			d.accept(connCtx, conn, config)
		}
		return connCtx
	})
	server.RegisterOnStop(d.finish)
}

// accept is called, while the configuration is stopping, by the loop of net/http
// that accepts connections, for each new one. It serves the connection apart,
// because the server of the loop would lose the request if Shutdown came before it
// was read. The loop must not serve the same connection: it gets one that is
// closed.
//
// A connection that cannot be moved away is served before accept returns. The
// loop waits for that, and Shutdown waits for the loop, whatever the grace period
// is. So such a connection is cut off at d.end.
func (d *drain) accept(ctx context.Context, conn net.Conn, config func() *tls.Config) {
	old, ok := ctx.Value(http.ServerContextKey).(*http.Server)
	if !ok {
		return
	}
	servedApart.Add(1)
	if moved := apart.Move(conn, config); moved != nil {
		go func() {
			defer servedApart.Add(-1)
			apart.Serve(ctx, old, moved, drainTimeout)
		}()
		return
	}
	defer servedApart.Add(-1)
	defer time.AfterFunc(time.Until(d.end), func() { conn.Close() }).Stop()
	apart.Serve(ctx, old, conn, drainTimeout)
}

// subscribe makes Caddy call Handle before it stops the configuration of ctx.
func (d *drain) subscribe(ctx caddy.Context) error {
	d.ctx = ctx
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	return events.(*caddyevents.App).On("stopping", d)
}

// Handle is called for the event stopping. Caddy waits for it before it stops
// the servers. It returns after drainTimeout, or when requests have ceased. It
// never returns an error.
func (d *drain) Handle(context.Context, caddy.Event) error {
	d.before()
	d.end = time.Now().Add(drainTimeout + d.grace())
	d.stopping.Store(true)
	for end := time.Now().Add(drainTimeout); time.Now().Before(end) && !apart.Quiet(&d.requests); {
	}
	return nil
}

// grace returns how long Caddy waits for requests when it stops the servers.
func (d *drain) grace() time.Duration {
	app, err := d.ctx.AppIfConfigured("http")
	if err != nil {
		return defaultGrace
	}
	servers := app.(*caddyhttp.App)
	if servers.GracePeriod == 0 {
		return time.Duration(servers.ShutdownDelay) + defaultGrace
	}
	return time.Duration(servers.ShutdownDelay + servers.GracePeriod)
}

// deadline returns the end of the grace period; now, if the event stopping has not
// come.
func (d *drain) deadline() time.Time {
	if !d.stopping.Load() {
		return time.Now()
	}
	return d.end
}

// finish is called when a server has shut down. If the process exits, it waits
// for the connections that are served apart, within the grace period: ctx ends
// with it. It never returns an error.
func (d *drain) finish(ctx context.Context) error {
	if !caddy.Exiting() {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, d.end)
	defer cancel()
	for servedApart.Load() > 0 && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// closeIfStopping makes the answer to a request close its connection, if the
// configuration is stopping. Every handler calls it before it writes an answer.
func (d *drain) closeIfStopping(w http.ResponseWriter) {
	if d.stopping.Load() {
		d.requests.Add(1)
		w.Header().Set("Connection", "close")
	}
}

var _ caddyevents.Handler = (*drain)(nil)
