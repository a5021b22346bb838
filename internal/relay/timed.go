// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// smallBody is the length in bytes up to which a body must arrive within
	// bodyTimeout as a whole. It is in memory before anything is sent, and anybody can
	// send one to the paths of end users.
	smallBody   = 64 << 10
	bodyTimeout = 10 * time.Second
	// pieceTimeout is how long a larger body may pause: the connection to WeChat waits
	// meanwhile.
	pieceTimeout = 30 * time.Second
)

// timedBody is the body of a request with limits of time. One goroutine at a time
// reads it; a transport may still be at it when the call is over.
type timedBody struct {
	io.ReadCloser
	small bool
	begun bool

	mu sync.Mutex          // guards w
	w  http.ResponseWriter // whose connection it comes on; nil after stop
}

// limitTime puts limits of time on the body of a request. If w has no deadlines, the
// body is read without.
func (t *timedBody) limitTime(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 {
		return
	}
	t.ReadCloser, t.w, t.small = r.Body, w, r.ContentLength > 0 && r.ContentLength <= smallBody
	r.Body = t
}

// stop ends the use of the ResponseWriter, which is gone when its handler returns.
func (t *timedBody) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.w = nil
}

// Read reads what has arrived, or waits for it until the deadline.
func (t *timedBody) Read(p []byte) (n int, err error) {
	switch {
	case !t.small:
		t.setDeadline(time.Now().Add(pieceTimeout))
	case !t.begun:
		t.setDeadline(time.Now().Add(bodyTimeout))
	}
	t.begun = true
	if n, err = t.ReadCloser.Read(p); err == io.EOF {
		t.setDeadline(time.Time{}) // one that passes later would cancel the request
	}
	return n, err
}

func (t *timedBody) setDeadline(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.w == nil {
		return
	}
	_ = http.NewResponseController(t.w).SetReadDeadline(at)
}

// readAll reads a body of a known length into memory, which it takes for what has
// arrived and not for what is announced.
func readAll(body io.Reader, length int64) ([]byte, error) {
	const first = 4 << 10
	kept := make([]byte, min(length, first))
	for read := 0; ; {
		n, err := io.ReadFull(body, kept[read:])
		if read += n; err != nil {
			return nil, err
		}
		if int64(read) == length {
			return kept, nil
		}
		kept = append(kept, make([]byte, min(length-int64(read), int64(read)))...)
	}
}
