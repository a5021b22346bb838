// SPDX-License-Identifier: Apache-2.0

package leaks_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// echo is a server that gives back what it gets, real token included, as
// proxies and error pages do. What it writes is answer with the request in the
// place of ECHO, whatever HTTP says.
type echo struct {
	answer string
	mu     sync.Mutex
	asked  map[string]int // path → how often
	open   sync.WaitGroup // connections
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.asked[r.URL.Path]++
	e.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	e.open.Add(1)
	defer e.open.Done()
	defer conn.Close()
	request := fmt.Sprintf("%s %s %s %q", r.Method, r.RequestURI, body, r.Header)
	answer := strings.ReplaceAll(strings.ReplaceAll(e.answer, "\n", "\r\n"), "ECHO", request)
	if head, zipped, found := strings.Cut(answer, "GZIP"); found {
		answer = head + gwtest.Gzipped(zipped)
	}
	_, _ = io.WriteString(conn, answer)
	if strings.HasPrefix(answer, "HTTP/1.1 101 ") {
		return // the gateway would not close it
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, conn) // until the gateway has done with it
}

// counts returns how often each path was asked.
func (e *echo) counts() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.asked)
}

// askInBackground makes the gateway ask for an account's profile, and waits until it was
// asked and the log tells what came of it.
func askInBackground(t *testing.T, g *gwtest.Gateway, asked func() bool) {
	t.Helper()
	if _, err := g.WeChat.UpdateAuthorized(t.Context(), both[0]); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); !asked() || !strings.Contains(g.Logs(), "learning the profile of an account failed"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no profile was asked for\n%s", g.Logs())
		}
	}
}

// The real token comes back with the answer, in any part of it and in answers
// that are none.
func TestNothingLeaksFromAnUpstreamThatEchoes(t *testing.T) {
	for name, answer := range map[string]string{
		"in a header":                   "HTTP/1.1 200 OK\nX-Request: ECHO\nLink: <ECHO>\nSet-Cookie: a=ECHO\nContent-Type: text/plain; a=ECHO\nContent-Length: 2\n\n{}",
		"in a redirect":                 "HTTP/1.1 302 Found\nLocation: https://elsewhere.example.com/?from=ECHO\nContent-Type: text/html\n\n<a href=\"ECHO\">Moved</a>",
		"in a page of status 404":       "HTTP/1.1 404 Not Found\nContent-Type: text/html\n\n<p>ECHO</p>",
		"in a page of status 502":       "HTTP/1.1 502 Bad Gateway\nContent-Type: text/html\nX-Request: ECHO\n\n<p>ECHO</p>",
		"in a compressed page":          "HTTP/1.1 502 Bad Gateway\nContent-Type: text/html\nContent-Encoding: gzip\n\nGZIPECHO",
		"in a page that says so":        "HTTP/1.1 503 Busy\nContent-Type: text/html\nContent-Encoding: gzip\n\nECHO",
		"in a page that is too long":    "HTTP/1.1 500 Error\nContent-Length: 9999999\n\nECHO",
		"in an informational answer":    "HTTP/1.1 103 Early Hints\nLink: ECHO\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
		"in an upgrade":                 "HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: ECHO\n\nECHO",
		"in the status line":            "HTTP/1.1 200 ECHO\nContent-Length: 2\n\n{}",
		"in the place of a status":      "HTTP/1.1 ECHO\n\n",
		"in the place of an answer":     "ECHO\n\n",
		"in the place of a header":      "HTTP/1.1 200 OK\nECHO\n\n{}",
		"in a header that breaks off":   "HTTP/1.1 200 OK\nX-Request: ECHO",
		"in the place of a length":      "HTTP/1.1 200 OK\nContent-Length: ECHO\n\n{}",
		"in the place of an encoding":   "HTTP/1.1 200 OK\nTransfer-Encoding: ECHO\n\n{}",
		"in a trailer":                  "HTTP/1.1 200 OK\nTrailer: X-Request\nTransfer-Encoding: chunked\n\n2\n{}\n0\nX-Request: ECHO\n\n",
		"in the place of a trailer":     "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\n{}\n0\nECHO\n\n",
		"in the place of a chunk":       "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\n{}\nECHO\n\n",
		"behind the answer":             "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}ECHO",
		"in an answer of the API":       "HTTP/1.1 200 OK\nContent-Type: application/json\n\n{\"errcode\":40003,\"errmsg\":\"invalid openid ECHO\"}",
		"in a compressed answer":        "HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Encoding: gzip\n\nGZIP{\"errcode\":40003,\"errmsg\":\"ECHO\"}",
		"in a page that claims success": "HTTP/1.1 200 OK\nContent-Type: text/html\n\n<p>ECHO</p>",
		"in an answer of status 201":    "HTTP/1.1 201 Created\nContent-Type: text/plain\n\nECHO",
	} {
		t.Run(name, func(t *testing.T) {
			e := &echo{answer: answer, asked: make(map[string]int)}
			const info = "/cgi-bin/component/api_get_authorizer_info"
			g := gwtest.StartThenRoutes(t, gwtest.Options{Watch: true}, map[string]http.HandlerFunc{
				gwtest.SendPath: e.ServeHTTP, "/sns/component/jscode2session": e.ServeHTTP, gwtest.RenewalPath: e.ServeHTTP, info: e.ServeHTTP,
			})
			header := gwtest.Bearer(gwtest.ClientSecret, both[0])
			header.Set("Accept-Encoding", "gzip")
			client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			call := func(method, path, content string, header http.Header) {
				_, _ = g.Try(client, method, path, content, header)
				e.open.Wait()
			}
			call(http.MethodPost, gwtest.SendPath, `{"a":"b"}`, header)
			call(http.MethodGet, gwtest.SendPath, "", header)
			call(http.MethodGet, "/sns/jscode2session?js_code=x&appid="+both[0]+"&secret="+gwtest.ClientSecret, "", nil)
			g.WeChat.KillTokens(both[1])
			call(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, both[1]))
			call(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, "wxcccccccccccccccc")) // not known here
			if asked := e.counts(); len(asked) != 4 {
				t.Errorf("only %v were called", asked)
			}
			askInBackground(t, g, func() bool { return e.counts()[info] > 1 })
		})
	}
}

// An error page is searched up to a limit. Where that lies within the token,
// its beginning must not pass either.
func TestPageIsNotCutWithinTheToken(t *testing.T) {
	const limit, most = 64 << 10, 20
	var real string
	g := gwtest.StartWithRoutes(t, gwtest.Options{Watch: true}, map[string]http.HandlerFunc{gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
		real = r.URL.Query().Get("access_token")
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write(append(bytes.Repeat([]byte(" "), limit-len(real)+1), real...))
	}})
	answer := g.Ask(http.MethodGet, gwtest.SendPath, "", gwtest.Bearer(gwtest.ClientSecret, both[0]))
	if answer.Status != http.StatusBadGateway || strings.Contains(answer.Body, real[:most]) {
		t.Errorf("answered %d, ending in %q", answer.Status, strings.TrimSpace(answer.Body))
	}
}
