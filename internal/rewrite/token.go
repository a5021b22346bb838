// SPDX-License-Identifier: Apache-2.0

package rewrite

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"io"
	"net/url"
	"slices"
	"strings"
)

// Token is a token that was sent, to be found wherever an answer repeats it, and
// however it is written there:
//
//   - with escapes, of all characters or of some, see escape: as in an address, in
//     JSON, in a script, in HTML;
//   - in base64, of either alphabet, alone or with a text around it;
//   - in hexadecimal.
//
// What is compressed, cut into pieces or encoded otherwise is not found.
type Token struct{ plain string }

// TokenOf returns a token. The empty text is none.
func TokenOf(text string) Token { return Token{text} }

// Format implements fmt.Formatter: a token is not printed by accident.
func (Token) Format(out fmt.State, _ rune) { _, _ = io.WriteString(out, "(a token)") }

// Fits reports whether a text of n bytes can hold the token; a negative n is an
// unknown length.
func (t Token) Fits(n int64) bool { return t.plain != "" && (n < 0 || n >= int64(len(t.plain))) }

// In reports whether text holds the token.
func (t Token) In(text string) bool {
	_, found := t.Blank(text)
	return found
}

// Blank returns text with asterisks in the place of the token, and whether it was
// there.
func (t Token) Blank(text string) (blanked string, found bool) {
	if !t.Fits(int64(len(text))) {
		return text, false
	}
	find, edited := newFinder(t), []byte(text)
	if !find.blank(edited) {
		return text, false
	}
	return string(edited), true
}

// longestEscape is how many bytes of a text one character of a token takes at
// most. A longer escape is not read as one.
const longestEscape = 10

// spelled reports whether text begins with the token, plain or with escapes, and
// how many bytes of text that takes. Cut means that text ends before that is
// certain.
func (t Token) spelled(text []byte) (n int, found, cut bool) {
	for i := range len(t.plain) {
		if n == len(text) {
			return 0, false, true
		}
		c, size, cut := escape(text[n:])
		switch {
		case cut:
			return 0, false, true
		case size > 0 && c == t.plain[i]:
			n += size
		case text[n] == t.plain[i]:
			n++
		default:
			return 0, false, false
		}
	}
	return n, true, false
}

// escape reads the escape at the beginning of a text, which is not empty: %41, as
// in addresses; \u0041, \x41 and \/, as in JSON and scripts; &#65;, &#x41; and
// &amp;, as in HTML. What was escaped several times in the manner of addresses
// (%2541) or of JSON (\\u0041) is read as well. Size is 0 if there is none. Cut
// means that the text ends within what may be one.
func escape(text []byte) (c byte, size int, cut bool) {
	switch text[0] {
	case '%':
		at := 1
		for at+4 <= longestEscape && bytes.HasPrefix(text[at:], []byte("25")) {
			if len(text) < at+4 {
				return 0, 0, true
			}
			if !isHex(text[at+2 : at+4]) {
				break
			}
			at += 2
		}
		return hexDigits(text, at, 2)
	case '\\':
		at := 1
		for at < len(text) && at < longestEscape-5 && text[at] == '\\' {
			at++
		}
		switch {
		case at == len(text):
			return 0, 0, true
		case text[at] == 'u':
			return hexDigits(text, at+1, 4)
		case text[at] == 'x':
			return hexDigits(text, at+1, 2)
		}
		return text[at], at + 1, false
	case '&':
		end := bytes.IndexByte(text[:min(len(text), longestEscape)], ';')
		if end < 0 {
			return 0, 0, len(text) < longestEscape
		}
		if plain := html.UnescapeString(string(text[:end+1])); len(plain) == 1 {
			return plain[0], end + 1, false
		}
	}
	return 0, 0, false
}

// hexDigits reads n hexadecimal digits of an escape, of which the last two count:
// those before them are zeros.
func hexDigits(text []byte, at, n int) (c byte, size int, cut bool) {
	if len(text) < at+n {
		return 0, 0, isHex(text[at:])
	}
	var value [2]byte
	if _, err := hex.Decode(value[2-n/2:], text[at:at+n]); err != nil || n == 4 && value[0] != 0 {
		return 0, 0, false
	}
	return value[1], at + n, false
}

// isHex reports whether a text has hexadecimal digits alone.
func isHex(text []byte) bool {
	for _, c := range text {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return false
		}
	}
	return true
}

// forms returns how the token may be written apart from escapes. Where it has a
// character that begins an escape itself, spelled can read it wrongly: then its
// usual spellings are among them, too.
func (t Token) forms() [][]byte {
	forms := make([][]byte, 0, 11)
	add := func(form []byte) {
		if len(form) > 0 && !slices.ContainsFunc(forms, func(known []byte) bool { return bytes.Equal(known, form) }) {
			forms = append(forms, form)
		}
	}
	if strings.ContainsAny(t.plain, `%\&`) {
		add([]byte(t.plain))
		add([]byte(url.QueryEscape(t.plain)))
		add([]byte(html.EscapeString(t.plain)))
	}
	padded := append([]byte{0, 0}, t.plain...)
	digits := hex.AppendEncode(nil, padded[2:])
	add(digits)
	add(bytes.ToUpper(digits))
	// A token begins at any of three places of a group of base64. What depends
	// on its neighbours is cut off at both ends.
	for shift, cut := range []int{0, 2, 3} {
		text := padded[2-shift:]
		for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			form := alphabet.AppendEncode(nil, text)[cut:]
			if len(text)%3 != 0 {
				form = form[:len(form)-1]
			}
			add(form)
		}
	}
	return forms
}
