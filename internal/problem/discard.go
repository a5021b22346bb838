// SPDX-License-Identifier: Apache-2.0

package problem

import (
	"io"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Many clients write all of a request before they read the answer, such as
// HttpURLConnection of Java and http.client of Python. If a server answers and closes
// the connection while such a client is still sending, the client's system throws the
// answer away. So what still comes is read, within these limits.
const (
	maxDiscarded   = 16 << 20 // bytes
	discardTimeout = 10 * time.Second
	// discardPause ends it sooner in HTTP/2 and later, where a client can stop sending
	// without a word when it has seen the status, and wait for the end of the answer.
	discardPause = time.Second
	// maxLeftToServer is up to how many bytes net/http itself reads what is left of a
	// request, before it answers.
	maxLeftToServer = 256 << 10
)

// Refuse is Write for a caller that may still be sending. Rest is what the caller
// has not sent yet, nil for nothing; see Unread, CloseAfter and Discard.
func Refuse(w http.ResponseWriter, r *http.Request, log *zap.Logger, err error, rest io.Reader, about About) (length int) {
	if rest == nil {
		return Write(w, r, log, err, about)
	}
	CloseAfter(w, r)
	length = Write(w, r, log, err, about)
	Discard(w, r, rest)
	return length
}

// Unread returns the body of a request that is answered before its body was read to
// the end, nil if nobody needs to read it: there is none, or net/http does it. Who has
// read all of a body sets it to http.NoBody; who has begun to, removes the header
// Expect.
func Unread(w http.ResponseWriter, r *http.Request) io.Reader {
	switch {
	case r.ContentLength == 0, r.Body == nil, r.Body == http.NoBody:
		return nil
	case r.ProtoMajor == 1 && 0 < r.ContentLength && r.ContentLength <= maxLeftToServer &&
		!r.Close && r.Header["Expect"] == nil && w.Header().Get("Connection") != "close":
		return nil
	}
	return r.Body
}

// CloseAfter makes an answer close its connection, if that is one of HTTP/1. It must
// be called before an answer is written whose caller may still be sending: otherwise
// net/http reads some of the body before it sends the answer, even if somebody else
// reads it at that time, and could take the rest of it for the next request.
func CloseAfter(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

// Discard sends the answer that was written, for callers that read while they send,
// and then reads and throws away rest, for those that do not. It returns when rest has
// ended, after maxDiscarded bytes or discardTimeout, or sooner if the server has a
// shorter ReadTimeout. If the caller waits until it is told to send (100 Continue), it
// reads nothing: to read would tell it to.
func Discard(w http.ResponseWriter, r *http.Request, rest io.Reader) {
	control := http.NewResponseController(w)
	_ = control.Flush() // a caller that is gone shows when it is read from
	if r.Header["Expect"] != nil {
		_ = control.SetReadDeadline(time.Now()) // or net/http itself would wait for the body
		return
	}
	end := time.Now().Add(discardTimeout)
	if server, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && 0 < server.ReadTimeout && server.ReadTimeout < discardTimeout {
		end = time.Now().Add(server.ReadTimeout)
	}
	buffer := discards.Get().(*[]byte)
	defer discards.Put(buffer)
	for left := maxDiscarded; left > 0; {
		deadline := end
		if pause := time.Now().Add(discardPause); r.ProtoMajor > 1 && pause.Before(end) {
			deadline = pause
		}
		if control.SetReadDeadline(deadline) != nil {
			return // it could take for ever
		}
		n, err := rest.Read(*buffer)
		if err != nil {
			return
		}
		left -= n
	}
}

// discards are for Discard; a buffer is used by one call at a time.
var discards = sync.Pool{New: func() any { buffer := make([]byte, 32<<10); return &buffer }}
