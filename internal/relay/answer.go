// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"io"
	"net/http"
	"sync"

	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

// peekSize is how many bytes of an answer are looked at. WeChat's refusals are
// shorter: {"errcode":40001,"errmsg":"invalid credential …, rid: …"}.
const peekSize = 1 << 10

// peekErrcode returns the errcode at the beginning of an answer, 0 if there is
// none. It reads the first bytes of answers that are small, or whose size is not
// known, and waits for them until the errcode is known or cannot come any more; of
// others it reads nothing, so that downloads stream. What an answer says that it is
// does not matter: WeChat sends refusals as text, as pictures and as files, and what
// stands before WeChat may send one with another status than 200. The body
// of the response becomes p, which begins with what was read.
func (p *peekedBody) peekErrcode(response *http.Response) (code int) {
	if response.Body == nil || p.size > peekSize {
		return 0
	}
	p.ReadCloser, p.bytes = response.Body, peeks.Get().(*[peekSize]byte)
	for decided := false; !decided && p.err == nil && p.end < peekSize; {
		var n int
		n, p.err = p.ReadCloser.Read(p.bytes[p.end:])
		p.end += n
		complete := p.err == io.EOF || int64(p.end) == response.ContentLength
		code, decided = rewrite.Errcode(p.bytes[:p.end], complete, p.size >= 0)
	}
	response.Body = p
	return code
}

// peekedBody is a body whose beginning was read and is read again. It belongs to
// one call and one goroutine at a time. Close gives the bytes back to the pool; it
// may be called again.
type peekedBody struct {
	io.ReadCloser
	size       int64           // of the answer as it was sent, maybe compressed; -1 for unknown
	begin, end int             // of what is in bytes and to be read again
	err        error           // of reading that
	bytes      *[peekSize]byte // from peeks
}

var peeks = sync.Pool{New: func() any { return new([peekSize]byte) }}

// begun returns what was read of the answer, until it is read again.
func (p *peekedBody) begun() []byte {
	if p.bytes == nil {
		return nil
	}
	return p.bytes[:p.end]
}

func (p *peekedBody) Read(b []byte) (n int, err error) {
	if p.begin < p.end {
		n = copy(b, p.bytes[p.begin:p.end])
		p.begin += n
		return n, nil
	}
	if p.err != nil {
		return 0, p.err
	}
	return p.ReadCloser.Read(b)
}

func (p *peekedBody) Close() error {
	if p.bytes != nil {
		peeks.Put(p.bytes)
		p.bytes, p.begin, p.end = nil, 0, 0
	}
	return p.ReadCloser.Close()
}
