// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

// Forward makes the call and passes the answer on as it comes. It does what
// httputil.ReverseProxy would do for calls like these, without tunnels, trailers
// and informational answers, and at half the cost.
//
// A body that is small enough is read before anything is sent, so that it can be
// sent again; a larger one streams. Forward returns when the answer has been
// written, or an error of the gateway's own in its place, and the caller sends no
// more. It panics with [http.ErrAbortHandler] where an answer breaks off: the caller
// then sees a broken connection, not a short answer that looks whole.
func (l *Relay) Forward(w http.ResponseWriter, r *http.Request, call *Call) {
	call.timed.limitTime(w, r)
	defer call.stop()
	defer call.Report.end()
	if r.ContentLength != 0 && !l.bodies.Begin(call.Client) {
		panic(http.ErrAbortHandler)
	}
	err := l.keep(r, call)
	if r.ContentLength != 0 {
		l.bodies.End(call.Client)
	}
	var response *http.Response
	if err == nil {
		response, err = l.roundTrip(r, call)
	}
	if err != nil {
		l.fail(w, r, call, err)
		return
	}
	defer response.Body.Close()
	responseHeader(w.Header(), response.Header)
	early := call.body.rest(r) != nil
	if early {
		problem.CloseAfter(w, r)
	}
	if call.Report.Errcode != 0 {
		l.Hint(w, call, nil)
	}
	call.Report.Status = response.StatusCode
	w.WriteHeader(response.StatusCode)
	call.Report.Bytes, err = stream(w, response)
	call.Report.end()
	if err != nil {
		// Without a flush the client has received nothing, and many make a GET again
		// by themselves: a code in its query would then be spent twice.
		flush(w)
		panic(http.ErrAbortHandler)
	}
	if early {
		discard(w, r, call)
	}
}

// stop ends all that is done with the body for WeChat. What is still read of it is for
// problem.Discard, whose deadline holds then.
func (c *Call) stop() {
	c.timed.stop()
	c.body.stop()
}

// discard sends the answer and reads what the caller still sends.
func discard(w http.ResponseWriter, r *http.Request, call *Call) {
	call.stop()
	if rest := call.body.rest(r); rest != nil {
		problem.Discard(w, r, rest)
	}
}

// StatusClientGone stands in access logs for a caller that did not wait for
// the answer, as in those of Caddy's reverse_proxy.
const StatusClientGone = 499

// fail answers with the problem that err is. A caller that has gone, or that has ended
// its body too early, gets no answer and is no failure of WeChat's, so nothing is
// logged.
func (l *Relay) fail(w http.ResponseWriter, r *http.Request, call *Call, err error) {
	call.stop()
	cause := call.body.failure()
	call.Report.end()
	if r.Context().Err() != nil || brokenOff(r, cause) {
		call.Report.Gone, call.Report.Status = true, StatusClientGone
		w.WriteHeader(StatusClientGone)
		return
	}
	if cause != nil {
		err = problem.OfBody(cause)
	}
	if refused := tokens.RefusalIn(err); refused != nil {
		l.Hint(w, call, refused)
	}
	call.Report.Problem = problem.Of(err)
	call.Report.Wrote(call.Report.Problem.Status, problem.Refuse(w, r, l.Log, err, call.body.rest(r), call.about()))
}

// ClientID returns the id of who calls, or none.
func (c *Call) ClientID() string { return cmp.Or(c.Client, "none") }

// about says whose call it is.
func (c *Call) about() problem.About {
	return problem.About{Client: c.ClientID(), AppID: cmp.Or(c.Subject.Authorizer(), c.Subject.Component())}
}

// brokenOff reports whether the error of a body says that the caller has sent less
// than it has announced. Over HTTP/1 the caller is gone then. Over HTTP/2 and later it
// can end a body like any other, and the server has no error of its own for that, so
// this is any but those that the gateway's own limits cause.
func brokenOff(r *http.Request, err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || err != nil && r.ProtoMajor > 1 &&
		!errors.As(err, new(*http.MaxBytesError)) && !errors.Is(err, os.ErrDeadlineExceeded)
}

// stream passes the body of an answer on, each piece as soon as it has arrived.
// If the whole body fits into the buffer, the header is sent together with its
// first piece, which saves a packet. Where it ends early, or the caller has gone,
// there is an error. It returns how many bytes were written.
func stream(w http.ResponseWriter, response *http.Response) (written int64, err error) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	if response.ContentLength < 0 || response.ContentLength > int64(len(*buffer)) {
		flush(w)
	}
	for left := response.ContentLength; ; {
		n, err := response.Body.Read(*buffer)
		if n > 0 {
			passed, err := w.Write((*buffer)[:n])
			if written += int64(passed); err != nil {
				return written, err
			}
			if left -= int64(n); left != 0 {
				flush(w)
			}
		}
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}

// flush sends what was written. That a client is gone shows at the next Write.
func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// buffers are for stream; a buffer is used by one call at a time.
var buffers = sync.Pool{New: func() any { buffer := make([]byte, 32<<10); return &buffer }}
