// SPDX-License-Identifier: Apache-2.0

package rewrite

import (
	"bytes"
	"strconv"
	"strings"
)

// Errcode reads the errcode of WeChat's answer, 0 if it has none, out of the
// first bytes of the body. Complete says that they are the whole body, short that
// the whole body is known to be short, so that its end may be waited for. Known
// false means that more bytes are needed.
//
// The errcode may be any member of the outermost object; the first counts. It may
// be a number or a number in a string. The rest need not be valid JSON, as
// WeChat's is not always (control characters in nicknames).
//
// A body of unknown length is never held back for what cannot be a refusal: those
// of WeChat are flat, texts and numbers alone. So it is decided with the first
// member whose value is an object or a list, and with the first byte if that
// begins no object.
func Errcode(prefix []byte, complete, short bool) (code int, known bool) {
	p := skipSpace(bytes.TrimPrefix(prefix, byteOrderMark))
	if len(p) == 0 || p[0] != '{' {
		return 0, complete || !bytes.HasPrefix(byteOrderMark, p)
	}
	for more := true; more; p, more = skipMember(p) {
		p = skipSpace(p[1:])
		if value, ok := bytes.CutPrefix(p, errcodeName); ok {
			code, ended := number(value)
			return code, ended || complete
		}
		if !complete && !short && !maybeFlat(p) {
			return 0, true
		}
	}
	return 0, complete || len(p) > 0
}

// maybeFlat reports whether a member, of which more may follow, is none yet or has
// a value that is neither an object nor a list.
func maybeFlat(p []byte) bool {
	if len(p) == 0 || p[0] != '"' {
		return len(p) == 0
	}
	p = skipSpace(p[min(endOfString(p, 0)+1, len(p)):])
	if len(p) == 0 || p[0] != ':' {
		return len(p) == 0
	}
	p = skipSpace(p[1:])
	return len(p) == 0 || p[0] != '{' && p[0] != '['
}

var (
	byteOrderMark = []byte("\uFEFF")
	errcodeName   = []byte(`"errcode"`)
)

// number reads the value after a member's name, 0 if it is no integer. Ended
// means that more bytes would not change it.
func number(p []byte) (n int, ended bool) {
	p = skipSpace(p)
	if len(p) == 0 || p[0] != ':' {
		return 0, len(p) > 0
	}
	p = bytes.TrimPrefix(skipSpace(p[1:]), []byte{'"'})
	end := 0
	for end < len(p) && strings.IndexByte("+-.0123456789Ee", p[end]) >= 0 {
		end++
	}
	n, err := strconv.Atoi(string(p[:end]))
	if err != nil {
		n = 0
	}
	return n, end < len(p)
}

// skipMember skips a member of an object up to the comma after it. It returns false
// if there is none: with the end of the object, or with nothing if that has not
// arrived.
func skipMember(p []byte) (rest []byte, ok bool) {
	depth := 0
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '"':
			i = endOfString(p, i)
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return p[i:], false
			}
		case ',':
			if depth == 0 {
				return p[i:], true
			}
		}
	}
	return nil, false
}

// endOfString returns the index of the quote that ends the string which
// begins at p[i], one beyond p if none does.
func endOfString(p []byte, i int) int {
	for i++; i < len(p) && p[i] != '"'; i++ {
		if p[i] == '\\' {
			i++
		}
	}
	return i
}

func skipSpace(p []byte) []byte {
	for len(p) > 0 && (p[0] == ' ' || p[0] == '\t' || p[0] == '\r' || p[0] == '\n') {
		p = p[1:]
	}
	return p
}
