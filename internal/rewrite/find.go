// SPDX-License-Identifier: Apache-2.0

package rewrite

import "bytes"

// finder finds a token in a text that comes piece by piece.
//
// Every form of a token is a long run of few characters: letters, digits, and
// those of escapes and of base64. In most texts there is no run as long as the
// token, so only one character in many is looked at.
type finder struct {
	token Token
	forms [][]byte     // from Token.forms, at the first run that is long enough
	chars [1 << 8]bool // that the token may be written with
}

// usual are the characters of all forms of a token that has itself no others.
var usual = func() (chars [1 << 8]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_+/%\\&#;") {
		chars[c] = true
	}
	return chars
}()

// newFinder returns a finder of a token, which is not empty.
func newFinder(token Token) finder {
	f := finder{token: token, chars: usual}
	for _, c := range []byte(token.plain) {
		f.chars[c] = true
	}
	return f
}

// blank writes asterisks over the token wherever it stands in text, and reports
// whether it did.
func (f *finder) blank(text []byte) (found bool) {
	least := len(f.token.plain) // no form is shorter
	for begin := 0; begin+least <= len(text); {
		at := begin + least - 1
		for at >= begin && f.chars[text[at]] {
			at--
		}
		if at >= begin {
			begin = at + 1
			continue
		}
		end := begin + least
		for end < len(text) && f.chars[text[end]] {
			end++
		}
		found = f.blankRun(text[begin:end]) || found
		begin = end + 1
	}
	return found
}

// blankRun is blank for one run.
func (f *finder) blankRun(run []byte) (found bool) {
	if f.forms == nil {
		f.forms = f.token.forms()
	}
	for _, form := range f.forms {
		for at := bytes.Index(run, form); at >= 0; at = bytes.Index(run, form) {
			asterisks(run[at : at+len(form)])
			found = true
		}
	}
	for at := 0; at < len(run); at++ {
		if !f.mayBegin(run[at]) {
			continue
		}
		if n, spelled, _ := f.token.spelled(run[at:]); spelled {
			asterisks(run[at : at+n])
			at += n - 1
			found = true
		}
	}
	return found
}

// mayBegin reports whether the token, plain or with escapes, may begin with c.
func (f *finder) mayBegin(c byte) bool {
	return c == f.token.plain[0] || c == '%' || c == '\\' || c == '&'
}

func asterisks(text []byte) {
	for i := range text {
		text[i] = '*'
	}
}

// beginning returns how many bytes at the end of text may be the beginning of the
// token.
func (f *finder) beginning(text []byte) int {
	most := len(f.token.plain) * longestEscape // no form is longer
	from := len(text)
	for from > 0 && from > len(text)-most && f.chars[text[from-1]] {
		from--
	}
	if from < len(text) && f.forms == nil {
		f.forms = f.token.forms()
	}
	for ; from < len(text); from++ {
		tail := text[from:]
		if f.mayBegin(tail[0]) {
			if _, _, cut := f.token.spelled(tail); cut {
				break
			}
		}
		for _, form := range f.forms {
			if bytes.HasPrefix(form, tail) {
				return len(tail)
			}
		}
	}
	return len(text) - from
}
