// SPDX-License-Identifier: Apache-2.0

package bizmsg

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// WithoutControls returns a decrypted text with a blank in the place of each
// character that XML, or JSON if it is that, does not allow, written as it is or by
// its number. People have such characters in their texts and names, and WeChat writes
// them as they are: no event may be lost for one. A text that is not UTF-8 is returned
// as it is.
func WithoutControls(plain []byte) []byte {
	if !utf8.Valid(plain) {
		return plain
	}
	allowed := isXMLChar
	if IsJSON(plain) {
		allowed = func(r rune) bool { return r >= ' ' }
	}
	clean := bytes.Map(func(r rune) rune {
		if !allowed(r) {
			return ' '
		}
		return r
	}, plain)
	if IsJSON(plain) {
		return clean
	}
	return charReference.ReplaceAllFunc(clean, func(reference []byte) []byte {
		digits, base := string(reference[len("&#"):len(reference)-1]), 10
		if hex, ok := strings.CutPrefix(digits, "x"); ok {
			digits, base = hex, 16
		}
		if code, err := strconv.ParseInt(digits, base, 32); err == nil && isXMLChar(rune(code)) {
			return reference
		}
		return []byte(" ")
	})
}

// charReference is a character of XML that is written by its number.
var charReference = regexp.MustCompile(`&#(?:[0-9]+|x[0-9a-fA-F]+);`)

// isXMLChar reports whether XML allows a character (www.w3.org/TR/xml/#charsets).
func isXMLChar(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= ' ' && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 && r <= utf8.MaxRune
}

// IsJSON reports whether a decrypted text is a JSON object in the place of XML, if it
// is well-formed.
func IsJSON(plain []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(plain), []byte("{")) }
