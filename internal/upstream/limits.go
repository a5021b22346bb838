// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"net"
	"net/http"
	"time"
)

// Limits of all calls to WeChat.
const (
	// DialTimeout is the time to make a TCP connection for the component API. It is
	// also the default of Caddy's transport, which the calls of applications use.
	DialTimeout = 3 * time.Second
	// HandshakeTimeout is the time for a TLS handshake. Caddy's transport has no
	// limit for it by default.
	HandshakeTimeout = 5 * time.Second
	// MaxResponseHeader is the longest header of an answer, in bytes. WeChat's have some
	// hundred bytes; a server on the way that sends more to many calls at a time must not
	// fill the memory.
	MaxResponseHeader = 64 << 10
)

// NewTransport returns the transport for WeChat's component API. Calls of
// applications have another one: tokens must be renewed also while these use
// all connections of theirs. Making a connection gets only a part of the time
// that a call has. So if a host does not answer at all, there is time left for
// the next host.
func NewTransport() *http.Transport {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if common, ok := http.DefaultTransport.(*http.Transport); ok {
		transport = common.Clone() // with the certificates that the process trusts
	}
	transport.DialContext = (&net.Dialer{Timeout: DialTimeout}).DialContext
	transport.TLSHandshakeTimeout = HandshakeTimeout
	transport.MaxIdleConnsPerHost = 16
	transport.MaxResponseHeaderBytes = MaxResponseHeader
	return transport
}
