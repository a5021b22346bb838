// SPDX-License-Identifier: Apache-2.0

package callers_test

import (
	"io"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(recorder{})
	httpcaddyfile.RegisterHandlerDirective("callers_record", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return new(recorder), nil
	})
}

// recorder is a handler before the gateway. It keeps what callers send, as far
// as the gateway reads it, in records: Caddy makes its handlers itself.
type recorder struct{}

func (recorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.callers_record", New: func() caddy.Module { return new(recorder) }}
}

func (recorder) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	record := &record{path: r.URL.Path, contentType: r.Header.Get("Content-Type")}
	records.Lock()
	records.all = append(records.all, record)
	records.Unlock()
	if r.Body != http.NoBody {
		r.Body = &recordedBody{r.Body, record}
	}
	return next.ServeHTTP(w, r)
}

var records struct {
	sync.Mutex
	all []*record
}

// record is one request.
type record struct {
	path, contentType string
	body              []byte // under the lock of records while the request lasts
}

type recordedBody struct {
	io.ReadCloser
	record *record
}

func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	records.Lock()
	defer records.Unlock()
	b.record.body = append(b.record.body, p[:n]...)
	return n, err
}

// takeRecords returns copies of the requests to a path since the last call,
// and forgets all.
func takeRecords(path string) (taken []record) {
	records.Lock()
	defer records.Unlock()
	for _, r := range records.all {
		if r.path == path {
			taken = append(taken, *r)
		}
	}
	records.all = nil
	return taken
}

var _ caddyhttp.MiddlewareHandler = recorder{}
