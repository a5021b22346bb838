// SPDX-License-Identifier: Apache-2.0

// Package upstream makes short HTTP/1 calls on the goroutine that wants them.
//
// [http.Transport] has two goroutines for each connection, and to hand a call
// to them and take its answer from them costs more than all else that the
// gateway does for it. Here the caller's goroutine writes the request and reads
// the answer itself, by net/http's own writer and parser ([http.Request.Write],
// [http.ReadResponse]); connections and TLS are made as the http.Transport is
// configured to make them. What it cannot do better goes through the
// http.Transport: hosts that speak HTTP/2, proxies, long requests.
package upstream

import (
	"net/http"
	"net/url"
	"strings"
	"unicode"
)

// Transport makes calls at a few hosts that are known beforehand. What it does
// not hand to the http.Transport is written once and never sent again.
type Transport struct {
	std   http.RoundTripper
	hosts map[place]*host
}

// place is where a URL leads.
type place struct{ scheme, host string }

// Short is how long in bytes a request may be, body and query together, that is
// written before its answer is read: a connection takes so much even if the
// other end answers without having read it.
const Short = 16 << 10

// New returns a Transport for hosts. It goes through std for whatever it does
// not do itself, and is configured like options, the http.Transport behind std.
// Of these it uses DialContext, which must be bounded in time, TLSClientConfig,
// TLSHandshakeTimeout, ResponseHeaderTimeout, IdleConnTimeout,
// MaxIdleConnsPerHost and MaxResponseHeaderBytes; others must not be set.
func New(std http.RoundTripper, options *http.Transport, hosts []*url.URL) *Transport {
	t := &Transport{std: std, hosts: make(map[place]*host)}
	if !canProbe || options.DialContext == nil {
		return t
	}
	for _, u := range hosts {
		if ascii(u.Host) { // or its name would have to be translated
			t.hosts[place{u.Scheme, u.Host}] = newHost(u, options)
		}
	}
	return t
}

func ascii(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII })
}

// RoundTrip makes a call as http.Transport would, except that it does not ask
// for compression, nor check a method and a header that come from a server of
// net/http. The body of the request is in memory and Short, or of any kind where
// the host is none of those of New.
//
// Which HTTP a host speaks over TLS shows at the first call, which goes through
// the http.Transport, as does the next one after TLS could not be agreed on.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	h := t.hosts[place{r.URL.Scheme, r.URL.Host}]
	if h != nil && h.http1.Load() {
		return h.call(r)
	}
	response, err := t.std.RoundTrip(r)
	if err == nil && h != nil && response.ProtoMajor == 1 && h.http1.CompareAndSwap(false, true) {
		h.options.CloseIdleConnections() // no other call looks for them
	}
	return response, err
}

// CloseIdle closes the connections that are idle, and those in use when their
// answers have been read. It leaves those of the http.Transport alone.
func (t *Transport) CloseIdle() {
	for _, h := range t.hosts {
		h.close()
	}
}
