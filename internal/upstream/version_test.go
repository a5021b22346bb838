// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

// telling starts a server of net/http that tells which HTTP it was spoken to in.
func telling(t *testing.T, configure func(*httptest.Server)) *server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	configure(s)
	s.StartTLS()
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	options := s.Client().Transport.(*http.Transport)
	options.DialContext = new(net.Dialer).DialContext
	options.MaxIdleConnsPerHost = 10
	return &server{URL: u, options: options}
}

// wantProto makes some calls that all have to be made in this HTTP.
func (s *server) wantProto(t *testing.T, transport http.RoundTripper, proto string) {
	t.Helper()
	for range 3 {
		if got := s.get(t, transport); got != proto {
			t.Errorf("answered %q, want %s", got, proto)
		}
	}
}

// Which HTTP is spoken over TLS is what the two ends agree on.
func TestVersionOverTLS(t *testing.T) {
	for proto, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		s := telling(t, func(s *httptest.Server) { s.EnableHTTP2 = h2 })
		transport := upstream.New(s.options, s.options.Clone(), []*url.URL{s.URL})
		defer transport.CloseIdle()
		s.wantProto(t, transport, proto)
	}
}

// A host that has spoken HTTP/1 is not offered HTTP/2 where it could not be
// understood.
func TestHostThatLearnsHTTP2(t *testing.T) {
	s := telling(t, func(s *httptest.Server) { s.EnableHTTP2 = true })
	s.options.TLSClientConfig.NextProtos = []string{"h2", "http/1.1"}
	std := s.options.Clone()
	std.ForceAttemptHTTP2, std.TLSClientConfig.NextProtos = false, nil
	std.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	transport := upstream.New(std, s.options, []*url.URL{s.URL})
	defer transport.CloseIdle()
	s.wantProto(t, transport, "HTTP/1.1")
}

// One that speaks only HTTP/2 from some day on costs one call, not all.
func TestHostThatForgetsHTTP1(t *testing.T) {
	var h2Only atomic.Bool
	var standard *httptest.Server
	s := telling(t, func(s *httptest.Server) {
		standard, s.EnableHTTP2 = s, true
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			config := s.TLS.Clone()
			config.NextProtos = []string{"http/1.1"}
			if h2Only.Load() {
				if config.NextProtos = []string{"h2"}; !slices.Contains(hello.SupportedProtos, "h2") {
					return nil, errors.New("no common protocol")
				}
			}
			return config, nil
		}}
	})
	transport := upstream.New(s.options, s.options.Clone(), []*url.URL{s.URL})
	defer transport.CloseIdle()
	s.wantProto(t, transport, "HTTP/1.1")
	h2Only.Store(true)
	standard.CloseClientConnections()
	if got := s.get(t, transport); !strings.Contains(got, "tls: ") {
		t.Errorf("answered %q", got)
	}
	s.wantProto(t, transport, "HTTP/2.0")
}

// What is sent is what http.Transport would send.
func TestRequest(t *testing.T) {
	heard := make(chan string, 2)
	s := serve(t, false, func(p *peer) {
		var sent bytes.Buffer
		p.in.Reset(io.TeeReader(p.Conn, &sent))
		p.request()
		p.write(fine)
		heard <- sent.String()
	})
	for name, row := range map[string]struct {
		method, content string
		length          int64
	}{
		"GET": {method: http.MethodGet}, "HEAD": {method: http.MethodHead}, "an empty POST": {method: http.MethodPost},
		"POST": {http.MethodPost, "{}", 2}, "a long POST": {http.MethodPost, strings.Repeat("x", upstream.Short), upstream.Short},
	} {
		var said [2]string
		for i, transport := range []http.RoundTripper{s.options, s.transport(t)} {
			r := s.request(t, context.Background())
			r.Method = row.method
			r.URL.RawQuery = "a=%20b&access_token=1"
			r.Header = http.Header{"User-Agent": {""}, "X-Two": {"1", "2"}, "Content-Type": {"text/plain"}}
			if row.length > 0 {
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(row.content)), row.length
			}
			response, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			said[i] = <-heard
			s.options.CloseIdleConnections() // the server has closed it, and has sent a body even to HEAD
		}
		if said[0] != said[1] {
			t.Errorf("%s: http.Transport says\n%s\nthis one\n%s", name, said[0], said[1])
		}
	}
}
