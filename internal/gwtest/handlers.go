// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// SeenRequest is a request as a handler of the test saw it.
type SeenRequest struct {
	Method, Host, URI string
	Header            http.Header
	Body              string
}

// Record returns a handler that appends the requests it sees to into, and
// answers with answer. It sees one request at a time.
func Record(into *[]SeenRequest, answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		*into = append(*into, SeenRequest{r.Method, r.Host, r.RequestURI, r.Header, string(body)})
		answer(w, r)
	}
}

// AnswerOK answers as WeChat does when a call went well.
func AnswerOK(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"errcode":0,"errmsg":"ok"}`)
}

// Answer returns a handler that answers with a body of a content type; an empty
// one is left out of the header. A body that Gzipped has made is declared as
// such. The body is sent with its length, or chunked, one byte in each chunk.
func Answer(contentType, body string, chunked bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		} else {
			w.Header()["Content-Type"] = nil
		}
		if strings.HasPrefix(body, "\x1f\x8b") {
			w.Header().Set("Content-Encoding", "gzip")
		}
		if !chunked {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = io.WriteString(w, body)
			return
		}
		for _, b := range []byte(body) {
			_, _ = w.Write([]byte{b})
			w.(http.Flusher).Flush()
		}
	}
}

// Gzipped returns a text compressed with gzip.
func Gzipped(text string) string {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	_, _ = io.WriteString(zip, text)
	_ = zip.Close()
	return out.String()
}

// Serve serves a handler until the test ends and returns its base URL.
func Serve(t testing.TB, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// RefusingURL returns the base URL of a host that refuses connections until the test ends:
// its port is that of a client, so nobody else is given it.
func RefusingURL(t testing.TB) string {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return "http://" + client.LocalAddr().String()
}
