// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
)

// early is a transport that answers when it has the first byte of a body, and reads on.
type early struct{}

func (early) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := r.Body.Read(make([]byte, 1)); err != nil {
		return nil, err
	}
	go func() { _, _ = io.Copy(io.Discard, r.Body) }()
	const answer = `{"errcode":45001}`
	header := http.Header{"Content-Length": {strconv.Itoa(len(answer))}}
	return &http.Response{StatusCode: http.StatusOK, ContentLength: int64(len(answer)), Header: header, Body: io.NopCloser(strings.NewReader(answer))}, nil
}

// oneConn is a listener with one connection.
type oneConn chan net.Conn

func (l oneConn) Accept() (net.Conn, error) {
	conn, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l oneConn) Close() error   { return nil }
func (l oneConn) Addr() net.Addr { return new(net.TCPAddr) }

// WeChat answers a caller that then pauses for long. It has the answer at once, and the
// connection for ten seconds more: not for as long as a body may pause that is wanted.
func TestCallerThatPausesAfterAnEarlyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Relay{
			Hosts: []*url.URL{{Scheme: "http", Host: "a.test"}}, Standard: early{}, MaxReplayBody: 1 << 20, Memory: NewMemory(16 << 20),
			HasCredential: func(string) bool { return false }, Hint: func(http.ResponseWriter, *Call, *openapi.Refusal) {},
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			l.Forward(w, r, &Call{Path: "/sns/auth"})
		})}
		client, conn := net.Pipe()
		listener := make(oneConn, 1)
		listener <- conn
		go func() { _ = server.Serve(listener) }()
		defer close(listener)
		began := time.Now()
		fmt.Fprintf(client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nbeginning")
		in := bufio.NewReader(client)
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(response.Body); err != nil || string(body) != `{"errcode":45001}` || time.Since(began) > 0 {
			t.Errorf("answered %s after %v, %v", body, time.Since(began), err)
		}
		if _, err := in.ReadByte(); err != io.EOF {
			t.Errorf("the connection ends with %v", err)
		}
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("the connection was kept for %v", took)
		}
	})
}
