// SPDX-License-Identifier: Apache-2.0

package rewrite

import (
	"io"
	"net/http"
	"net/url"
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
	return &scrubber{body: body, find: newFinder(token)}
}

// ScrubHeader puts the replacement in place of the token wherever it stands in a
// value of h: in place of the token alone where it is written plainly or as in a
// query, otherwise in place of the whole value.
func ScrubHeader(h http.Header, token Token, replacement string) {
	for _, values := range h {
		for i, value := range values {
			if !token.In(value) {
				continue
			}
			value = strings.ReplaceAll(value, token.plain, replacement)
			value = strings.ReplaceAll(value, url.QueryEscape(token.plain), replacement)
			if token.In(value) {
				value = replacement
			}
			values[i] = value
		}
	}
}

type scrubber struct {
	body  io.ReadCloser
	find  finder
	ready []byte // searched, for the next Read
	held  []byte // the end of what has arrived, which may be the beginning of the token
	err   error  // of body, to be told after ready
	room  []byte // what ready lies in
}

func (s *scrubber) Read(p []byte) (int, error) {
	for len(s.ready) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		if len(s.held) == 0 && len(p) > 0 {
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
	s.find.blank(arrived)
	n = len(arrived)
	if err == nil {
		n -= s.find.beginning(arrived)
	}
	s.held = append(s.held[:0], arrived[n:]...)
	return n
}

// fill reads on behind what is held.
func (s *scrubber) fill() {
	if size := len(s.held) + 4<<10; len(s.room) < size {
		s.room = make([]byte, size)
	}
	n := copy(s.room, s.held)
	more, err := s.body.Read(s.room[n:])
	arrived := s.room[:n+more]
	s.ready = arrived[:s.search(arrived, err)]
}

func (s *scrubber) Close() error { return s.body.Close() }
