// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

// provisionTransport provisions p.Transport, with defaults for a single
// upstream with many calls. It reports whether package upstream may make the
// calls, see unusual. The defaults differ from Caddy's in three ways. Caddy keeps
// 32 idle connections for each host: with 256 clients every second request
// would have to make one. And Caddy waits for the header of an answer without a
// limit, and accepts one of 10 MiB.
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
	if t.MaxResponseHeaderSize == 0 {
		t.MaxResponseHeaderSize = upstream.MaxResponseHeader
	}
	direct = !unusual(t) // before Provision, which clears some of the options
	if err := t.Provision(ctx); err != nil {
		return false, err
	}
	if t.Transport.TLSHandshakeTimeout == 0 {
		t.Transport.TLSHandshakeTimeout = upstream.HandshakeTimeout
	}
	upstream.KeepEarlyAnswers(t.Transport)
	return direct, nil
}

// newTransport returns the transport of a target whose URL has this scheme, with
// defaults as [Deliver.Transport] tells. The number of connections is limited, so that
// an application that does not answer cannot use up all file descriptors. The time to
// connect is short, because WeChat waits for the reply to a message. The time for the
// answer is limited by the context of each delivery.
func (d *Deliver) newTransport(ctx caddy.Context, scheme string) (deliverTransport, error) {
	t := d.Transport
	if t == nil {
		t = new(reverseproxy.HTTPTransport)
	}
	switch {
	case t.ProxyProtocol != "":
		return deliverTransport{}, errors.New("transport: proxy_protocol is not possible: a delivery is made for no connection of a visitor")
	case t.TLS != nil && strings.Contains(t.TLS.ServerName, "{"):
		return deliverTransport{}, errors.New("transport: tls_server_name takes no placeholder: there is no request from which it could be filled in")
	case t.TLS != nil && scheme == "http":
		return deliverTransport{}, errors.New("transport: has options of TLS, but the URL is one of http, not of https")
	case slices.Contains(t.Versions, "3"):
		return deliverTransport{}, errors.New("transport: HTTP/3 is not possible: a reload would break off the deliveries in progress")
	}
	if t.KeepAlive == nil {
		t.KeepAlive = new(reverseproxy.KeepAlive)
	}
	t.DialTimeout = cmp.Or(t.DialTimeout, caddy.Duration(2*time.Second))
	t.MaxConnsPerHost = cmp.Or(t.MaxConnsPerHost, 256)
	t.KeepAlive.MaxIdleConnsPerHost = cmp.Or(t.KeepAlive.MaxIdleConnsPerHost, 64)
	t.KeepAlive.IdleConnTimeout = cmp.Or(t.KeepAlive.IdleConnTimeout, caddy.Duration(90*time.Second))
	t.MaxResponseHeaderSize = cmp.Or(t.MaxResponseHeaderSize, upstream.MaxResponseHeader)
	if err := t.Provision(ctx); err != nil {
		return deliverTransport{}, fmt.Errorf("transport: %w", err)
	}
	t.Transport.TLSHandshakeTimeout = cmp.Or(t.Transport.TLSHandshakeTimeout, 2*time.Second)
	return deliverTransport{t}, nil
}

// deliverTransport makes the deliveries to one target.
type deliverTransport struct{ *reverseproxy.HTTPTransport }

// RoundTrip makes the call as Caddy's transport does. The error is a
// delivery.DialError if no connection could be made: package delivery does not know
// Caddy's.
func (t deliverTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.HTTPTransport.RoundTrip(r)
	if dial := new(reverseproxy.DialError); errors.As(err, dial) {
		err = delivery.DialError{Err: *dial}
	}
	return response, err
}

// unusual reports whether a transport has options that package upstream does
// not implement. All calls then go through the http.Transport.
func unusual(t *reverseproxy.HTTPTransport) bool {
	return t.ReadTimeout > 0 || t.WriteTimeout > 0 || t.ReadBufferSize > 0 || t.WriteBufferSize > 0 || t.ExpectContinueTimeout > 0 ||
		t.MaxConnsPerHost > 0 || t.KeepAlive.MaxIdleConns > 0 || t.KeepAlive.Enabled != nil && !*t.KeepAlive.Enabled ||
		t.ProxyProtocol != "" || t.ForwardProxyURL != "" || len(t.NetworkProxyRaw) > 0 ||
		t.TLS != nil && (strings.Contains(t.TLS.ServerName, "{") || t.TLS.Renegotiation != "") ||
		slices.Contains(t.Versions, "h2c") || slices.Contains(t.Versions, "3")
}

// withoutProxy returns the hosts for which the environment (HTTPS_PROXY,
// NO_PROXY) names no proxy. Package upstream cannot use proxies.
func withoutProxy(all []*url.URL) (hosts []*url.URL) {
	for _, host := range all {
		if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: host}); err == nil && proxy == nil {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// markDialErrors turns the errors that mean that no connection was made into a
// relay.DialError. After such an error nothing can have reached WeChat, so
// package relay may send the request to the next host. Caddy's transport has an
// error type of its own for this, through which errors.As does not find the
// *net.OpError.
type markDialErrors struct{ http.RoundTripper }

// RoundTrip makes the call as the RoundTripper does.
func (m markDialErrors) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := m.RoundTripper.RoundTrip(r)
	if err != nil && errors.As(err, new(reverseproxy.DialError)) {
		err = relay.DialError{Err: err}
	}
	return response, err
}

// Validate checks the options. A Caddyfile is checked when it is parsed, so
// this is for JSON.
func (p *Proxy) Validate() error {
	if p.MaxReplayBody < 1 || p.MaxReplayBody > maxReplayBody {
		return fmt.Errorf("max_replay_body: %d is not between 1 and %d bytes", p.MaxReplayBody, maxReplayBody)
	}
	return nil
}

// Cleanup closes the idle connections to WeChat. Those in use are closed when
// their answers are read. Caddy also calls it if Provision has failed.
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
