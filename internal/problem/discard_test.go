// SPDX-License-Identifier: Apache-2.0

package problem_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

// one is a listener with one connection.
type one struct {
	conn   chan net.Conn
	closed chan struct{}
}

func (l one) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conn:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l one) Close() error   { return nil }
func (l one) Addr() net.Addr { return new(net.TCPAddr) }

// refusing serves one connection in memory with a server that refuses every call.
func refusing(t *testing.T, server *http.Server) (client net.Conn) {
	client, conn := net.Pipe()
	l := one{make(chan net.Conn, 1), make(chan struct{})}
	l.conn <- conn
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		problem.Refuse(w, r, zap.NewNop(), problem.ErrTokenMissing, problem.Unread(w, r), problem.About{})
	})
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		close(l.closed)
		client.Close()
	})
	return client
}

// wantAnswer reads the answer of a refusal.
func wantAnswer(t *testing.T, client net.Conn) {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(body), "41001") {
		t.Fatalf("answered %s, %v", body, err)
	}
}

// A caller that sends slowly is answered at once. What it sends is read for ten seconds,
// or for as long as the server allows for a request, if that is less; then the
// connection is closed, and nothing of the body can be taken for a request.
func TestSlowCallerIsReadForTenSeconds(t *testing.T) {
	for _, row := range []struct {
		timeout, want time.Duration
	}{{0, 10 * time.Second}, {time.Minute, 10 * time.Second}, {3 * time.Second, 3 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			client := refusing(t, &http.Server{ReadTimeout: row.timeout})
			began := time.Now()
			fmt.Fprintf(client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 1<<20)
			wantAnswer(t, client)
			if took := time.Since(began); took > 0 {
				t.Errorf("the answer came after %v", took)
			}
			for {
				if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					if !errors.Is(err, io.ErrClosedPipe) {
						t.Error(err)
					}
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			if took := time.Since(began); took < row.want-time.Second || took > row.want+time.Second {
				t.Errorf("with a ReadTimeout of %v it was read for %v, want %v", row.timeout, took, row.want)
			}
		})
	}
}

// What is small is left to net/http, so that the connection stays; but not if it closes
// the connection afterwards, for then it reads nothing.
func TestUnread(t *testing.T) {
	for _, row := range []struct {
		request string
		want    bool
	}{
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", false},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", false},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 262144\r\n\r\n", false},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 262145\r\n\r\n", true},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", true},
		{"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\n", true},
		{"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n", true},
		{"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", true},
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(row.request)))
		if err != nil {
			t.Fatal(err)
		}
		w := headerWriter{http.Header{}}
		if got := problem.Unread(w, r) != nil; got != row.want {
			t.Errorf("%q: %v, want %v", row.request, got, row.want)
		}
		w.header.Set("Connection", "close") // as when the configuration is stopping
		if got := problem.Unread(w, r) != nil; got != (r.ContentLength != 0) {
			t.Errorf("%q: %v when the connection is closed anyway", row.request, got)
		}
		r.Body = http.NoBody
		if problem.Unread(w, r) != nil {
			t.Errorf("%q: something is left of a body that was read", row.request)
		}
	}
}

type headerWriter struct{ header http.Header }

func (w headerWriter) Header() http.Header         { return w.header }
func (w headerWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w headerWriter) WriteHeader(int)             {}
