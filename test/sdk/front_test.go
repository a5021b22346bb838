// SPDX-License-Identifier: Apache-2.0

package sdk_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// tokenPaths are where SDKs ask for tokens.
var tokenPaths = []string{"/cgi-bin/token", stablePath, componentTokenPath, renewalPath}

// front stands before a gateway and lets everything pass, but refuses calls or
// requests for tokens when it is told to.
type front struct {
	url     string
	gateway *httputil.ReverseProxy

	mu             sync.Mutex
	refusal        *refusal
	calls, fetches int // since the last refusal began
}

func startFront(t *testing.T, g *gwtest.Gateway) *front {
	t.Helper()
	f := &front{gateway: passTo(t, g)}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

// passTo passes everything to a gateway.
func passTo(t *testing.T, g *gwtest.Gateway) *httputil.ReverseProxy {
	t.Helper()
	address, err := url.Parse(g.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(address) }}
}

// refuse answers what r is for with r from now on; nil lets everything pass.
func (f *front) refuse(r *refusal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refusal = r; r != nil {
		f.calls, f.fetches = 0, 0
	}
}

// counts returns how many calls and requests for tokens came since the last refusal began.
func (f *front) counts() (calls, fetches int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls, f.fetches
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refusal := f.refusalOf(slices.Contains(tokenPaths, r.URL.Path))
	if refusal == nil {
		f.gateway.ServeHTTP(w, r)
		return
	}
	maps.Copy(w.Header(), refusal.header)
	w.WriteHeader(refusal.status)
	_, _ = w.Write([]byte(refusal.body))
}

// refusalOf counts a request and returns what it is to be refused with, if at all.
func (f *front) refusalOf(fetch bool) *refusal {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fetch {
		f.fetches++
	} else {
		f.calls++
	}
	if f.refusal != nil && f.refusal.atToken == fetch {
		return f.refusal
	}
	return nil
}
