// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/wire"
)

// body is a request body that can be sent again if it was small enough to keep.
type body struct {
	kept       []byte
	rest       io.Reader // what follows kept; nil when that is all
	length     int64     // -1 for unknown
	replayable bool
}

// readBody keeps a body of at most limit bytes before anything is sent. Of a
// longer one that announces its length it reads nothing.
func readBody(r *http.Request, limit int64) (*body, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return &body{replayable: true}, nil
	}
	if r.ContentLength > limit {
		return &body{rest: r.Body, length: r.ContentLength}, nil
	}
	kept, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, brokenOff(err)
	}
	if int64(len(kept)) > limit {
		return &body{kept: kept, rest: r.Body, length: r.ContentLength}, nil
	}
	return &body{kept: kept, length: int64(len(kept)), replayable: true}, nil
}

// brokenOff tells a body that a limit has cut from one that did not arrive.
func brokenOff(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return ErrTooLarge
	}
	return ErrBadRequest.because("the request body broke off")
}

// next returns a reader over the whole body, which ReverseProxy and not the
// transport closes.
func (b *body) next(method string) io.ReadCloser {
	kept := bytes.NewReader(b.kept)
	switch {
	case b.rest != nil:
		return io.NopCloser(io.MultiReader(kept, b.rest))
	case len(b.kept) == 0 && !sentAgain(method):
		return http.NoBody
	default:
		return io.NopCloser(kept)
	}
}

// sentAgain reports whether net/http sends a request of this method again by
// itself when a connection breaks before the answer, unless it has a body. An
// empty one that is not http.NoBody will do: a code in the query could
// otherwise be spent twice.
func sentAgain(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// peekSize is how much of an answer is looked at: WeChat's refusals are
// shorter.
const peekSize = 1 << 10

// errcodeOf returns the errcode at the beginning of an answer, 0 if there is
// none. It looks at the first bytes of small JSON and text answers, holds back
// no other, and puts back what it has read.
func errcodeOf(response *http.Response) int {
	if !mayRefuse(response) {
		return 0
	}
	gzipped := response.Header.Get("Content-Encoding") == "gzip"
	prefix := make([]byte, 0, peekSize)
	var code int
	var decided bool
	var err error
	for !decided && err == nil && len(prefix) < peekSize {
		var n int
		n, err = response.Body.Read(prefix[len(prefix):peekSize])
		prefix = prefix[:len(prefix)+n]
		text, complete := prefix, err == io.EOF || int64(len(prefix)) == response.ContentLength
		if gzipped {
			text = wire.Gunzip(prefix, peekSize)
			complete = complete && len(text) < peekSize
		}
		code, decided = wire.Errcode(text, complete)
	}
	response.Body = &unread{Reader: io.MultiReader(bytes.NewReader(prefix), &failing{response.Body, err}), Closer: response.Body}
	return code
}

// mayRefuse reports whether an answer could be a refusal: a small one in JSON
// or text, or of unknown size.
func mayRefuse(response *http.Response) bool {
	if response.StatusCode != http.StatusOK || response.ContentLength > peekSize || response.Body == nil {
		return false
	}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	return kind == "" || strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "json")
}

// unread is a body whose beginning was read and is read again.
type unread struct {
	io.Reader
	io.Closer
}

// failing goes on reading a body, unless reading it has failed already.
type failing struct {
	body io.Reader
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.body.Read(p)
}
