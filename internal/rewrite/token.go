// SPDX-License-Identifier: Apache-2.0

package rewrite

import (
	"fmt"
	"html"
	"io"
	"net/url"
	"strings"
)

// Token is a token in the ways in which it may be written: mostly one, since
// what needs no escape in a query needs none in HTML.
type Token struct {
	plain, query, html string
}

// TokenOf returns the forms of a token. The empty text is none.
func TokenOf(text string) Token {
	escaped := url.QueryEscape(text)
	if escaped == text {
		return Token{text, text, text}
	}
	return Token{text, escaped, html.EscapeString(text)}
}

// Format implements fmt.Formatter: a token is not printed by accident.
func (Token) Format(out fmt.State, _ rune) { _, _ = io.WriteString(out, "(a token)") }

// In reports whether text quotes the token, plain or as in a query.
func (t Token) In(text string) bool {
	return t.plain != "" && (strings.Contains(text, t.plain) || strings.Contains(text, t.query))
}
