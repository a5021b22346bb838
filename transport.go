// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
)

// dialLimit is what Caddy's transport gives a connection by default.
const dialLimit = 3 * time.Second

// provisionTransport fills in defaults that are right for one busy upstream.
// Caddy keeps 32 idle connections per host, with which every second request
// of 256 clients has to dial, and waits for an answer for ever.
func (p *Proxy) provisionTransport(ctx caddy.Context) error {
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
	return t.Provision(ctx)
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
	return p.Transport.Cleanup()
}

// newAPIClient returns the client for the component API, with a transport of
// its own: the token endpoints must answer while applications fill the other.
// Dialling gets a fraction of the time a call has, so that a host which
// swallows packets is passed over for the next.
func newAPIClient(hosts []*url.URL) *openapi.Client {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if common, ok := http.DefaultTransport.(*http.Transport); ok {
		transport = common.Clone() // and with it whom the process trusts
	}
	transport.DialContext = (&net.Dialer{Timeout: dialLimit}).DialContext
	transport.TLSHandshakeTimeout = 5 * time.Second
	transport.MaxIdleConnsPerHost = 16
	client := &openapi.Client{Transport: transport}
	for _, host := range hosts {
		client.Hosts = append(client.Hosts, host.String())
	}
	return client
}

var (
	_ caddy.Validator    = (*Proxy)(nil)
	_ caddy.CleanerUpper = (*Proxy)(nil)
)
