// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// A client that writes all of a request before it reads gets to read a refusal, however
// large the body is: an SDK that is not told that its token is bad can not renew it.
func TestRefusalReachesAClientThatStillSends(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	expired := g.Issue(t, "shop", gwtest.ClientSecret, gwtest.OfficialAccount, time.Now().Add(-time.Minute))
	narrow := gwtest.Bearer(gwtest.NarrowSecret, gwtest.OfficialAccount)
	for _, row := range []struct {
		name   string
		target string
		header http.Header
		status int
		code   int
	}{
		{"an expired gateway token", uploadPath + "?access_token=" + expired, nil, 200, 42001},
		{"a forged gateway token", uploadPath + "?access_token=gw1.forged", nil, 200, 40001},
		{"no token", uploadPath, nil, 200, 41001},
		{"a wrong client secret", uploadPath, gwtest.Bearer(gwtest.UnknownSecret, ""), 401, 40125},
		{"a forbidden path", "/wxa/secret", narrow, 200, 48001},
		{"a path that is none", "/wxa//upload", narrow, 200, 48001},
		{"a loop", uploadPath, http.Header{openapi.HopHeader: {"1"}}, 502, -1},
		{"an unknown account", uploadPath, gwtest.Bearer(gwtest.ClientSecret, "wx0123456789abcdef"), 200, 61003},
		{"too much for a token endpoint", "/cgi-bin/stable_token", nil, 413, 47001},
		{"too much for the component API", "/cgi-bin/component/api_query_auth", gwtest.Bearer(gwtest.ClientSecret, ""), 413, 47001},
	} {
		for _, form := range []struct {
			name    string
			size    int
			chunked bool
			more    []string
		}{
			{"10 MiB", 10 << 20, false, nil},
			{"10 MiB in chunks", 10 << 20, true, nil},
			{"200 KB, and the connection is not used again", 200_000, false, []string{"Connection: close"}},
			{"200 KB", 200_000, false, nil},
		} {
			t.Run(row.name+", "+form.name, func(t *testing.T) {
				body, length := bytes.Repeat([]byte("x"), form.size), form.size
				if form.chunked {
					body, length = chunks(body), -1
				}
				c := begin(t, g, row.target, length, row.header, form.more...)
				wantRefused(t, c, body, row.status, row.code)
			})
		}
	}
	if calls := callsOf(g, uploadPath); len(calls) > 0 {
		t.Errorf("WeChat saw %d calls", len(calls))
	}
}

// wantRefused writes a whole body, which must succeed, and then reads the answer.
func wantRefused(t *testing.T, c written, body []byte, status, code int) {
	t.Helper()
	if err := c.send(body); err != nil {
		t.Fatalf("the body was cut off: %v", err)
	}
	got, _, answer, err := c.answer()
	if err != nil || got != status || !strings.Contains(answer, fmt.Sprintf(`"errcode":%d,`, code)) {
		t.Fatalf("answered %d %s, %v, want %d with errcode %d", got, answer, err, status, code)
	}
}

// The same when it is WeChat that answers before it has read all, whatever it does then,
// or when it cannot be reached at all.
func TestEarlyAnswerReachesAClientThatStillSends(t *testing.T) {
	for _, proto := range []string{"plain", "TLS", "HTTP/2"} {
		t.Run(proto, func(t *testing.T) {
			g := startOver(t, proto, nil)
			for _, early := range []string{"read", "close"} {
				for range 10 { // the answer and the end of the connection race
					t.Run(early, func(t *testing.T) {
						g.WeChat.Inject(sandbox.Fault{Path: uploadPath, ErrCode: 45001, Early: early, Times: 1})
						body := bytes.Repeat([]byte("x"), 10<<20)
						c := begin(t, g, uploadPath, len(body), gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
						wantRefused(t, c, body, 200, 45001)
					})
				}
			}
		})
	}
	t.Run("WeChat is not there", func(t *testing.T) {
		g := gwtest.StartWithTokens(t, gwtest.Options{})
		g.Change(func(o *gwtest.Options) { o.API = []string{gwtest.RefusingURL(t)} })
		body := bytes.Repeat([]byte("x"), 10<<20)
		c := begin(t, g, uploadPath, len(body), gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
		wantRefused(t, c, body, 502, -1)
	})
}

// A client that reads while it sends has the answer before it has sent the rest.
func TestRefusalDoesNotWaitForTheBody(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	g.WeChat.Inject(sandbox.Fault{Path: uploadPath, ErrCode: 45001, Early: "read"})
	for name, header := range map[string]http.Header{
		"of the gateway": nil,
		"of WeChat":      gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount),
	} {
		for _, length := range []int{10 << 20, -1} {
			t.Run(fmt.Sprintf("%s, length %d", name, length), func(t *testing.T) {
				c := begin(t, g, uploadPath, length, header)
				body := bytes.Repeat([]byte("x"), 100_000)
				if length < 0 {
					body = bytes.TrimSuffix(chunks(body), []byte("0\r\n\r\n"))
				}
				if err := c.send(body); err != nil {
					t.Fatal(err)
				}
				if status, _, answer, err := c.answer(); err != nil || status != 200 || !strings.Contains(answer, `"errcode":4`) {
					t.Errorf("answered %d %s, %v", status, answer, err)
				}
			})
		}
	}
}

// A client that waits until it is told to send is refused at once, and not told to.
func TestRefusalInPlaceOf100Continue(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	for _, length := range []int{1000, 10 << 20, -1} {
		t.Run(fmt.Sprintf("length %d", length), func(t *testing.T) {
			c := begin(t, g, uploadPath, length, nil, "Expect: 100-continue")
			began := time.Now()
			all, err := io.ReadAll(c.conn) // until the gateway closes the connection
			if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 200 OK") || !strings.Contains(string(all), `"errcode":41001`) {
				t.Errorf("answered %s, %v", all, err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the connection was kept for %v", took)
			}
		})
	}
}

// One that was told to send, and is refused by WeChat before it has sent all, is not
// waiting any more.
func TestEarlyAnswerAfter100Continue(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	g.WeChat.Inject(sandbox.Fault{Path: uploadPath, ErrCode: 45001, Early: "close"})
	c := begin(t, g, uploadPath, 10<<20, gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount), "Expect: 100-continue")
	line := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := io.ReadFull(c.conn, line); err != nil || !strings.HasPrefix(string(line), "HTTP/1.1 100 ") {
		t.Fatalf("told %q, %v", line, err)
	}
	wantRefused(t, c, bytes.Repeat([]byte("x"), 10<<20), 200, 45001)
}

// What is read of a refused body has an end, and so has the connection.
func TestRefusedBodyIsNotReadForEver(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	c := begin(t, g, uploadPath, 1<<30, nil)
	sent := 0
	for piece := make([]byte, 1<<20); sent < 1<<30; sent += len(piece) {
		if err := c.send(piece); err != nil {
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Error(err)
			}
			break
		}
	}
	if sent < 16<<20 || sent > 64<<20 { // the sockets hold some of it
		t.Errorf("%d MiB were read", sent>>20)
	}
}

// After a small refused call the connection is used again, as always.
func TestConnectionIsKeptAfterASmallRefusal(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	c := begin(t, g, uploadPath, 1000, nil)
	for range 3 {
		wantRefused(t, c, make([]byte, 1000), 200, 41001)
		fmt.Fprintf(c.conn, "POST %s HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000\r\n\r\n", uploadPath)
	}
}

// A body that is malformed or breaks off while it streams is no failure of WeChat's.
func TestBrokenUploadIsNoFailureOfWeChat(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	beginning := bytes.TrimSuffix(chunks(make([]byte, 100_000)), []byte("0\r\n\r\n"))
	c := begin(t, g, uploadPath, -1, gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	wantRefused(t, c, append(beginning, "no chunk\r\n"...), 200, 47001)
	c = begin(t, g, uploadPath, 200_000, gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	if err := c.send(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	c.conn.Close()
	wantSoon(t, "nothing of the calls is left", func() bool { return !forwarding(goroutines()) })
	if logs := g.Logs(); strings.Contains(logs, "call refused: unreachable") {
		t.Errorf("logged: %s", logs)
	}
}
