// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
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
// out:
//
//   - what WeChat need not know about callers: cookies, addresses, proxies;
//   - what is for the gateway alone: Authorization, Wechat-Appid;
//   - what would turn the connection into a tunnel past the rules here: Upgrade;
//   - what would make net/http send a request again by itself: Idempotency-Key;
//   - what would make WeChat wait before it reads a body that is sent all the same,
//     and read it as the next request if it does not want it: Expect;
//   - what would bring answers in a form in which they cannot be searched:
//     Accept-Charset, A-IM. Accept-Encoding is set by send;
//   - every header with a credential of the gateway in a value, whatever its name: an
//     SDK or a library for tracing may repeat one.
//
// The values are shared with in and not changed. One with a control character is an
// error: net/http lets none in, but a directive of Caddy's can put what a caller
// sent into a header.
func requestHeader(in http.Header, hasCredential func(string) bool) (http.Header, error) {
	out := make(http.Header, len(in)+2)
	connection, shown := in["Connection"], shownSecret(in)
	for name, values := range in {
		switch {
		case hopByHop(name), strings.HasPrefix(name, "X-Forwarded-"), httpguts.HeaderValuesContainsToken(connection, name):
		case name == "Accept-Encoding", name == "Authorization", name == "Cookie", name == openapi.AppIDHeader, name == "Forwarded", name == "X-Real-Ip", name == "Via",
			name == "Idempotency-Key", name == "X-Idempotency-Key", name == "Expect", name == "Accept-Charset", name == "A-Im",
			name == "Traceparent", name == "Tracestate":
		case slices.ContainsFunc(values, hasCredential), shown != "" && slices.ContainsFunc(values, func(value string) bool { return strings.Contains(value, shown) }):
		case !httpguts.ValidHeaderFieldName(name) || slices.ContainsFunc(values, isNoHeaderValue):
			return nil, problem.ErrBadRequest.Because("a header has a control character, or a blank in its name")
		default:
			out[name] = values
		}
	}
	if _, told := out["User-Agent"]; !told {
		out["User-Agent"] = noValue // or net/http would add its own
	}
	out[openapi.HopHeader] = hopValue
	return out, nil
}

// minSecret is the least length of a client secret.
const minSecret = 32

// shownSecret returns the client secret in the header Authorization, "" if there
// is none. It may be configured as a digest, and hasCredential cannot find such a
// secret everywhere.
func shownSecret(in http.Header) string {
	for _, value := range in["Authorization"] {
		_, secret, _ := strings.Cut(value, " ")
		if secret = strings.TrimSpace(secret); len(secret) >= minSecret {
			return secret
		}
	}
	return ""
}

func isNoHeaderValue(value string) bool { return !httpguts.ValidHeaderFieldValue(value) }

// Values of headers, shared by all requests, so that none is allocated for each:
// nobody writes to them.
var (
	hopValue       = []string{"1"}
	noValue        = []string{""}
	acceptGzip     = []string{"gzip"}
	acceptIdentity = []string{"identity"}
)

// responseHeader adds the header of an answer to out, without what is for WeChat's
// own connections, such as the address of another server, and without what only the
// gateway itself says.
func responseHeader(out, in http.Header) {
	connection := in["Connection"]
	for name, values := range in {
		if !hopByHop(name) && name != "Alt-Svc" && name != openapi.HintHeader && !httpguts.HeaderValuesContainsToken(connection, name) {
			out[name] = values
		}
	}
}
