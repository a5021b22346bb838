// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-wechat/caddy-wechat/internal/relay"
)

// dialTimeout is what Caddy's transport gives a connection by default.
const dialTimeout = 3 * time.Second

// handshakeTimeout is how long a TLS handshake may take: Caddy's transport gives
// one all the time of the world unless told otherwise.
const handshakeTimeout = 5 * time.Second

// provisionTransport fills in defaults that are right for one busy upstream,
// and reports whether calls may be made past the http.Transport. Caddy keeps 32
// idle connections per host, with which every second request of 256 clients has
// to dial, and waits for an answer for ever.
func (p *Proxy) provisionTransport(ctx caddy.Context) (direct bool, err error) {
	if p.Transport == nil {
		p.Transport = new(reverseproxy.HTTPTransport)
	}
	t := p.Transport
	if t.KeepAlive == nil {
		t.KeepAlive = new(reverseproxy.KeepAlive)
	}
	if t.KeepAlive.MaxIdleConnsPerHost == 0 {
		t.KeepAlive.MaxIdleConnsPerHost = 512
	}
	if t.ResponseHeaderTimeout == 0 {
		t.ResponseHeaderTimeout = caddy.Duration(30 * time.Second)
	}
	direct = !unusual(t) // which takes some of its options away when it is provisioned
	if err := t.Provision(ctx); err != nil {
		return false, err
	}
	if t.Transport.TLSHandshakeTimeout == 0 {
		t.Transport.TLSHandshakeTimeout = handshakeTimeout
	}
	return direct, nil
}

// unusual reports whether a transport has options that package upstream does
// not know.
func unusual(t *reverseproxy.HTTPTransport) bool {
	return t.ReadTimeout > 0 || t.WriteTimeout > 0 || t.ReadBufferSize > 0 || t.WriteBufferSize > 0 || t.ExpectContinueTimeout > 0 ||
		t.MaxConnsPerHost > 0 || t.KeepAlive.MaxIdleConns > 0 || t.KeepAlive.Enabled != nil && !*t.KeepAlive.Enabled ||
		t.ProxyProtocol != "" || t.ForwardProxyURL != "" || len(t.NetworkProxyRaw) > 0 ||
		t.TLS != nil && (strings.Contains(t.TLS.ServerName, "{") || t.TLS.Renegotiation != "") ||
		slices.Contains(t.Versions, "h2c") || slices.Contains(t.Versions, "3")
}

// withoutProxy returns the hosts that the environment names no proxy for.
func withoutProxy(all []*url.URL) (hosts []*url.URL) {
	for _, host := range all {
		if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: host}); err == nil && proxy == nil {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// markDialErrors marks the errors that say that no connection was made, as package
// relay wants it. Caddy's transport has a mark of its own, which hides the
// *net.OpError within.
type markDialErrors struct{ http.RoundTripper }

func (m markDialErrors) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := m.RoundTripper.RoundTrip(r)
	if err != nil && errors.As(err, new(reverseproxy.DialError)) {
		err = relay.DialError{Err: err}
	}
	return response, err
}

// Validate checks what JSON can say and a Caddyfile cannot.
func (p *Proxy) Validate() error {
	if p.MaxReplayBody < 1 || p.MaxReplayBody > maxReplayBody {
		return fmt.Errorf("max_replay_body: %d is not between 1 and %d bytes", p.MaxReplayBody, maxReplayBody)
	}
	return nil
}

// Cleanup closes the connections that are idle; those in use go on.
func (p *Proxy) Cleanup() error {
	if p.Transport == nil || p.Transport.Transport == nil {
		return nil
	}
	if p.direct != nil {
		p.direct.CloseIdle()
	}
	return p.Transport.Cleanup()
}

var (
	_ caddy.Validator    = (*Proxy)(nil)
	_ caddy.CleanerUpper = (*Proxy)(nil)
)
