// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// maxKept is how much is kept of the body of one answer.
const maxKept = 4 << 20

// recorder stands between a server and all of its callers, whatever process
// they are in, and keeps every answer.
type recorder struct {
	mu      sync.Mutex
	answers []*answer
}

// answer is what one caller got, as far as it has come.
type answer struct {
	request string // method and path
	head    bytes.Buffer
	gzipped bool
	body    []byte
}

// before starts a server that passes everything on to the one at address, and
// returns its own. Each request has a connection of its own to there: the
// transport would otherwise repeat some requests by itself.
func (r *recorder) before(t testing.TB, address string) string {
	t.Helper()
	behind, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	quiet := log.New(io.Discard, "", 0) // not a log of the gateway's
	proxy := &httputil.ReverseProxy{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		FlushInterval: -1,
		ErrorLog:      quiet,
		Rewrite: func(p *httputil.ProxyRequest) {
			to := *p.In.URL
			if !strings.HasPrefix(p.In.RequestURI, "//") {
				to = url.URL{Opaque: p.In.RequestURI} // is sent as it stands
			}
			to.Scheme, to.Host = behind.Scheme, behind.Host
			p.Out.URL, p.Out.Host, p.Out.Header = &to, p.In.Host, p.In.Header.Clone()
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		// An answer may begin before the request has ended.
		_ = http.NewResponseController(w).EnableFullDuplex()
		recording := r.keep(w, request)
		defer recording.keepHead("at the end")
		proxy.ServeHTTP(recording, request)
	}))
	server.Config.ErrorLog = quiet
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func (r *recorder) keep(w http.ResponseWriter, request *http.Request) *recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := &answer{request: request.Method + " " + request.URL.Path}
	r.answers = append(r.answers, kept)
	return &recording{ResponseWriter: w, mu: &r.mu, answer: kept}
}

// places returns the answers that have come, each uncompressed.
func (r *recorder) places() (places []Place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.answers {
		data := append(bytes.Clone(a.head.Bytes()), a.body...)
		if a.gzipped {
			data = append(data, gunzipped(a.body)...)
		}
		places = append(places, Place{Name: "the answer to " + a.request, Data: data})
	}
	return places
}

// gunzipped is what can be read of a body that may break off.
func gunzipped(body []byte) []byte {
	zipped, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil
	}
	plain, _ := io.ReadAll(io.LimitReader(zipped, maxKept))
	return plain
}

// recording writes an answer to its caller and keeps it.
type recording struct {
	http.ResponseWriter
	mu     *sync.Mutex
	answer *answer
}

// keepHead keeps the header as it is now: there may be informational answers
// before it, and trailers in it at the end.
func (r *recording) keepHead(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer.head.WriteString(line + "\r\n")
	_ = r.Header().Write(&r.answer.head)
	r.answer.gzipped = r.Header().Get("Content-Encoding") == "gzip"
}

func (r *recording) WriteHeader(status int) {
	r.keepHead(fmt.Sprintf("HTTP/1.1 %d", status))
	r.ResponseWriter.WriteHeader(status)
}

func (r *recording) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.answer.body = append(r.answer.body, p[:min(len(p), maxKept-len(r.answer.body))]...)
	r.mu.Unlock()
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController flush.
func (r *recording) Unwrap() http.ResponseWriter { return r.ResponseWriter }
