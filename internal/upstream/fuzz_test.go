// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

// FuzzAnswers lets http.Transport and this one read the same bytes: they find
// the same answer in them, or both none.
func FuzzAnswers(f *testing.F) {
	log.SetOutput(io.Discard) // http.Transport complains of what comes too late
	for _, answer := range []string{
		fine, "", "HTTP/1.1 200 OK\r\n\r\nto the end", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 204 No Content\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
		"HTTP/1.1 103 Early Hints\r\nLink: <>\r\n\r\n" + fine, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 099 \r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}", "HTTP/2.0 200 OK\r\n\r\n", "SSH-2.0-OpenSSH_9.9\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nA: 1\r\n 2\r\na: 3\r\n\r\n",
	} {
		f.Add([]byte(answer), false)
		f.Add([]byte(answer), true)
	}
	f.Fuzz(func(t *testing.T, answer []byte, head bool) {
		u := &url.URL{Scheme: "http", Host: "wechat.test"}
		options := &http.Transport{DisableCompression: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				if _, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
					_, _ = far.Write(answer)
				}
			}()
			return near, nil
		}}
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		want := outcome(options, method, u)
		if got := outcome(upstream.New(options, options, []*url.URL{u}), method, u); got != want {
			t.Errorf("found\n%s\nhttp.Transport finds\n%s", got, want)
		}
	})
}

// outcome says what a transport makes of an answer. Which error there is does
// not matter, nor what the body of another protocol holds.
func outcome(transport http.RoundTripper, method string, u *url.URL) string {
	response, err := transport.RoundTrip(&http.Request{Method: method, URL: u, Host: u.Host, Header: http.Header{}})
	if err != nil {
		return "no answer"
	}
	defer response.Body.Close()
	found := fmt.Sprintln(response.Status, response.Proto, response.ContentLength, response.TransferEncoding)
	for _, name := range slices.Sorted(maps.Keys(response.Header)) {
		found += fmt.Sprintf("%q: %q\n", name, response.Header[name])
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return found
	}
	content, err := io.ReadAll(response.Body)
	return found + fmt.Sprintf("%q %t", content, err == nil)
}
