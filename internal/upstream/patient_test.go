// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

// cutConn is a connection to a server that reads none of a body. Writes fail at once;
// the answer, which had arrived before, is read a moment later, and then nothing.
type cutConn struct {
	answer  io.Reader
	after   time.Duration
	written func() // closes began
	began   chan struct{}
	closed  chan struct{}
	once    sync.Once
}

func newCutConn(answer string, after time.Duration) *cutConn {
	c := &cutConn{answer: strings.NewReader(answer), after: after, began: make(chan struct{}), closed: make(chan struct{})}
	c.written = sync.OnceFunc(func() { close(c.began) })
	return c
}

func (c *cutConn) Write([]byte) (int, error) {
	c.written()
	return 0, syscall.EPIPE
}

func (c *cutConn) Read(p []byte) (int, error) {
	<-c.began // nothing comes that was not asked for
	select {
	case <-time.After(c.after):
	case <-c.closed:
		return 0, net.ErrClosed
	}
	n, err := c.answer.Read(p)
	if err != nil {
		err = syscall.ECONNRESET
	}
	return n, err
}

func (c *cutConn) Close() error                     { c.once.Do(func() { close(c.closed) }); return nil }
func (c *cutConn) LocalAddr() net.Addr              { return new(net.TCPAddr) }
func (c *cutConn) RemoteAddr() net.Addr             { return new(net.TCPAddr) }
func (c *cutConn) SetDeadline(time.Time) error      { return nil }
func (c *cutConn) SetReadDeadline(time.Time) error  { return nil }
func (c *cutConn) SetWriteDeadline(time.Time) error { return nil }

// An answer of a server that does not read all of a request reaches the caller, also
// if the request fails before the answer is read. Without an answer the error comes
// when that is known, and after a second at the latest.
func TestEarlyAnswerIsNotLost(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"errcode\":40001}"
	for _, row := range []struct {
		name   string
		answer string
		after  time.Duration
		took   time.Duration
	}{
		{"the answer is read first", answer, 0, 0},
		{"the answer is read later", answer, 100 * time.Millisecond, 100 * time.Millisecond},
		{"no answer", "", 0, 0},
		{"no answer, which is known later", "", 100 * time.Millisecond, 100 * time.Millisecond},
		{"nothing for ever", "", time.Hour, time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
					return newCutConn(row.answer, row.after), nil
				}}
				upstream.KeepEarlyAnswers(transport)
				r, err := http.NewRequest(http.MethodPost, "http://a.test/", strings.NewReader(strings.Repeat("x", 1<<20)))
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				response, err := transport.RoundTrip(r)
				if took := time.Since(began); took != row.took {
					t.Errorf("it took %v, want %v", took, row.took)
				}
				if row.answer == "" {
					if err == nil {
						t.Error("answered")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				if body, err := io.ReadAll(response.Body); err != nil || string(body) != `{"errcode":40001}` {
					t.Errorf("answered %q, %v", body, err)
				}
			})
		})
	}
}

// A connection that cannot be made is told as before.
func TestDialErrorOfKeepEarlyAnswers(t *testing.T) {
	refused := errors.New("refused")
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, refused }}
	upstream.KeepEarlyAnswers(transport)
	r, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transport.RoundTrip(r); !errors.Is(err, refused) {
		t.Errorf("it fails with %v", err)
	}
}
