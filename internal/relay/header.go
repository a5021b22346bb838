// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
)

// hopByHop reports whether a header is about one connection alone
// (RFC 9110 §7.6.1).
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// requestHeader returns the header of a request as WeChat is to see it. It leaves
// out: what WeChat need not know about callers (cookies, addresses, proxies); what
// is for the gateway alone (Authorization, Wechat-Appid); what would turn the
// connection into a tunnel past the rules here (Upgrade: h2c); and what would make
// net/http send a request again by itself (Idempotency-Key). Accept-Encoding is set
// by send, because answers are searched. The values are shared with in and not
// changed.
func requestHeader(in http.Header) http.Header {
	out := make(http.Header, len(in)+2)
	connection := in["Connection"]
	for name, values := range in {
		switch {
		case hopByHop(name), strings.HasPrefix(name, "X-Forwarded-"), httpguts.HeaderValuesContainsToken(connection, name):
		case name == "Accept-Encoding", name == "Authorization", name == "Cookie", name == openapi.AppIDHeader, name == "Forwarded", name == "X-Real-Ip", name == "Via",
			name == "Idempotency-Key", name == "X-Idempotency-Key":
		default:
			out[name] = values
		}
	}
	if _, told := out["User-Agent"]; !told {
		out["User-Agent"] = noValue // or net/http would add its own
	}
	out[openapi.HopHeader] = hopValue
	return out
}

// Values of headers, shared by all requests, so that none is allocated for each:
// nobody writes to them.
var (
	hopValue   = []string{"1"}
	noValue    = []string{""}
	acceptGzip = []string{"gzip"}
)

// responseHeader adds the header of an answer to out, without what is for WeChat's
// own connections, such as the address of another server.
func responseHeader(out, in http.Header) {
	connection := in["Connection"]
	for name, values := range in {
		if !hopByHop(name) && name != "Alt-Svc" && !httpguts.HeaderValuesContainsToken(connection, name) {
			out[name] = values
		}
	}
}
