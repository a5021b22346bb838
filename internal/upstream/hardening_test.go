// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

// Something on the way frames an answer otherwise than we do: it sends a body where
// there is none to us, at its leisure. On a connection that is used again the rest
// would be the answer to the next call, another client's. The next call here gets an
// answer of its own.
func TestAnswersAreNotShifted(t *testing.T) {
	const rest = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for name, row := range map[string]struct {
		answer, want string
		method       string
	}{
		"204":                                  {"HTTP/1.1 204 No Content\r\n\r\n", "", "GET"},
		"204 with a length":                    {"HTTP/1.1 204 No Content\r\nContent-Length: 41\r\n\r\n", "", "POST"},
		"204 with chunks":                      {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "", "GET"},
		"304":                                  {"HTTP/1.1 304 Not Modified\r\n\r\n", "", "GET"},
		"304 with a length":                    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 41\r\n\r\n", "", "GET"},
		"HTTP/1.0 that keeps the connection":   {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nonce", "once", "GET"},
		"HTTP/1.0 with chunks":                 {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nonce", "once", "GET"},
		"chunks and a length":                  {"HTTP/1.1 200 OK\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonce\r\n0\r\n\r\n", "once", "GET"},
		"chunks and a length in small letters": {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 60\r\n\r\n4\r\nonce\r\n0\r\n\r\n", "once", "POST"},
		"chunks behind a long header":          {"HTTP/1.1 200 OK\r\nContent-Length: 60\r\nX: " + strings.Repeat("x", 5000) + "\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonce\r\n0\r\n\r\n", "once", "GET"},
		"an informational answer of a length":  {"HTTP/1.1 103 Early Hints\r\nContent-Length: 45\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nonce", "once", "GET"},
		"an informational answer with chunks":  {"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nonce", "once", "GET"},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, secured bool) {
				s := serve(t, secured, func(p *peer) {
					if p.n > 1 {
						p.goOn()
						return
					}
					p.request()
					p.write(row.answer)
					if p.request() { // the next call: the rest has been on its way to the first
						p.write(rest)
					}
				})
				transport := s.transport(t)
				r := s.request(t, context.Background())
				r.Method = row.method
				if got := bodyOf(transport, r); got != row.want {
					t.Errorf("the first call is answered %q, want %q", got, row.want)
				}
				for range 2 {
					if got := s.get(t, transport); got != "fine" {
						t.Errorf("the next call is answered %q", got)
					}
				}
			})
		})
	}
}

// The same for the calls that http.Transport makes: it keeps the connection of an
// answer without a body, whatever its status is.
func TestStandardAnswersAreNotShifted(t *testing.T) {
	for name, row := range map[string]struct {
		answer string
		header http.Header
	}{
		"204":                          {"HTTP/1.1 204 No Content\r\n\r\n", nil},
		"304 that was not asked for":   {"HTTP/1.1 304 Not Modified\r\n\r\n", nil},
		"304 in answer to a tag":       {"HTTP/1.1 304 Not Modified\r\n\r\n", http.Header{"If-None-Match": {`"x"`}}},
		"200 in answer to a date":      {strings.Replace(fine, "fine", "once", 1), http.Header{"If-Modified-Since": {"Sun, 22 Nov 2026 12:00:00 GMT"}}},
		"200 whose request says close": {strings.Replace(fine, "fine", "once", 1), http.Header{"Connection": {"close"}}},
		"204 of HTTP/1.0, kept":        {"HTTP/1.0 204 No Content\r\nConnection: keep-alive\r\n\r\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, secured bool) {
				s := serve(t, secured, func(p *peer) {
					if p.n > 1 {
						p.goOn()
						return
					}
					p.request()
					p.write(row.answer)
					if p.request() {
						p.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
					}
				})
				std := s.options.Clone()
				transport := upstream.Standard(std)
				t.Cleanup(std.CloseIdleConnections)
				if secured { // the first connection is answered by goOn, see serve
					first := s.request(t, context.Background())
					first.Close = true
					if got := bodyOf(transport, first); got != "fine" {
						t.Fatalf("answered %q", got)
					}
				}
				r := s.request(t, context.Background())
				for name, values := range row.header {
					r.Header[name] = values
				}
				r.Close = row.header.Get("Connection") == "close"
				_ = bodyOf(transport, r)
				for range 2 {
					if got := s.get(t, transport); got != "fine" {
						t.Errorf("the next call is answered %q", got)
					}
				}
			})
		})
	}
}

// bodyOf makes a call and returns the body of its answer, or the error.
func bodyOf(transport http.RoundTripper, r *http.Request) string {
	response, err := transport.RoundTrip(r)
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

// FuzzShiftedAnswers lets a server send any bytes as the answer to one call: the
// answer to the next one is not among them.
func FuzzShiftedAnswers(f *testing.F) {
	log.SetOutput(io.Discard)
	evil := strings.Replace(fine, "fine", "evil", 1)
	for _, answer := range []string{
		fine, "", fine + evil, fine + "\r\n", "HTTP/1.1 204 No Content\r\n\r\n" + evil, "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n" + evil,
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}" + evil, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}}" + evil,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + evil, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\n\n" + evil,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n" + evil, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=\"\n\"\r\n{}\r\n0\r\n\r\n" + evil,
		"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\n" + fine + evil, "HTTP/1.1 100 Continue\r\n\r\n" + fine + "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n" + evil,
		"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}" + evil, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n Content-Length: 9\r\n\r\n{}" + evil, "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}" + evil,
	} {
		f.Add([]byte(answer), false)
		f.Add([]byte(answer), true)
	}
	f.Fuzz(func(t *testing.T, answer []byte, head bool) {
		s := serve(t, false, func(p *peer) {
			for p.request() {
				if p.last.Get("X-Any") != "" {
					p.write(string(answer))
				} else { // also on a connection that came too late for the first call
					p.write(fine)
				}
			}
		})
		transport := upstream.New(s.options, s.options, []*url.URL{s.URL})
		defer transport.CloseIdle()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Millisecond) // an answer without an end ends so; most have none
		defer cancel()
		r := s.request(t, ctx)
		r.Header.Set("X-Any", "1")
		if head {
			r.Method, r.Close = http.MethodHead, true // as package relay asks for it
		}
		_ = bodyOf(transport, r)
		if got := s.get(t, transport); got != "fine" {
			t.Errorf("the next call is answered %q", got)
		}
	})
}
