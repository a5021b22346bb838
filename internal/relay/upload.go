// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"errors"
	"io"
	"sync"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

// upload is a request body that streams. What has streamed is kept for a
// repetition of the call, as long as it is not longer than limit and fits into
// memory; otherwise nothing of it is kept.
//
// The transport reads it on a goroutine of its own, a pass for each attempt. That
// goroutine may still wait for the caller's next bytes when the attempt is over: what
// it then gets is kept for the next pass, and lost if there is none.
type upload struct {
	source io.Reader
	length int64 // -1 for unknown
	limit  int64 // up to how many bytes are kept
	memory *Memory
	client string // whose share of memory is used

	// mu guards the fields below. It is not held while source is read: to stop or
	// to release an upload never waits for its caller.
	mu      sync.Mutex
	arrived sync.Cond // reader has become nil, or current another
	reader  *pass     // whose goroutine reads source; nil for none
	begun   bool      // source was read, so the caller was told to send it (100 Continue)
	size    int64     // bytes that came from source
	err     error     // of source; io.EOF at its end
	current *pass     // the attempt that may read; nil for none
	keeping bool      // all that came from source is in kept
	kept    []*chunk
}

// errStopped is what a transport gets that reads for an attempt which is over.
var errStopped = errors.New("reading the body of a request that is over")

// newUpload returns the upload of a body. If it says that it is longer than limit, it
// is not kept.
func newUpload(source io.Reader, length, limit int64, memory *Memory, client string) *upload {
	u := &upload{source: source, length: length, limit: limit, memory: memory, client: client, keeping: length <= limit}
	u.arrived.L = &u.mu
	return u
}

// pass is one reading of an upload from its beginning. It is used by one goroutine.
type pass struct {
	*upload
	at int64 // bytes read
}

// next begins a pass and ends the one before.
func (u *upload) next() *pass {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.current = &pass{upload: u}
	u.arrived.Broadcast()
	return u.current
}

// Read reads what was kept, and then what comes.
func (p *pass) Read(b []byte) (n int, err error) {
	u := p.upload
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.current == p && p.at == u.size && u.err == nil && u.reader != nil { // for the pass before
		u.arrived.Wait()
	}
	switch {
	case u.current != p:
		return 0, errStopped
	case p.at < u.size && !u.keeping: // what came for the pass before did not fit
		return 0, problem.ErrNotKept
	case p.at < u.size:
		n = copy(b, u.kept[p.at/chunkSize][p.at%chunkSize:min(chunkSize, u.size-p.at/chunkSize*chunkSize)])
	case u.err != nil:
		return 0, u.err
	default:
		n, err = u.fetch(p, b)
		if u.current != p {
			return 0, errStopped
		}
	}
	p.at += int64(n)
	return n, err
}

// fetch reads from source into b, for p, and keeps what came. The caller holds mu,
// which is released meanwhile.
func (u *upload) fetch(p *pass, b []byte) (n int, err error) {
	u.reader, u.begun = p, true
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		u.reader = nil
		u.size += int64(n)
		u.err = err
		u.keep(b[:n])
		u.arrived.Broadcast()
	}()
	return u.source.Read(b)
}

// keep keeps what came, or drops everything if that does not fit. The caller holds
// mu.
func (u *upload) keep(came []byte) {
	if u.size > u.limit {
		u.drop()
	}
	for used := (u.size - int64(len(came))) % chunkSize; u.keeping && len(came) > 0; used %= chunkSize {
		if used == 0 {
			c := u.memory.take(u.client)
			if c == nil {
				u.drop()
				return
			}
			u.kept = append(u.kept, c)
		}
		n := copy(u.kept[len(u.kept)-1][used:], came)
		came, used = came[n:], used+int64(n)
	}
}

// drop ends the keeping. The caller holds mu.
func (u *upload) drop() {
	u.keeping = false
	u.memory.give(u.client, u.kept)
	u.kept = nil
}

// release ends the keeping: there will be no repetition. If WeChat has answered a
// second attempt that has not read yet what came for the first, it is stop that ends
// it. It may be called again.
func (u *upload) release() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if c := u.current; c != nil && (c.at < u.size || u.reader != nil && u.reader != c) {
		return
	}
	u.drop()
}

// stop ends everything: nobody waits for the body any more. It may be called again.
func (u *upload) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.current = nil
	u.arrived.Broadcast()
	u.drop()
}

// failure is why the body did not arrive as a whole, nil if it did or still may.
func (u *upload) failure() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.broken()
}

// broken is failure; the caller holds mu.
func (u *upload) broken() error {
	switch {
	case u.err == io.EOF && u.size < u.length:
		return io.ErrUnexpectedEOF
	case u.err == io.EOF:
		return nil
	}
	return u.err
}

// repeatable reports whether the body can be sent again: all of it that has come is
// kept. One that has broken off is not.
func (u *upload) repeatable() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.keeping && u.broken() == nil
}

// rest returns a reader of what has not come yet, which is then for no pass, nil if
// everything has. Begun says that the caller was told to send it.
func (u *upload) rest() (rest io.Reader, begun bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err != nil || u.size == u.length {
		return nil, true
	}
	return leftover{u}, u.begun
}

// leftover reads what has not come yet, after stop.
type leftover struct{ *upload }

// Read reads on where the last pass has ended.
func (l leftover) Read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.reader != nil {
		l.arrived.Wait()
	}
	if l.err != nil {
		return 0, l.err
	}
	return l.fetch(new(pass), b)
}
