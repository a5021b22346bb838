// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

// Nobody has to tune the transport, and what somebody tunes stays.
func TestTransportDefaults(t *testing.T) {
	tuned := &reverseproxy.HTTPTransport{
		KeepAlive:             &reverseproxy.KeepAlive{MaxIdleConnsPerHost: 7, IdleConnTimeout: caddy.Duration(time.Second)},
		DialTimeout:           caddy.Duration(time.Minute),
		ResponseHeaderTimeout: caddy.Duration(time.Hour),
		Versions:              []string{"1.1"},
	}
	for name, row := range map[string]struct {
		transport        *reverseproxy.HTTPTransport
		idle             int
		keep, dial, wait time.Duration
		h2               bool
	}{
		"as it is": {nil, 512, 2 * time.Minute, upstream.DialTimeout, 30 * time.Second, true},
		"tuned":    {tuned, 7, time.Second, time.Minute, time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
			defer cancel()
			p := &Proxy{Transport: row.transport}
			if _, err := p.provisionTransport(ctx); err != nil {
				t.Fatal(err)
			}
			defer p.Cleanup()
			got := p.Transport.Transport
			if got.MaxIdleConnsPerHost != row.idle || got.MaxIdleConns != 0 || got.MaxConnsPerHost != 0 {
				t.Errorf("keeps %d idle connections per host, %d in all, and makes %d at most", got.MaxIdleConnsPerHost, got.MaxIdleConns, got.MaxConnsPerHost)
			}
			if got.IdleConnTimeout != row.keep || time.Duration(p.Transport.DialTimeout) != row.dial || got.ResponseHeaderTimeout != row.wait {
				t.Errorf("keeps them for %v, dials for %v, waits for %v", got.IdleConnTimeout, time.Duration(p.Transport.DialTimeout), got.ResponseHeaderTimeout)
			}
			if got.TLSHandshakeTimeout != upstream.HandshakeTimeout {
				t.Errorf("a TLS handshake may take %v", got.TLSHandshakeTimeout)
			}
			if h2 := got.TLSClientConfig != nil && slices.Contains(got.TLSClientConfig.NextProtos, "h2"); h2 != row.h2 {
				t.Errorf("HTTP/2 is spoken: %v", h2)
			}
		})
	}
}

// What package upstream does not know goes through the http.Transport.
func TestDirectCalls(t *testing.T) {
	proxied := reverseproxy.HTTPTransport{NetworkProxyRaw: []byte(`{"from":"none"}`)}
	disabled := false
	for name, row := range map[string]struct {
		transport reverseproxy.HTTPTransport
		direct    bool
	}{
		"defaults":            {reverseproxy.HTTPTransport{}, true},
		"tuned":               {reverseproxy.HTTPTransport{DialTimeout: 1, KeepAlive: &reverseproxy.KeepAlive{MaxIdleConnsPerHost: 7}, TLS: new(reverseproxy.TLSConfig)}, true},
		"read timeout":        {reverseproxy.HTTPTransport{ReadTimeout: 1}, false},
		"buffers":             {reverseproxy.HTTPTransport{ReadBufferSize: 1 << 16}, false},
		"waits to go on":      {reverseproxy.HTTPTransport{ExpectContinueTimeout: 1}, false},
		"renegotiation":       {reverseproxy.HTTPTransport{TLS: &reverseproxy.TLSConfig{Renegotiation: "freely"}}, false},
		"write timeout":       {reverseproxy.HTTPTransport{WriteTimeout: 1}, false},
		"PROXY protocol":      {reverseproxy.HTTPTransport{ProxyProtocol: "v2"}, false},
		"a proxy":             {proxied, false},
		"a bound":             {reverseproxy.HTTPTransport{MaxConnsPerHost: 7}, false},
		"a bound of the idle": {reverseproxy.HTTPTransport{KeepAlive: &reverseproxy.KeepAlive{MaxIdleConns: 7}}, false},
		"no keepalive":        {reverseproxy.HTTPTransport{KeepAlive: &reverseproxy.KeepAlive{Enabled: &disabled}}, false},
		"h2c":                 {reverseproxy.HTTPTransport{Versions: []string{"h2c"}}, false},
		"a name by request":   {reverseproxy.HTTPTransport{TLS: &reverseproxy.TLSConfig{ServerName: "{host}"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
			defer cancel()
			p := &Proxy{Transport: &row.transport}
			direct, err := p.provisionTransport(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Cleanup()
			if direct != row.direct {
				t.Errorf("called directly: %v", direct)
			}
		})
	}
}
