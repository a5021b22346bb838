// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
)

// framedClearly reports whether nobody who follows HTTP/1 can disagree about where
// an answer ends. Where a server, or something in front of it, means it to end
// later than we do, the rest of it would be taken for the answer to the next call on
// the connection, which may be another client's for another account. So after any
// other answer the connection is closed, even if that answer is a proper one:
//
//   - 204 and 304, which have no body, but get one from some servers; an
//     informational answer with a length is of the same kind;
//   - an answer of HTTP/1.0, whose servers know no chunks;
//   - one with chunks and a length.
//
// header is what arrivedHeader returned before the answer was read.
func framedClearly(response *http.Response, header []byte) bool {
	chunked := len(response.TransferEncoding) > 0
	switch status := response.StatusCode; {
	case response.Close, !response.ProtoAtLeast(1, 1):
		return false
	case informational(status):
		return !chunked && response.Header["Content-Length"] == nil
	case status <= 199, status == http.StatusNoContent, status == http.StatusNotModified:
		return false
	}
	return !chunked || header != nil && !hasLength(header)
}

// hasLength reports whether a header has a Content-Length. http.ReadResponse
// removes one that stands beside chunks, so this reads the header as it arrived.
func hasLength(header []byte) bool {
	const name = "content-length"
	for line := range bytes.Lines(header) {
		if len(line) >= len(name) && strings.EqualFold(string(line[:len(name)]), name) {
			return true
		}
	}
	return false
}

// Standard returns std with the same care, as far as that is possible from outside:
// where an answer of HTTP/1 has no body, http.Transport keeps the connection before
// it returns the answer. The connection of a 204 or 304 is therefore closed
// afterwards. A call that has got it in the meantime, within microseconds, fails.
// For requests that a caller can make to be answered 304, there is no such moment:
// their connection is not kept at all.
func Standard(std http.RoundTripper) http.RoundTripper { return standard{std} }

type standard struct{ http.RoundTripper }

func (s standard) RoundTrip(r *http.Request) (*http.Response, error) {
	var conn net.Conn
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) { conn = got.Conn },
	}))
	r.Close = r.Close || conditional(r.Header)
	response, err := s.RoundTripper.RoundTrip(r)
	if err == nil && conn != nil && response.ProtoMajor == 1 &&
		(response.StatusCode == http.StatusNoContent || response.StatusCode == http.StatusNotModified) {
		if secured, ok := conn.(*tls.Conn); ok {
			conn = secured.NetConn() // without an alert, which can take seconds
		}
		conn.Close()
	}
	return response, err
}

// conditional reports whether a request asks for an answer without a body.
func conditional(header http.Header) bool {
	return header["If-None-Match"] != nil || header["If-Modified-Since"] != nil
}
