// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// host is one host of New, with the pool of its connections. It is safe for
// concurrent use.
//
// A connection has one owner at a time: a call, the list idle, or a goroutine
// that dials or sweeps. Only the owner uses it, so a conn has no mutex.
type host struct {
	options *http.Transport
	address string      // host and port to connect to
	tls     *tls.Config // nil for a host without TLS
	// http1 is set if the host has answered with HTTP/1 and no TLS handshake
	// has failed since then. Only then call may be used.
	http1 atomic.Bool

	// mu guards the fields below. It is held for short times only; neither the
	// network nor a channel is waited for under it.
	mu sync.Mutex
	// idle are the connections that no call uses, the one used last at the end.
	// It is used next, so that the others become old enough to be closed.
	idle []*conn
	// waiting has a channel for each call that found no idle connection, the
	// longest waiting call first. Each has space for one connection. Whoever
	// sends one removes the channel from the list, under the same lock, so a
	// channel gets at most one and sending never blocks.
	waiting []chan *conn
	closed  bool        // set by close: no connection becomes idle any more
	sweeps  *time.Timer // runs sweep; nil if no connection is idle
}

// newHost returns the host of u, whose scheme is http or https. A host without
// TLS speaks HTTP/1 for certain.
func newHost(u *url.URL, options *http.Transport) *host {
	h := &host{options: options, address: u.Host}
	if u.Port() == "" {
		port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
		h.address = net.JoinHostPort(u.Hostname(), port)
	}
	if u.Scheme == "http" {
		h.http1.Store(true)
		return h
	}
	h.tls = new(tls.Config)
	if options.TLSClientConfig != nil {
		h.tls = options.TLSClientConfig.Clone()
	}
	h.tls.NextProtos = []string{"http/1.1"}
	if h.tls.ServerName == "" {
		h.tls.ServerName = u.Hostname()
	}
	return h
}

// call makes one call on an idle connection or on a new one. An idle connection
// that is not usable any more is closed, and the next one is tried. It does
// this before it writes anything, so the request is still sent once.
func (h *host) call(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	for ctx.Err() == nil {
		c, err := h.acquire(ctx)
		if err != nil {
			return nil, err
		}
		if c.unused() {
			return c.call(r)
		}
		c.close()
		if c.since.IsZero() { // a new one; another new one would hardly be better
			return nil, errUnasked
		}
	}
	return nil, context.Cause(ctx)
}

// errUnasked is the error of a call whose new connection is not usable.
var errUnasked = errors.New("a new connection is closed, or brings something, before anything was asked")

// acquire returns a connection that the caller then owns: an idle one, or one
// that another call releases, or a new one, whichever is available first. It
// waits until then, until dialling fails, or until ctx ends, whose cause is
// then the error.
//
// A new connection is made on a goroutine of its own, and with a context that
// does not end with the call. If it comes too late, it is kept for other calls.
// Otherwise no call would ever succeed if callers give up sooner than a
// connection to a distant host can be made.
func (h *host) acquire(ctx context.Context) (*conn, error) {
	c, wanted := h.acquireIdle()
	if c != nil {
		return c, nil
	}
	failed := make(chan error, 1)
	go func() {
		c, err := h.dial(context.WithoutCancel(ctx))
		if err != nil {
			failed <- err
			return
		}
		h.offer(c, wanted)
	}()
	var err error
	select {
	case c := <-wanted:
		return c, nil
	case err = <-failed:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	c = h.cancelWait(wanted)
	switch {
	case c == nil:
		return nil, err
	case ctx.Err() != nil:
		h.release(c)
		return nil, err
	}
	return c, nil
}

// acquireIdle returns the idle connection that was used last. If there is none,
// it adds the caller to waiting and returns its channel. The caller must then
// receive from the channel, or call cancelWait.
func (h *host) acquireIdle() (c *conn, wanted chan *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last := len(h.idle) - 1; last >= 0 {
		c = h.idle[last]
		h.idle = slices.Delete(h.idle, last, last+1)
		return c, nil
	}
	wanted = make(chan *conn, 1)
	h.waiting = append(h.waiting, wanted)
	return nil, wanted
}

// cancelWait removes a call from waiting. It returns the connection that was
// sent to the call in the meantime, or nil. The caller owns it.
func (h *host) cancelWait(wanted chan *conn) *conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.removeWaiting(wanted) {
		return nil
	}
	return <-wanted
}

// offer gives a new connection to the call for which it was made, if that call
// still waits. Otherwise the connection is released.
func (h *host) offer(c *conn, wanted chan *conn) {
	h.mu.Lock()
	waits := h.removeWaiting(wanted)
	if waits {
		wanted <- c
	}
	h.mu.Unlock()
	if !waits {
		h.release(c)
	}
}

// removeWaiting removes a call from waiting, and reports whether it was there.
// The caller holds mu.
func (h *host) removeWaiting(wanted chan *conn) bool {
	i := slices.Index(h.waiting, wanted)
	if i >= 0 {
		h.waiting = slices.Delete(h.waiting, i, i+1)
	}
	return i >= 0
}

// release takes a connection back from its owner. It gives the connection to
// the call that has waited longest, or keeps it as idle, or closes it. It never
// blocks.
func (h *host) release(c *conn) {
	c.since = time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case c.socket.raw == nil:
		c.close() // unused could not check it
	case h.handOver(c):
	case h.closed || len(h.idle) >= h.options.MaxIdleConnsPerHost:
		c.close()
	default:
		h.idle = append(h.idle, c)
		if h.sweeps == nil {
			h.sweeps = time.AfterFunc(sweepInterval, h.sweep)
		}
	}
}

// handOver gives a connection to the call that has waited longest, and reports
// whether there is one. The caller holds mu.
func (h *host) handOver(c *conn) bool {
	if len(h.waiting) == 0 {
		return false
	}
	h.waiting[0] <- c
	h.waiting = slices.Delete(h.waiting, 0, 1)
	return true
}

// sweepInterval is how often idle connections are checked. No goroutine reads
// from them, so without a check nobody would notice that a server has closed
// them, and the sockets would stay open.
const sweepInterval = time.Second

// sweep closes idle connections that are not usable any more, that have been
// idle for IdleConnTimeout, or that are more than MaxIdleConnsPerHost. It runs
// on the goroutine of the timer, as long as there are idle connections.
//
// Connections that were used within the last sweepInterval are not checked,
// because every call checks its connection itself. The others are taken out of
// idle while they are checked, so that no call uses one at the same time; calls
// that found none in that time get them afterwards.
func (h *host) sweep() {
	h.mu.Lock()
	rested := slices.IndexFunc(h.idle, func(c *conn) bool { return time.Since(c.since) < sweepInterval })
	if rested < 0 {
		rested = len(h.idle)
	}
	old := slices.Clone(h.idle[:rested])
	h.idle = slices.Delete(h.idle, 0, rested)
	h.mu.Unlock()

	limit := h.options.IdleConnTimeout
	old = slices.DeleteFunc(old, func(c *conn) bool {
		useless := limit > 0 && time.Since(c.since) >= limit || !c.unused()
		if useless {
			c.close()
		}
		return useless
	})

	h.mu.Lock()
	defer h.mu.Unlock()
	h.idle = append(slices.DeleteFunc(old, h.handOver), h.idle...)
	most := h.options.MaxIdleConnsPerHost
	if h.closed {
		most = 0
	}
	for len(h.idle) > most {
		h.idle[0].close()
		h.idle = slices.Delete(h.idle, 0, 1)
	}
	h.sweeps = nil
	if len(h.idle) > 0 {
		h.sweeps = time.AfterFunc(sweepInterval, h.sweep)
	}
}

// close closes all idle connections, and makes release close the others. It may
// be called again.
func (h *host) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, c := range h.idle {
		c.close()
	}
	h.idle = nil
	if h.sweeps != nil {
		h.sweeps.Stop()
	}
}

// dial makes a connection, with TLS if the host has it. The time is limited by
// DialContext and TLSHandshakeTimeout. The host offers only http/1.1 in the TLS
// handshake (ALPN).
func (h *host) dial(ctx context.Context) (*conn, error) {
	raw, err := h.options.DialContext(ctx, "tcp", h.address)
	if err != nil {
		return nil, err
	}
	raw = impatient(raw)
	socket := newSocket(raw)
	if h.tls == nil {
		return newConn(h, socket, socket), nil
	}
	if limit := h.options.TLSHandshakeTimeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	secured := tls.Client(socket, h.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		raw.Close()
		h.http1.Store(false) // the host may speak another protocol now; http.Transport finds out
		return nil, err
	}
	return newConn(h, socket, secured), nil
}

// headerLimit returns the largest size in bytes of the header of an answer. A
// server without a limit could fill the memory.
func (h *host) headerLimit() int64 {
	if n := h.options.MaxResponseHeaderBytes; n > 0 {
		return n
	}
	return 10 << 20 // the default of http.Transport
}

// deadline returns the time until which the header of an answer must have
// arrived, counted from now, before the request is written. The zero time means
// no limit.
func (h *host) deadline() time.Time {
	if d := h.options.ResponseHeaderTimeout; d > 0 {
		return time.Now().Add(d)
	}
	return time.Time{}
}
