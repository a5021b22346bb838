// SPDX-License-Identifier: Apache-2.0

package rewrite

import (
	"bytes"
	"io"
	"net/http"
	"strings"
)

// Scrub returns body with asterisks in the place of the token, however it is
// written, as many as it has characters there, so that a Content-Length stays
// true. It streams: held back are only the last bytes of what has arrived, and
// those only while they could be the beginning of the token.
func Scrub(body io.ReadCloser, token Token) io.ReadCloser {
	if token.plain == "" {
		return body
	}
	body = newScrubber(body, token.plain)
	for _, form := range []string{token.query, token.html} {
		if form != token.plain {
			body = newScrubber(body, form)
		}
	}
	return body
}

// ScrubHeader puts the replacement in place of the token, plain and as in a
// query, wherever it stands in a value of h.
func ScrubHeader(h http.Header, token Token, replacement string) {
	for _, values := range h {
		for i, value := range values {
			if token.In(value) {
				value = strings.ReplaceAll(value, token.plain, replacement)
				values[i] = strings.ReplaceAll(value, token.query, replacement)
			}
		}
	}
}

type scrubber struct {
	body  io.ReadCloser
	token []byte
	ready []byte    // searched, for the next Read
	held  []byte    // the end of what has arrived, which may be the beginning of the token
	err   error     // of body, to be told after ready
	room  []byte    // what ready lies in
	short [192]byte // what most tokens lie in
}

func newScrubber(body io.ReadCloser, token string) *scrubber {
	s := &scrubber{body: body}
	s.token = append(s.short[:0], token...)
	return s
}

func (s *scrubber) Read(p []byte) (int, error) {
	for len(s.ready) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		if len(s.held) == 0 && len(p) >= len(s.token) {
			n, err := s.body.Read(p)
			n = s.search(p[:n], err)
			if n > 0 {
				return n, nil
			}
			continue
		}
		s.fill()
	}
	n := copy(p, s.ready)
	s.ready = s.ready[n:]
	return n, nil
}

// search scrubs what has arrived, and returns how much of it can go on. What
// cannot is kept in held.
func (s *scrubber) search(arrived []byte, err error) (n int) {
	s.err = err
	for at := 0; ; at += len(s.token) {
		next := bytes.Index(arrived[at:], s.token)
		if next < 0 {
			break
		}
		at += next
		copy(arrived[at:], bytes.Repeat([]byte("*"), len(s.token)))
	}
	n = len(arrived)
	if err == nil {
		n -= beginning(arrived, s.token)
	}
	s.held = append(s.held[:0], arrived[n:]...)
	return n
}

// fill reads on behind what is held.
func (s *scrubber) fill() {
	if s.room == nil {
		s.room = make([]byte, len(s.token)+4<<10)
	}
	n := copy(s.room, s.held)
	more, err := s.body.Read(s.room[n:])
	arrived := s.room[:n+more]
	s.ready = arrived[:s.search(arrived, err)]
}

// beginning returns how many bytes at the end of text are the beginning of the
// token.
func beginning(text, token []byte) int {
	tail := text[max(0, len(text)-len(token)+1):]
	for {
		at := bytes.IndexByte(tail, token[0])
		if at < 0 {
			return 0
		}
		tail = tail[at:]
		if bytes.HasPrefix(token, tail) {
			return len(tail)
		}
		tail = tail[1:]
	}
}

func (s *scrubber) Close() error { return s.body.Close() }
