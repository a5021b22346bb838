// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"io"
	"net/http"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

// forwarder streams between application and WeChat. It does what
// httputil.ReverseProxy would do for calls like these, without tunnels,
// trailers and informational answers, and at half the cost.
type forwarder struct {
	*attacher
	maxReplay int64
	log       *zap.Logger
}

// forward makes the call and passes the answer on as it comes.
func (f *forwarder) forward(w http.ResponseWriter, r *http.Request, call *call) {
	if err := call.body.keep(r, f.maxReplay); err != nil {
		f.fail(w, r, err)
		return
	}
	defer call.body.abandon()
	response, err := f.call(r, call)
	if err != nil {
		f.fail(w, r, err)
		return
	}
	defer response.Body.Close()
	metrics.RelayedCalls.Inc()
	downward(w.Header(), response.Header)
	w.WriteHeader(response.StatusCode)
	if err := stream(w, response); err != nil {
		flush(w)                    // after silence clients make a GET again by themselves
		panic(http.ErrAbortHandler) // all that can be said of an answer that broke off
	}
}

// statusClientGone stands in access logs for a caller that did not wait for
// the answer, as in those of Caddy's reverse_proxy.
const statusClientGone = 499

func (f *forwarder) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		w.WriteHeader(statusClientGone)
		return
	}
	problem.Write(w, r, f.log, err)
}

// stream passes the body of an answer on. What has not arrived at once is
// passed on piece by piece; of a body that fits into the buffer, the first
// piece takes the header along.
func stream(w http.ResponseWriter, response *http.Response) error {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	if response.ContentLength < 0 || response.ContentLength > int64(len(*buffer)) {
		flush(w)
	}
	for left := response.ContentLength; ; {
		n, err := response.Body.Read(*buffer)
		if n > 0 {
			if _, err := w.Write((*buffer)[:n]); err != nil {
				return err
			}
			if left -= int64(n); left != 0 {
				flush(w)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// flush sends what was written. That a client is gone shows at the next Write.
func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

var buffers = sync.Pool{New: func() any { buffer := make([]byte, 32<<10); return &buffer }}

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
		case name == "Accept-Encoding", name == "Authorization", name == "Cookie", name == appidHeader, name == "Forwarded", name == "X-Real-Ip", name == "Via",
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
	mark    = []string{"1"}
	noValue = []string{""}
	zipped  = []string{"gzip"}
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
