// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"io"
	"net/http"
)

// body is a request body. It belongs to the goroutine of the call.
type body struct {
	kept   []byte  // all of it, if it is small
	upload *upload // all of it, if it is not; else nil
	length int64   // -1 for unknown
	err    error   // of reading kept
}

// keep reads a small body, of up to smallBody bytes if MaxReplayBody allows, into
// memory, before anything is sent. Of a longer one that
// announces its length it reads nothing; of a longer one that does not, the first
// bytes. An error is the caller's, see failure.
func (l *Relay) keep(r *http.Request, call *Call) error {
	b, most := &call.body, min(smallBody, l.MaxReplayBody)
	limit := l.MaxReplayBody
	if call.Subject == "" {
		limit = 0 // WeChat gets no token of ours, so it is never repeated
	}
	b.length = r.ContentLength
	if b.length > most {
		b.upload = newUpload(r.Body, b.length, limit, l.Memory, call.Client)
		return nil
	}
	if b.length >= 0 {
		b.kept, b.err = readAll(r.Body, b.length)
	} else {
		b.kept, b.err = io.ReadAll(io.LimitReader(r.Body, most+1))
	}
	switch {
	case b.err == io.EOF:
		b.err = io.ErrUnexpectedEOF // nothing came of what was announced
		return b.err
	case b.err != nil:
		return b.err
	case int64(len(b.kept)) > most:
		b.upload = newUpload(io.MultiReader(bytes.NewReader(b.kept), r.Body), b.length, limit, l.Memory, call.Client)
		b.upload.begun = true
		b.kept = nil
		return nil
	}
	b.length = int64(len(b.kept))
	return nil
}

// next returns a reader over the whole body, which the server and not the
// transport closes, and the transfer encoding to send it with, nil for what
// net/http thinks right. If there was one before, it yields no more; a second is
// asked for only if the body is repeatable, or if nothing was read.
func (b *body) next(method string) (content io.ReadCloser, encoding []string) {
	switch {
	case b.upload != nil:
		return io.NopCloser(b.upload.next()), nil
	case len(b.kept) > 0:
		return io.NopCloser(bytes.NewReader(b.kept)), nil
	case isIdempotent(method):
		return emptyBody, identity
	default:
		return http.NoBody, nil
	}
}

// repeatable reports whether the body can be sent once more.
func (b *body) repeatable() bool { return b.upload == nil || b.upload.repeatable() }

// release lets go of what is kept: the call is not made once more.
func (b *body) release() {
	if b.upload != nil {
		b.upload.release()
	}
}

// stop ends the reading of a body that nobody waits for any more: the transport may
// be at it when the request it came with is over.
func (b *body) stop() {
	if b.upload != nil {
		b.upload.stop()
	}
}

// failure is why the body did not arrive as a whole, nil if it did or still may.
func (b *body) failure() error {
	if b.upload == nil {
		return b.err
	}
	return b.upload.failure()
}

// rest returns a reader of what the caller has not sent yet, nil for nothing. It is for
// problem.Discard: a caller that was told to send is not waiting for that any more, so
// its header Expect is removed.
func (b *body) rest(r *http.Request) io.Reader {
	if b.upload == nil {
		return nil
	}
	rest, begun := b.upload.rest()
	if begun {
		r.Header.Del("Expect")
	}
	return rest
}

// framedOtherwise reports whether servers disagree about where a request with this
// method and length of body ends, or where its answer does: some send a body in
// answer to HEAD, and some read the body of a GET as the next request. The
// connection of such a call is closed after it. If it were used again, the next
// call, which may be another client's, could get what is left of this one's answer.
func framedOtherwise(method string, length int64) bool {
	return method == http.MethodHead || method == http.MethodGet && length != 0
}

// isIdempotent reports whether net/http sends a request of this method again by
// itself when a connection breaks before the answer, unless it has a body. An
// empty one that is not http.NoBody will do: a code in the query could
// otherwise be spent twice.
func isIdempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// A body that net/http takes for one. Without this encoding it would start a
// goroutine to find out whether it is empty; with it nothing is sent that says
// there is a body.
var (
	emptyBody = io.NopCloser(http.NoBody)
	identity  = []string{"identity"}
)
