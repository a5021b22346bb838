// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// overHTTP2 makes the sites speak HTTP/2 as well, without TLS.
const overHTTP2 = "servers {\nprotocols h1 h2c\n}\n"

func http2Client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second} // only a failure takes it
}

// A refusal, and a rejected token, during a large upload over HTTP/2.
func TestLargeUploadOverHTTP2(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Global: overHTTP2})
	client := http2Client(t)
	body := strings.Repeat("x", 10<<20)
	for _, row := range []struct {
		name   string
		header http.Header
		status int
		code   int
	}{
		{"no token", http.Header{}, 200, 41001},
		{"a wrong client secret", gwtest.Bearer(gwtest.UnknownSecret, ""), 401, 40125}, // at this status net/http stops sending
	} {
		t.Run(row.name, func(t *testing.T) {
			began := time.Now()
			answer, err := g.Try(client, http.MethodPost, uploadPath, body, row.header)
			if err != nil || answer.Status != row.status || answer.ErrCode != row.code {
				t.Errorf("answered %d %s, %v", answer.Status, answer.Body, err)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	for _, early := range []string{"no", "read", "close"} {
		t.Run("a killed token, early "+early, func(t *testing.T) {
			appid := deadAccount(t, g)
			g.WeChat.Inject(sandbox.Fault{Path: "/wxa/upload", Early: early, Times: 1})
			answer, err := g.Try(client, http.MethodPost, "/wxa/upload", body, gwtest.Bearer(gwtest.ClientSecret, appid))
			if err != nil || answer.Status != 200 || answer.Slug != "" || answer.ErrCode != 0 {
				t.Errorf("answered %d %s, %v", answer.Status, answer.Body, err)
			}
			calls := callsOf(g, "/wxa/upload")
			if len(calls) != 2 || calls[1].BodySize != int64(len(body)) {
				t.Errorf("WeChat saw %d calls", len(calls))
			}
		})
	}
}

// Over HTTP/2 a client can end a body before it is as long as it has said. As over
// HTTP/1, where it has to hang up for that, this is no failure of WeChat's.
func TestBodyShorterThanItsLengthIsNoFailureOfWeChat(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Global: overHTTP2})
	for _, length := range []int{1000, 300_000} {
		for _, sent := range []int{1, length - 1} {
			t.Run(fmt.Sprintf("%d of %d bytes", sent, length), func(t *testing.T) {
				if status := shortBody(t, g, length, sent); status != "499" {
					t.Errorf("answered %s", status)
				}
			})
		}
	}
	if logs := g.Logs(); strings.Contains(logs, "call refused") {
		t.Errorf("logged: %s", logs)
	}
}

// shortBody announces length bytes, sends sent, ends the body, and returns the status
// of the answer. An http.Client would not do that.
func shortBody(t *testing.T, g *gwtest.Gateway, length, sent int) (status string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.Proxy, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":authority", "gateway"}, {":path", gwtest.SendPath},
		{"authorization", "Bearer " + gwtest.ClientSecret}, {"wechat-appid", gwtest.OfficialAccount},
		{"content-length", strconv.Itoa(length)},
	} {
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	go func() { // within the windows of the server, which are larger
		for left := sent; left > 0; {
			n := min(left, 16<<10)
			left -= n
			if framer.WriteData(1, left == 0, make([]byte, n)) != nil {
				return
			}
		}
	}()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if headers, ok := frame.(*http2.MetaHeadersFrame); ok {
			return headers.PseudoValue("status")
		}
	}
}
