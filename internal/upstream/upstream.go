// SPDX-License-Identifier: Apache-2.0

// Package upstream makes short HTTP/1 calls on the goroutine of the caller.
//
// [http.Transport] has two goroutines for each connection. To pass a call to
// them and to get its answer from them costs more than everything else that the
// gateway does for a call. Here the goroutine of the caller writes the request
// and reads the answer, with the code of net/http ([http.Request.Write],
// [http.ReadResponse]). Connections and TLS are made with the options of the
// http.Transport.
//
// The http.Transport itself still makes all other calls: to hosts that speak
// HTTP/2, through proxies, and with long requests. The caller decides about
// proxies and long requests, [Transport.RoundTrip] about HTTP/2.
//
// Entry points: [New], then [Transport.RoundTrip]. In host.go is the pool of
// the connections to one host, in conn.go one connection, in framing.go when it may
// be used again, in socket.go and poll_unix.go the check whether an idle connection
// is still usable. In patient.go is what the http.Transport needs for long requests
// that are answered early.
package upstream

import (
	"net/http"
	"net/url"
	"strings"
	"unicode"
)

// Transport makes calls to the hosts that were given to New, and passes calls
// to all other hosts to the http.Transport. It is safe for concurrent use; the
// map does not change after New.
//
// A request that Transport sends itself is sent once. If the connection fails,
// it is never sent again, whatever its method: a message would be delivered
// twice, or a code be spent twice. http.Transport may repeat a request without
// a body.
type Transport struct {
	std   http.RoundTripper
	hosts map[place]*host
}

// place is the part of a URL that selects a host: scheme and host with port, as
// they are written in the URL.
type place struct{ scheme, host string }

// Short is the largest size in bytes, of body and query together, of a request
// to a host of New. The whole request is written before the answer is read. If
// the server answers without reading the request, the request must fit into the
// socket buffers of both sides; otherwise each side would wait for the other.
const Short = 16 << 10

// New returns a Transport for hosts. std makes all other calls, and options is
// the http.Transport that std uses. New takes these fields of options:
// DialContext, TLSClientConfig, TLSHandshakeTimeout, ResponseHeaderTimeout,
// IdleConnTimeout, MaxIdleConnsPerHost and MaxResponseHeaderBytes. The caller
// must not change options afterwards. If options has others, such as
// MaxConnsPerHost, the caller must pass no hosts: they would have no effect.
//
// DialContext must return after a limited time also if its context does not
// end: a connection is made with a context that does not end with the call.
//
// Where idle connections cannot be checked (canProbe), and without a
// DialContext, std makes all calls. It also makes those to hosts with
// characters outside ASCII, because their names would have to be translated
// (IDNA).
func New(std http.RoundTripper, options *http.Transport, hosts []*url.URL) *Transport {
	t := &Transport{std: Standard(std), hosts: make(map[place]*host)}
	if !canProbe || options.DialContext == nil {
		return t
	}
	for _, u := range hosts {
		if ascii(u.Host) {
			t.hosts[place{u.Scheme, u.Host}] = newHost(u, options)
		}
	}
	return t
}

// ascii reports whether text has no characters outside ASCII.
func ascii(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII })
}

// RoundTrip makes one call and returns when the header of the answer has
// arrived, when the request's context ends, or when the call has failed.
// Without an answer it waits for a connection (see host.acquire) and then for
// ResponseHeaderTimeout. If the context ends, the error is its cause. The
// caller must read the body of the answer from one goroutine and close it;
// until then the call has a connection of its own, and the context still ends
// the call.
//
// For a host of New, the body of the request must be in memory and not longer
// than Short. There are these differences to http.Transport: RoundTrip does not
// ask for compression, does not check method and header (they come from a
// server of net/http, which has checked them), and does not close the body of a
// request that was not written.
//
// Whether a host speaks HTTP/2 over TLS is not known before the first call, so
// http.Transport makes that one and all calls until a host has answered with
// HTTP/1. It is the same after a TLS handshake has failed: the host may speak
// another protocol now.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	h := t.hosts[place{r.URL.Scheme, r.URL.Host}]
	if h != nil && h.http1.Load() {
		return h.call(r)
	}
	response, err := t.std.RoundTrip(r)
	if err == nil && h != nil && response.ProtoMajor == 1 && h.http1.CompareAndSwap(false, true) {
		h.options.CloseIdleConnections() // short calls do not use them any more
	}
	return response, err
}

// CloseIdle closes the connections that are idle, and from now on each
// connection as soon as its answer is read. Calls are still possible, also
// later: requests of an old configuration go on after it was replaced. It does
// not wait, and it does not close the connections of the http.Transport.
func (t *Transport) CloseIdle() {
	for _, h := range t.hosts {
		h.close()
	}
}
