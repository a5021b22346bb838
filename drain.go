// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const (
	// drainTimeout is how long stopping waits for busy connections to end.
	drainTimeout = time.Second
	// quietInterval without a request means that no connection is busy.
	quietInterval = 150 * time.Millisecond
)

// drain ends kept-alive connections in good order before Caddy stops the
// servers of a configuration, mostly at a reload. Their Shutdown drops at once
// every request that has arrived but is not read yet: under load one for every
// second connection. So, once Caddy says that it is stopping, every answer
// tells its client to take another connection. Most of these the servers of the
// next configuration accept; what the old ones accept is served apart.
type drain struct {
	stopping atomic.Bool
	requests atomic.Int64 // answered while stopping
	guarded  map[*caddyhttp.Server]bool
}

func newDrain() *drain { return &drain{guarded: make(map[*caddyhttp.Server]bool)} }

// watch is called while a handler of a server is provisioned.
func (d *drain) watch(ctx caddy.Context) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if ok && !d.guarded[server] { // else another handler of the server was here
		d.guarded[server] = true
		server.RegisterConnContext(d.accept)
	}
}

// accept is called by the loop that accepts connections. While stopping it has
// the connection served apart, because the loop's own server would drop the
// request if Shutdown came before it was read.
func (d *drain) accept(ctx context.Context, conn net.Conn) context.Context {
	old, ok := ctx.Value(http.ServerContextKey).(*http.Server)
	if !ok || !d.stopping.Load() {
		return ctx
	}
	if apart := moveAway(conn); apart != nil {
		go serveApart(ctx, old, apart)
	} else {
		serveApart(ctx, old, conn) // and so holds the loop up, whose server must not have it
	}
	return ctx
}

// moveAway gives the connection another descriptor and closes the one that the
// loop goes on with. That is possible for plain TCP alone.
func moveAway(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	file, err := tcp.File()
	if err != nil {
		return nil
	}
	defer file.Close()
	apart, err := net.FileConn(file)
	if err != nil {
		return nil
	}
	tcp.Close()
	return apart
}

func serveApart(ctx context.Context, old *http.Server, conn net.Conn) {
	once := &onceListener{conn: make(chan net.Conn, 1), closed: make(chan struct{}), addr: conn.LocalAddr()}
	once.conn <- conn
	server := &http.Server{
		Handler:           old.Handler,
		ErrorLog:          old.ErrorLog,
		ReadHeaderTimeout: drainTimeout, // or an idle connection would stay for ever
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				once.Close()
			}
		},
	}
	server.SetKeepAlivesEnabled(false)
	_ = server.Serve(once)
}

// onceListener is a listener with one connection.
type onceListener struct {
	conn   chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

func (l *onceListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conn:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *onceListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *onceListener) Addr() net.Addr { return l.addr }

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
	d.stopping.Store(true)
	for end := time.Now().Add(drainTimeout); time.Now().Before(end) && d.busy(quietInterval); {
	}
	return nil
}

// busy waits and reports whether a request was answered meanwhile.
func (d *drain) busy(within time.Duration) bool {
	before := d.requests.Load()
	time.Sleep(within)
	return d.requests.Load() > before
}

// closeIfStopping is called before a request is answered.
func (d *drain) closeIfStopping(w http.ResponseWriter) {
	if d.stopping.Load() {
		d.requests.Add(1)
		w.Header().Set("Connection", "close")
	}
}

var _ caddyevents.Handler = (*drain)(nil)
