// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"io"
	"net/http"
	"sync"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

// Forward makes the call and passes the answer on as it comes. It does what
// httputil.ReverseProxy would do for calls like these, without tunnels, trailers
// and informational answers, and at half the cost. It panics with
// [http.ErrAbortHandler] where an answer breaks off.
func (l *Relay) Forward(w http.ResponseWriter, r *http.Request, call *Call) {
	if err := call.body.keep(r, l.MaxReplayBody); err != nil {
		l.fail(w, r, err)
		return
	}
	defer call.body.stop()
	response, err := l.roundTrip(r, call)
	if err != nil {
		l.fail(w, r, err)
		return
	}
	defer response.Body.Close()
	metrics.RelayedCalls.Inc()
	responseHeader(w.Header(), response.Header)
	w.WriteHeader(response.StatusCode)
	if err := stream(w, response); err != nil {
		flush(w)                    // after silence clients make a GET again by themselves
		panic(http.ErrAbortHandler) // all that can be said of an answer that broke off
	}
}

// statusClientGone stands in access logs for a caller that did not wait for
// the answer, as in those of Caddy's reverse_proxy.
const statusClientGone = 499

func (l *Relay) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		w.WriteHeader(statusClientGone)
		return
	}
	problem.Write(w, r, l.Log, err)
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
