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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

// One connection serves call after call, whatever 1xx stands before the answers.
func TestConnectionIsUsedAgain(t *testing.T) {
	hints := "HTTP/1.1 100 Continue\r\n\r\n" + strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n", 20)
	for name, before := range map[string]string{"at once": "", "after informational answers": hints} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, secured bool) {
				s := serve(t, secured, func(p *peer) {
					for p.request() {
						p.write(before + fine)
					}
				})
				transport := s.transport(t)
				for range 5 {
					if got := s.get(t, transport); got != "fine" {
						t.Errorf("answered %q", got)
					}
				}
				if n := s.conns.Load(); n != 1 {
					t.Errorf("%d connections for 5 calls", n)
				}
			})
		})
	}
}

// A connection that may hold something else than the next answer is not used
// for the next call, and the next call does not fail by it.
func TestConnectionIsNotUsedAgain(t *testing.T) {
	for name, row := range map[string]struct{ answer, late, want string }{
		"the answer says so":             {answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nonce", want: "once"},
		"HTTP/1.0":                       {answer: "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nonce", want: "once"},
		"another answer behind it":       {answer: strings.Replace(fine, "fine", "once", 1) + strings.Replace(fine, "fine", "evil", 1), want: "once"},
		"another answer later":           {answer: strings.Replace(fine, "fine", "once", 1), late: strings.Replace(fine, "fine", "evil", 1), want: "once"},
		"a byte later":                   {answer: strings.Replace(fine, "fine", "once", 1), late: "\n", want: "once"},
		"it is closed later":             {answer: strings.Replace(fine, "fine", "once", 1), late: "EOF", want: "once"},
		"another protocol":               {answer: "HTTP/1.1 101 Switching Protocols\r\n\r\n" + strings.Replace(fine, "fine", "evil", 1), want: ""},
		"another protocol, in silence":   {answer: "HTTP/1.1 101 Switching Protocols\r\n\r\n", want: ""},
		"an answer without end":          {answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nonce", late: "EOF", want: "unexpected EOF"},
		"an answer to the end":           {answer: "HTTP/1.1 200 OK\r\n\r\nonce", late: "EOF", want: "once"},
		"a chunk without end":            {answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonce", late: "EOF", want: "unexpected EOF"},
		"more than the length announces": {answer: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nonce more", want: "once"},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, secured bool) {
				read, done := make(chan struct{}), make(chan struct{})
				s := serve(t, secured, func(p *peer) {
					if p.n > 1 {
						p.goOn()
						return
					}
					p.request()
					p.write(row.answer)
					if row.late == "EOF" {
						p.Close()
					} else if row.late != "" {
						<-read
						p.write(row.late)
					}
					close(done)
					p.closed()
				})
				transport := s.transport(t)
				if got := s.get(t, transport); got != row.want {
					t.Errorf("the first call is answered %q, want %q", got, row.want)
				}
				close(read)
				<-done
				if got := s.get(t, transport); got != "fine" {
					t.Errorf("the second call is answered %q", got)
				}
				if n := s.conns.Load(); n != 2 {
					t.Errorf("%d connections for 2 calls", n)
				}
			})
		})
	}
}

// Whoever closes the answer's body before its end has no use for the rest.
func TestAnswerThatIsNotReadToItsEnd(t *testing.T) {
	both(t, func(t *testing.T, secured bool) {
		closed := make(chan struct{})
		s := serve(t, secured, func(p *peer) {
			if p.n > 1 {
				p.goOn()
				return
			}
			p.request()
			p.write("HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\nbeginning")
			p.closed()
			close(closed)
		})
		transport := s.transport(t)
		response, err := transport.RoundTrip(s.request(t, context.Background()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(response.Body, make([]byte, len("beginning"))); err != nil {
			t.Error(err)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
		<-closed
		if n, err := response.Body.Read(make([]byte, 9)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("after Close %d bytes are read, and %v", n, err)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
		if got := s.get(t, transport); got != "fine" {
			t.Errorf("the second call is answered %q", got)
		}
	})
}

// Whoever goes away ends the call, wherever it is.
func TestContextEnds(t *testing.T) {
	for name, beginning := range map[string]string{
		"before the answer":   "",
		"within the header":   "HTTP/1.1 200 OK\r\nContent-",
		"within the body":     "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\nbeginning",
		"between two answers": "HTTP/1.1 103 Early Hints\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, secured bool) {
				gone, closed := errors.New("gone"), make(chan struct{})
				ctx, cancel := context.WithCancelCause(context.Background())
				s := serve(t, secured, func(p *peer) {
					p.request()
					p.write(beginning)
					if name != "within the body" {
						cancel(gone)
					}
					p.closed()
					close(closed)
				})
				transport := s.transport(t)
				response, err := transport.RoundTrip(s.request(t, ctx))
				if name == "within the body" {
					if err != nil {
						t.Fatal(err)
					}
					defer response.Body.Close()
					cancel(gone)
					_, err = io.ReadAll(response.Body)
					if err == nil {
						t.Error("the body is whole")
					}
				} else if !errors.Is(err, gone) {
					t.Errorf("the error is %v", err)
				}
				<-closed
			})
		})
	}
}

// A context that ends after the call leaves the connection alone.
func TestContextEndsAfterTheCall(t *testing.T) {
	both(t, func(t *testing.T, secured bool) {
		s := serve(t, secured, (*peer).goOn)
		transport := s.transport(t)
		for range 20 {
			ctx, cancel := context.WithCancel(context.Background())
			response, err := transport.RoundTrip(s.request(t, ctx))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			cancel()
		}
		if n := s.conns.Load(); n != 1 {
			t.Errorf("%d connections for 20 calls", n)
		}
	})
}

// An end that takes everything and says nothing is given up.
func TestSilence(t *testing.T) {
	for scheme, want := range map[string]time.Duration{"http": 30 * time.Second, "https": 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			transport, s := played(scheme, (*peer).closed)
			s.wantTimeout(t, transport, want)
		})
	}
}

// The first call over TLS is http.Transport's, see above; this is one after it.
func TestSilenceInsteadOfTLS(t *testing.T) {
	model := httptest.NewTLSServer(nil)
	model.Close()
	trust := model.Client().Transport.(*http.Transport).TLSClientConfig
	trust.ServerName = "example.com"
	synctest.Test(t, func(t *testing.T) {
		var conns atomic.Int32
		_, s := played("https", func(p *peer) {
			if conns.Add(1) > 1 {
				p.closed()
				return
			}
			secured := tls.Server(p.Conn, &tls.Config{Certificates: model.TLS.Certificates})
			p.Conn, p.in = secured, bufio.NewReader(secured)
			p.request()
			p.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine")
		})
		s.options.TLSClientConfig = trust
		std := s.options.Clone()
		std.TLSHandshakeTimeout = 0 // that of the calls after the first is meant
		transport := upstream.New(std, s.options, []*url.URL{s.URL})
		if got := s.get(t, transport); got != "fine" {
			t.Fatalf("the first call is answered %q", got)
		}
		s.wantTimeout(t, transport, 5*time.Second)
	})
}

// A body may take its time: only the header is waited for.
func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport, s := played("http", func(p *peer) {
			p.request()
			p.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
			time.Sleep(time.Hour)
			p.write("late")
		})
		if got := s.get(t, transport); got != "late" {
			t.Errorf("answered %q", got)
		}
	})
}

func TestHeaderWithoutEnd(t *testing.T) {
	both(t, func(t *testing.T, secured bool) {
		for beginning, more := range map[string]string{
			"HTTP/1.1 200 OK\r\n":    "X: " + strings.Repeat("x", 1000) + "\r\n",
			"HTTP/1.1 200 OK\r\nX: ": strings.Repeat("x", 1000),
			"HTTP/1.1 200 ":          strings.Repeat("x", 1000),
			"":                       "HTTP/1.1 103 Early Hints\r\n\r\n",
		} {
			s := serve(t, secured, func(p *peer) {
				p.request()
				p.write(beginning)
				for {
					if _, err := io.WriteString(p, more); err != nil {
						return
					}
				}
			})
			s.options.MaxResponseHeaderBytes = 100_000
			_, err := s.transport(t).RoundTrip(s.request(t, context.Background()))
			var timeout net.Error
			if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("%q has no end: %v", beginning, err)
			}
		}
	})
}

// What bounds the header does not bound the body.
func TestBodyLongerThanAnyHeader(t *testing.T) {
	both(t, func(t *testing.T, secured bool) {
		long := strings.Repeat("x", 200_000)
		s := serve(t, secured, func(p *peer) {
			p.request()
			p.write("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + long)
			p.closed()
		})
		s.options.MaxResponseHeaderBytes = 1000
		if got := s.get(t, s.transport(t)); got != long {
			t.Errorf("%d bytes of 200,000 are read", len(got))
		}
	})
}

// Calls at once have a connection each, and no answer goes to another call.
func TestManyAtOnce(t *testing.T) {
	both(t, func(t *testing.T, secured bool) {
		s := serve(t, secured, func(p *peer) {
			for {
				r, err := http.ReadRequest(p.in)
				if err != nil {
					return
				}
				p.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n" + r.URL.Path[1:] + "\r\n0\r\n\r\n")
			}
		})
		s.options.MaxIdleConnsPerHost = 5
		transport := s.transport(t)
		var all sync.WaitGroup
		for caller := range 16 {
			all.Go(func() {
				for call := range 50 {
					u := *s.URL
					u.Path = "/" + string([]byte{'a' + byte(caller), '-', '0' + byte(call/10), '0' + byte(call%10)})
					if got := (&server{URL: &u}).get(t, transport); got != u.Path[1:] {
						t.Errorf("%s is answered %q", u.Path, got)
						return
					}
				}
			})
		}
		all.Wait()
	})
}
