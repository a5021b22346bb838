// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"net/http"
	"strings"

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

// listed reports whether the Connection header makes name one of its kind.
func listed(connection []string, name string) bool {
	for _, value := range connection {
		for option := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(option), name) {
				return true
			}
		}
	}
	return false
}

// upward returns the header of a request as WeChat is to see it: without what
// it need not know, what is for the gateway alone, what would turn the
// connection into a tunnel past the rules here (Upgrade: h2c), and what would
// make net/http send a request again by itself. Whether an answer is compressed
// is between the gateway and WeChat, because answers are searched.
func upward(in http.Header) http.Header {
	out := make(http.Header, len(in)+2)
	connection := in["Connection"]
	for name, values := range in {
		switch {
		case hopByHop(name), strings.HasPrefix(name, "X-Forwarded-"), listed(connection, name):
		case name == "Accept-Encoding", name == "Authorization", name == "Cookie", name == openapi.AppIDHeader, name == "Forwarded", name == "X-Real-Ip", name == "Via",
			name == "Idempotency-Key", name == "X-Idempotency-Key":
		default:
			out[name] = values
		}
	}
	if _, told := out["User-Agent"]; !told {
		out["User-Agent"] = noValue // or net/http would add its own
	}
	out[openapi.HopHeader] = mark
	return out
}

// Values of headers, shared by all requests: nobody writes to them.
var (
	mark       = []string{"1"}
	noValue    = []string{""}
	acceptGzip = []string{"gzip"}
)

// downward adds the header of an answer to out, without what is for WeChat's
// own connections, such as the address of another server.
func downward(out, in http.Header) {
	connection := in["Connection"]
	for name, values := range in {
		if !hopByHop(name) && name != "Alt-Svc" && !listed(connection, name) {
			out[name] = values
		}
	}
}
