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

// host is one place to call, with the connections to it.
type host struct {
	options *http.Transport
	address string      // to dial
	tls     *tls.Config // nil for none
	http1   atomic.Bool // it has spoken HTTP/1, and no TLS has failed since

	mu      sync.Mutex
	idle    []*conn      // the one used last, and used next, at the end
	waiting []chan *conn // calls that found nothing idle, the first at the beginning
	closed  bool
	sweeps  *time.Timer // nil until something is idle
}

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

// call makes a call, unless the caller has gone before it begins.
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
		if c.since.IsZero() { // or each one after it would be made in vain as well
			return nil, errUnasked
		}
	}
	return nil, context.Cause(ctx)
}

var errUnasked = errors.New("a new connection is closed, or brings something, before anything was asked")

// acquire returns a connection that is idle, that becomes so, or that is made
// meanwhile, whichever is first. One that is made too late is kept for others:
// callers without patience would else never get one from a host that is far.
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

// acquireIdle returns the connection that was used last. If there is none, it
// returns where the next one will come.
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

// cancelWait ends the waiting, and returns what has come meanwhile.
func (h *host) cancelWait(wanted chan *conn) *conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.removeWaiting(wanted) {
		return nil
	}
	return <-wanted
}

// offer hands a new connection to the call that it was made for, if that still
// waits.
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

// removeWaiting takes a call out of those that wait, and reports whether it was there.
func (h *host) removeWaiting(wanted chan *conn) bool {
	i := slices.Index(h.waiting, wanted)
	if i >= 0 {
		h.waiting = slices.Delete(h.waiting, i, i+1)
	}
	return i >= 0
}

// release hands a connection to a call that waits, keeps it for the next one, or
// closes it.
func (h *host) release(c *conn) {
	c.since = time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case c.socket.raw == nil:
		c.close() // nobody could ask what has come
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

// handOver gives a connection to the call that has waited longest, if any does.
func (h *host) handOver(c *conn) bool {
	if len(h.waiting) == 0 {
		return false
	}
	h.waiting[0] <- c
	h.waiting = slices.Delete(h.waiting, 0, 1)
	return true
}

// sweepInterval is how often idle connections are looked at: nobody waits for
// what comes from them, and the other end may have closed them.
const sweepInterval = time.Second

// sweep closes what is of no use any more, or has been idle for too long. What
// was used since the last time is left alone: every use looks by itself.
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

// close closes what is idle now, and what becomes so later.
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

// dial makes a connection.
func (h *host) dial(ctx context.Context) (*conn, error) {
	raw, err := h.options.DialContext(ctx, "tcp", h.address)
	if err != nil {
		return nil, err
	}
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
		h.http1.Store(false) // perhaps it speaks something else now, which http.Transport finds out
		return nil, err
	}
	return newConn(h, socket, secured), nil
}

// headerLimit returns how many bytes the header of an answer may have.
func (h *host) headerLimit() int64 {
	if n := h.options.MaxResponseHeaderBytes; n > 0 {
		return n
	}
	return 10 << 20 // as http.Transport
}

// deadline returns when the header of an answer must have come.
func (h *host) deadline() time.Time {
	if d := h.options.ResponseHeaderTimeout; d > 0 {
		return time.Now().Add(d)
	}
	return time.Time{}
}
