// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const (
	// drainMost is how long stopping waits for busy connections to end.
	drainMost = 500 * time.Millisecond
	// drainQuiet without a request means that no connection is busy.
	drainQuiet = 50 * time.Millisecond
	// drainLast is how long it then waits for the request of the connection
	// that was held up meanwhile.
	drainLast = 200 * time.Millisecond
)

// drain ends kept-alive connections in good order before Caddy stops the
// servers of a configuration, mostly at a reload. Their Shutdown drops at once
// every request that has arrived but is not read yet: under load one for every
// second connection. So, once Caddy says that it is stopping, every answer
// tells its client to take another connection, and the old servers accept none,
// so that it will be one of the servers of the next configuration.
type drain struct {
	stopping atomic.Bool
	requests atomic.Int64  // answered while stopping
	drained  chan struct{} // closed when the busy connections have ended
	over     chan struct{} // closed when Caddy may stop
	gates    map[*caddyhttp.Server]*gate
}

// gate stands before the connections of one server.
type gate struct {
	*drain
	held atomic.Bool // the first connection that came while stopping waits for drained
}

func newDrain() *drain {
	return &drain{drained: make(chan struct{}), over: make(chan struct{}), gates: make(map[*caddyhttp.Server]*gate)}
}

// guard is called while a handler of a server is provisioned.
func (d *drain) guard(ctx caddy.Context) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if ok && d.gates[server] == nil { // else another handler of the server was here
		d.gates[server] = &gate{drain: d}
		server.RegisterConnContext(d.gates[server].accept)
	}
}

// accept is called by the loop that accepts connections, and holds it up.
func (g *gate) accept(ctx context.Context, _ net.Conn) context.Context {
	switch {
	case !g.stopping.Load():
	case g.held.CompareAndSwap(false, true):
		<-g.drained
	default:
		<-g.over
	}
	return ctx
}

// subscribe lets d know when Caddy is stopping the configuration of ctx.
func (d *drain) subscribe(ctx caddy.Context) error {
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	return events.(*caddyevents.App).On("stopping", d)
}

// Handle implements caddyevents.Handler. Caddy waits for it.
func (d *drain) Handle(context.Context, caddy.Event) error {
	defer close(d.over)
	d.stopping.Store(true)
	for end := time.Now().Add(drainMost); time.Now().Before(end) && d.busy(drainQuiet); {
	}
	close(d.drained)
	if d.holds() {
		for end := time.Now().Add(drainLast); time.Now().Before(end) && !d.busy(drainLast/20); {
		}
	}
	return nil
}

// holds reports whether a connection was held up.
func (d *drain) holds() bool {
	for _, gate := range d.gates {
		if gate.held.Load() {
			return true
		}
	}
	return false
}

// busy waits and reports whether a request was answered meanwhile.
func (d *drain) busy(within time.Duration) bool {
	before := d.requests.Load()
	time.Sleep(within)
	return d.requests.Load() > before
}

// answer is called before a request is answered.
func (d *drain) answer(w http.ResponseWriter) {
	if d.stopping.Load() {
		d.requests.Add(1)
		w.Header().Set("Connection", "close")
	}
}

var _ caddyevents.Handler = (*drain)(nil)
