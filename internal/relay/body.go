// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

// body is a request body that can be sent again if it was small enough to keep.
// The goroutine of the call and, while the body streams, that of the transport use
// it.
type body struct {
	kept       []byte
	rest       io.Reader // what follows kept; nil when that is all
	length     int64     // -1 for unknown
	replayable bool
	stopped    atomic.Bool
}

// stop ends the reading of a body that nobody waits for any more: the
// transport may be at it when the request it came with is over.
func (b *body) stop() { b.stopped.Store(true) }

var errStopped = errors.New("reading the body of a request that is over")

// Read reads what follows kept.
func (b *body) Read(p []byte) (int, error) {
	if b.stopped.Load() {
		return 0, errStopped
	}
	return b.rest.Read(p)
}

// keep reads a body of at most limit bytes into memory, before anything is sent.
// Of a longer one that announces its length it reads nothing; of a longer one that
// does not, the first limit+1 bytes. An error is the caller's: a body that broke
// off, or that a limit set in Caddy has cut.
func (b *body) keep(r *http.Request, limit int64) (err error) {
	b.length = r.ContentLength
	if b.length > limit {
		b.rest = r.Body
		return nil
	}
	if b.length >= 0 {
		b.kept, err = readAll(r.Body, b.length)
	} else {
		b.kept, err = io.ReadAll(io.LimitReader(r.Body, limit+1))
	}
	if err != nil {
		return problem.OfBody(err)
	}
	if int64(len(b.kept)) > limit {
		b.rest = r.Body
		return nil
	}
	b.length, b.replayable = int64(len(b.kept)), true
	return nil
}

// next returns a reader over the whole body, which the server and not the
// transport closes, and the transfer encoding to send it with, nil for what
// net/http thinks right.
func (b *body) next(method string) (content io.ReadCloser, encoding []string) {
	switch {
	case b.rest != nil:
		return io.NopCloser(io.MultiReader(bytes.NewReader(b.kept), b)), nil
	case len(b.kept) > 0:
		return io.NopCloser(bytes.NewReader(b.kept)), nil
	case isIdempotent(method):
		return emptyBody, identity
	default:
		return http.NoBody, nil
	}
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
