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
// and informational answers, and at half the cost.
//
// A body that is small enough is read before anything is sent, so that it can be
// sent again; a larger one streams. Forward returns when the answer has been
// written, or an error of the gateway's own in its place. It panics with
// [http.ErrAbortHandler] where an answer breaks off: the caller then sees a broken
// connection, not a short answer that looks whole.
func (l *Relay) Forward(w http.ResponseWriter, r *http.Request, call *Call) {
	call.timed.limitTime(w, r)
	defer call.timed.stop()
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
		// Without a flush the client has received nothing, and many make a GET again
		// by themselves: a code in its query would then be spent twice.
		flush(w)
		panic(http.ErrAbortHandler)
	}
}

// statusClientGone stands in access logs for a caller that did not wait for
// the answer, as in those of Caddy's reverse_proxy.
const statusClientGone = 499

// fail answers with the problem that err is. A caller that has gone gets no answer
// and is no failure of WeChat's, so nothing is counted or logged.
func (l *Relay) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		w.WriteHeader(statusClientGone)
		return
	}
	problem.Write(w, r, l.Log, err)
}

// stream passes the body of an answer on, each piece as soon as it has arrived.
// If the whole body fits into the buffer, the header is sent together with its
// first piece, which saves a packet. Where it ends early, or the caller has gone,
// there is an error.
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

// buffers are for stream; a buffer is used by one call at a time.
var buffers = sync.Pool{New: func() any { buffer := make([]byte, 32<<10); return &buffer }}
