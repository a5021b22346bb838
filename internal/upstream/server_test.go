// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

// server is another end that answers whatever bytes a test wants.
type server struct {
	*url.URL
	options *http.Transport
	conns   atomic.Int32 // that were accepted
}

// peer is one connection at a server.
type peer struct {
	net.Conn
	in   *bufio.Reader
	n    int         // which connection of the server it is, from 1
	last http.Header // of the last request
}

// serve starts a server whose connections are handled by handle, except the
// first over TLS: with it transport finds out which HTTP is spoken.
func serve(t testing.TB, secured bool, handle func(*peer)) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s := &server{URL: &url.URL{Scheme: "http", Host: listener.Addr().String()}}
	s.options = &http.Transport{
		DialContext: new(net.Dialer).DialContext, DisableCompression: true,
		MaxIdleConnsPerHost: 10, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 10 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
	}
	if secured {
		model := httptest.NewTLSServer(nil)
		model.Close()
		s.Scheme = "https"
		s.options.TLSClientConfig = model.Client().Transport.(*http.Transport).TLSClientConfig
		listener = tls.NewListener(listener, &tls.Config{Certificates: model.TLS.Certificates})
	}
	go func() {
		for finding := secured; ; finding = false {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p := &peer{Conn: conn, in: bufio.NewReader(conn)}
			handle := handle
			if finding {
				handle = (*peer).goOn
			} else {
				p.n = int(s.conns.Add(1))
			}
			go func() {
				defer conn.Close()
				handle(p)
			}()
		}
	}()
	return s
}

// request waits for a request, false if the connection ends.
func (p *peer) request() bool {
	r, err := http.ReadRequest(p.in)
	if err != nil {
		return false
	}
	p.last = r.Header
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil
}

func (p *peer) write(text string) { _, _ = io.WriteString(p, text) }

// closed waits until the other end has closed the connection.
func (p *peer) closed() { _, _ = io.Copy(io.Discard, p.in) }

const fine = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"

// goOn answers every request, as fine as can be.
func (p *peer) goOn() {
	for p.request() {
		p.write(fine)
	}
}

// transport returns what is tested, as it is after the first call.
func (s *server) transport(t *testing.T) *upstream.Transport {
	t.Helper()
	std := s.options.Clone()
	transport := upstream.New(std, s.options, []*url.URL{s.URL})
	t.Cleanup(transport.CloseIdle)
	if s.Scheme == "https" {
		if got := s.get(t, transport); got != "fine" {
			t.Fatalf("the first call is answered %q", got)
		}
		std.CloseIdleConnections()
	}
	return transport
}

func (s *server) request(t testing.TB, ctx context.Context) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// get makes a call and returns its answer or error.
func (s *server) get(t *testing.T, transport http.RoundTripper) string {
	t.Helper()
	response, err := transport.RoundTrip(s.request(t, context.Background()))
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(content)
}

// wantTimeout makes a call that has to be given up after so long.
func (s *server) wantTimeout(t *testing.T, transport http.RoundTripper, want time.Duration) {
	t.Helper()
	begun := time.Now()
	_, err := transport.RoundTrip(s.request(t, context.Background()))
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("the error is %v", err)
	}
	if waited := time.Since(begun); waited != want {
		t.Errorf("given up after %v, want %v", waited, want)
	}
}

// played returns a transport whose connections are pipes to handle, so that
// time can be played.
func played(scheme string, handle func(*peer)) (http.RoundTripper, *server) {
	s := &server{URL: &url.URL{Scheme: scheme, Host: "wechat.test"}}
	s.options = &http.Transport{ResponseHeaderTimeout: 30 * time.Second, TLSHandshakeTimeout: 5 * time.Second}
	s.options.DialContext = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			handle(&peer{Conn: far, in: bufio.NewReader(far)})
		}()
		return near, nil
	}
	return upstream.New(s.options, s.options, []*url.URL{s.URL}), s
}

// both runs a test over plain TCP and over TLS.
func both(t *testing.T, test func(t *testing.T, secured bool)) {
	t.Run("plain", func(t *testing.T) { test(t, false) })
	t.Run("TLS", func(t *testing.T) { test(t, true) })
}
