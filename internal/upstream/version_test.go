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

// Which HTTP is spoken over TLS is what the two ends agree on.
func TestVersionOverTLS(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
		s.EnableHTTP2 = h2
		s.StartTLS()
		defer s.Close()
		options := s.Client().Transport.(*http.Transport)
		options.DialContext = new(net.Dialer).DialContext
		options.MaxIdleConnsPerHost = 10
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		transport := upstream.New(options, options.Clone(), []*url.URL{u})
		defer transport.CloseIdle()
		proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[h2]
		for range 3 {
			if got := (&server{URL: u}).get(t, transport); got != proto {
				t.Errorf("%s is spoken, want %s", got, proto)
			}
		}
	}
}

// A host that has spoken HTTP/1 is not offered HTTP/2 where it could not be
// understood.
func TestHostThatLearnsHTTP2(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	options := s.Client().Transport.(*http.Transport)
	options.DialContext = new(net.Dialer).DialContext
	options.TLSClientConfig.NextProtos = []string{"h2", "http/1.1"}
	std := options.Clone()
	std.ForceAttemptHTTP2, std.TLSClientConfig.NextProtos = false, nil
	std.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	transport := upstream.New(std, options, []*url.URL{u})
	defer transport.CloseIdle()
	for range 3 {
		if got := (&server{URL: u}).get(t, transport); got != "HTTP/1.1" {
			t.Errorf("answered %q", got)
		}
	}
}

// One that speaks only HTTP/2 from some day on costs one call, not all.
func TestHostThatForgetsHTTP1(t *testing.T) {
	var h2Only atomic.Bool
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	s.EnableHTTP2 = true
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
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	options := s.Client().Transport.(*http.Transport)
	options.DialContext = new(net.Dialer).DialContext
	transport := upstream.New(options, options.Clone(), []*url.URL{u})
	defer transport.CloseIdle()
	for range 2 {
		if got := (&server{URL: u}).get(t, transport); got != "HTTP/1.1" {
			t.Fatalf("answered %q", got)
		}
	}
	h2Only.Store(true)
	s.CloseClientConnections()
	if got := (&server{URL: u}).get(t, transport); !strings.Contains(got, "tls: ") {
		t.Errorf("answered %q", got)
	}
	for range 2 {
		if got := (&server{URL: u}).get(t, transport); got != "HTTP/2.0" {
			t.Errorf("answered %q", got)
		}
	}
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
		}
		if said[0] != said[1] {
			t.Errorf("%s: http.Transport says\n%s\nthis one\n%s", name, said[0], said[1])
		}
	}
}
