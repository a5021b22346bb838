// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// waiting answers one request when told to, and tells when its connection has
// been closed.
type waiting struct {
	arrived, goOn chan struct{}
	closed        chan int // numbers of connections
}

func newWaiting() *waiting {
	return &waiting{make(chan struct{}, 10), make(chan struct{}, 10), make(chan int, 10)}
}

func (w *waiting) handle(p *peer) {
	for p.request() {
		w.arrived <- struct{}{}
		<-w.goOn
		p.write(fine)
	}
	w.closed <- p.n
}

// atOnce makes calls that are all under way at the same time.
func (w *waiting) atOnce(t *testing.T, s *server, transport http.RoundTripper, calls int) {
	answers := make(chan string, calls)
	for range calls {
		go func() { answers <- s.get(t, transport) }()
	}
	for range calls {
		<-w.arrived
	}
	for range calls {
		w.goOn <- struct{}{}
	}
	for range calls {
		if got := <-answers; got != "fine" {
			t.Errorf("answered %q", got)
		}
	}
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	both(t, func(t *testing.T, secured bool) {
		w := newWaiting()
		s := serve(t, secured, w.handle)
		s.options.MaxIdleConnsPerHost = 2
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			transport := s.transport(t)
			w.atOnce(t, s, transport, 5)
			for range 3 {
				<-w.closed
			}
			w.atOnce(t, s, transport, 2)
			if n, waited := s.conns.Load(), time.Since(begun); n != 5 || waited > 0 {
				t.Errorf("%d connections were made in %v, want 5 at once", n, waited)
			}
		})
	})
}

// What is idle is closed; what is in use, when its answer has been read.
func TestCloseIdle(t *testing.T) {
	both(t, func(t *testing.T, secured bool) {
		w := newWaiting()
		s := serve(t, secured, w.handle)
		transport := s.transport(t)
		w.atOnce(t, s, transport, 2)
		response := make(chan *http.Response)
		go func() {
			r, err := transport.RoundTrip(s.request(t, context.Background()))
			if err != nil {
				t.Error(err)
			}
			response <- r
		}()
		<-w.arrived
		transport.CloseIdle()
		idle := <-w.closed
		w.goOn <- struct{}{}
		r := <-response
		if n, err := r.Body.Read(make([]byte, 10)); n != 4 {
			t.Errorf("%d bytes are read, and %v", n, err)
		}
		r.Body.Close()
		if used := <-w.closed; used == idle {
			t.Errorf("connection %d was closed twice", used)
		}
		w.atOnce(t, s, transport, 1) // a configuration that is gone still answers its last calls
		<-w.closed
	})
}

// sweepsBetween is a time at which nobody looks at what is idle.
const sweepsBetween = time.Second / 2

// Connections end though nobody calls any more: those that the other end has
// closed, soon.
func TestConnectionsThatAreClosedEnd(t *testing.T) {
	closed, ticks := make(chan struct{}), make(chan struct{})
	go func() {
		for t.Context().Err() == nil {
			time.Sleep(50 * time.Millisecond)
			select {
			case ticks <- struct{}{}:
			case <-t.Context().Done():
			}
		}
	}()
	s := serve(t, false, func(p *peer) {
		p.request()
		p.write(fine)
		_ = p.Conn.(*net.TCPConn).CloseWrite()
		p.closed()
		close(closed)
	})
	synctest.Test(t, func(t *testing.T) {
		if got := s.get(t, s.transport(t)); got != "fine" {
			t.Fatalf("answered %q", got)
		}
		// The time of the test passes at once, so the other end is given some of the
		// machine's between two sweeps.
		for range 58 {
			time.Sleep(time.Second)
			select {
			case <-closed:
				return
			case <-ticks:
			}
		}
		t.Error("the connection stays open")
	})
}

// Those that are idle for too long end as well, and not before.
func TestIdleConnectionsEnd(t *testing.T) {
	closed := make(chan struct{})
	s := serve(t, false, func(p *peer) {
		for range 2 {
			p.request()
			p.write(fine)
		}
		p.closed()
		close(closed)
	})
	synctest.Test(t, func(t *testing.T) {
		transport := s.transport(t)
		for range 2 {
			if got := s.get(t, transport); got != "fine" {
				t.Fatalf("answered %q", got)
			}
			time.Sleep(58*time.Second + sweepsBetween)
		}
		if n := s.conns.Load(); n != 1 {
			t.Errorf("%d connections were made", n)
		}
		select {
		case <-closed:
			t.Error("the connection was closed too soon")
		default:
		}
		time.Sleep(2 * time.Second)
		<-closed
	})
}
