// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

// peekSize is how many bytes of an answer are looked at. WeChat's refusals are
// shorter: {"errcode":40001,"errmsg":"invalid credential …, rid: …"}.
const peekSize = 1 << 10

// peekErrcode returns the errcode at the beginning of an answer, 0 if there is
// none. It reads the first bytes of small JSON and text answers, and waits for
// them until the errcode is known or cannot come any more; of other answers it
// reads nothing, so that downloads stream. The body of the response becomes p,
// which begins with what was read.
func (p *peekedBody) peekErrcode(response *http.Response) (code int) {
	if !mayRefuse(response) {
		return 0
	}
	p.ReadCloser, p.bytes = response.Body, peeks.Get().(*[peekSize]byte)
	for decided := false; !decided && p.err == nil && p.end < peekSize; {
		var n int
		n, p.err = p.ReadCloser.Read(p.bytes[p.end:])
		p.end += n
		complete := p.err == io.EOF || int64(p.end) == response.ContentLength
		code, decided = rewrite.Errcode(p.bytes[:p.end], complete)
	}
	response.Body = p
	return code
}

// peekedBody is a body whose beginning was read and is read again. It belongs to
// one call and one goroutine at a time. Close gives the bytes back to the pool; it
// may be called again.
type peekedBody struct {
	io.ReadCloser
	begin, end int             // of what is in bytes and to be read again
	err        error           // of reading that
	bytes      *[peekSize]byte // from peeks
}

var peeks = sync.Pool{New: func() any { return new([peekSize]byte) }}

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

// mayRefuse reports whether an answer could be a refusal: a small one in JSON
// or text, or of unknown size.
func mayRefuse(response *http.Response) bool {
	if response.StatusCode != http.StatusOK || response.ContentLength > peekSize || response.Body == nil {
		return false
	}
	kind, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	return kind == "" || strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "json")
}
