// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

// held makes every dial wait for a channel of its own, which dialling tells.
func held(s *server) (dialling chan chan struct{}) {
	dialling = make(chan chan struct{})
	dial := s.options.DialContext
	s.options.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		letGo := make(chan struct{})
		dialling <- letGo
		select {
		case <-letGo:
			return dial(ctx, network, address)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return dialling
}

// Who has gone before the call begins is not heard by the other end, which may
// do what it is told.
func TestCallerWhoHasGone(t *testing.T) {
	both(t, func(t *testing.T, secured bool) {
		heard := make(chan struct{}, 1000)
		s := serve(t, secured, func(p *peer) {
			for p.request() {
				heard <- struct{}{}
				p.write(fine)
			}
		})
		transport := s.transport(t)
		s.get(t, transport)
		<-heard
		gone := errors.New("gone")
		for range 100 {
			ctx, cancel := context.WithCancelCause(context.Background())
			cancel(gone)
			if _, err := transport.RoundTrip(s.request(t, ctx)); !errors.Is(err, gone) {
				t.Fatalf("the error is %v", err)
			}
		}
		s.get(t, transport)
		<-heard
		if len(heard) > 0 || s.conns.Load() != 1 {
			t.Errorf("%d calls arrived, over %d connections", len(heard), s.conns.Load())
		}
	})
}

// A connection that is made after its caller has gone serves the next one.
func TestConnectionThatComesTooLate(t *testing.T) {
	s := serve(t, false, (*peer).goOn)
	dialling := held(s)
	transport := s.transport(t)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error)
	go func() {
		_, err := transport.RoundTrip(s.request(t, ctx))
		failed <- err
	}()
	first := <-dialling
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	answer := make(chan string)
	go func() { answer <- s.get(t, transport) }()
	second := <-dialling
	close(first)
	if got := <-answer; got != "fine" {
		t.Errorf("answered %q", got)
	}
	close(second)
}

// Who waits for a connection to be made takes one that becomes free meanwhile,
// at once.
func TestConnectionThatBecomesFree(t *testing.T) {
	both(t, func(t *testing.T, secured bool) {
		w := newWaiting()
		s := serve(t, secured, w.handle)
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			transport := s.transport(t)
			answers := make(chan string, 2)
			go func() { answers <- s.get(t, transport) }()
			<-w.arrived
			dialling := held(s)
			go func() { answers <- s.get(t, transport) }()
			dial := <-dialling
			for range 2 {
				w.goOn <- struct{}{}
				if got := <-answers; got != "fine" {
					t.Errorf("answered %q", got)
				}
			}
			if n, waited := s.conns.Load(), time.Since(begun); n != 1 || waited > 0 {
				t.Errorf("%d connections were made, in %v", n, waited)
			}
			close(dial)
		})
	})
}

// An end that speaks first, or hangs up at once, is not called again and again.
func TestEndThatDoesNotListen(t *testing.T) {
	both(t, func(t *testing.T, secured bool) {
		for _, said := range []string{"SSH-2.0-OpenSSH_9.9\r\n", ""} {
			s := serve(t, secured, func(p *peer) { p.write(said) })
			if _, err := s.transport(t).RoundTrip(s.request(t, context.Background())); err == nil {
				t.Errorf("%q is an answer", said)
			}
			if n := s.conns.Load(); n != 1 {
				t.Errorf("%d connections were made", n)
			}
		}
	})
}

func TestDialErrorsPass(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: os.ErrPermission}
	u := &url.URL{Scheme: "http", Host: "wechat.test"}
	options := &http.Transport{DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
		if network != "tcp" || address != "wechat.test:80" {
			t.Errorf("%s %s is dialled", network, address)
		}
		return nil, refused
	}}
	transport := upstream.New(options, options, []*url.URL{u})
	for range 2 {
		if _, err := transport.RoundTrip(httptest.NewRequest(http.MethodGet, "http://wechat.test/", nil)); err != refused {
			t.Errorf("the error is %v", err)
		}
	}
}
