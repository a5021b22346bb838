// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

// A whole call over TLS, other end included, as http.Transport makes it and as
// this package does.
func BenchmarkRoundTrip(b *testing.B) {
	s := serve(b, true, (*peer).goOn)
	b.Run("net_http", func(b *testing.B) { s.bench(b, s.options) })
	b.Run("upstream", func(b *testing.B) {
		transport := upstream.New(s.options.Clone(), s.options, []*url.URL{s.URL})
		defer transport.CloseIdle()
		s.bench(b, transport)
	})
}

func (s *server) bench(b *testing.B, transport http.RoundTripper) {
	b.ReportAllocs()
	r := s.request(b, context.Background())
	for b.Loop() {
		response, err := transport.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			b.Fatal(err)
		}
		response.Body.Close()
	}
}
