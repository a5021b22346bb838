// SPDX-License-Identifier: Apache-2.0

// Package rewrite reads and edits what passes between a client and WeChat
// without taking it apart: query strings ([Splice], [Without], [Set],
// [First]), the first bytes of an answer ([Errcode]), its members ([Edit]), and
// takes a [Token] out of its body and headers ([Scrub], [ScrubHeader]).
//
// Queries are not decoded and encoded again: WeChat sees them as the client
// wrote them, and it takes a fifth of the time.
//
// A parameter ends at "&" and at ";", which some servers read as "&". Its name
// is compared by its letters alone, decoded, whatever their case: so
// access%5Ftoken, ACCESS_TOKEN, access+token, access.token and access_token[]
// are all access_token, as they are to one server or another. The names given
// to these functions are lower case.
package rewrite

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Splice returns rawQuery without any access_token and component_access_token
// and without any parameter for whose decoded name or value drop reports true.
// Drop may be nil and is not asked about empty texts. Every other byte stays. Then, if name is not empty,
// Splice puts name and the token in front; name needs no escape.
func Splice(rawQuery, name string, token Token, drop func(value string) bool) string {
	return edit(rawQuery, name, url.QueryEscape(token.plain), removal{drop: drop, names: tokenNames})
}

// Without returns rawQuery without the named parameters and those drop reports
// true for, as Splice does, and leaves the tokens. It is for the calls that
// carry the end user's own access_token.
func Without(rawQuery string, drop func(value string) bool, names ...string) string {
	return edit(rawQuery, "", "", removal{drop: drop, names: names})
}

// Set returns rawQuery with exactly one parameter of that name, put in front,
// so that no server can read another one than was checked.
func Set(rawQuery, name, value string) string {
	return edit(rawQuery, name, url.QueryEscape(value), removal{names: []string{name}})
}

// First returns the decoded value of the first parameter in the query that has
// one of the names and is not empty, "" if there is none. It reads names and
// separators as Splice does, so no token stays that it has not seen.
func First(rawQuery string, names ...string) string {
	for rest, more := rawQuery, rawQuery != ""; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "&")
		for inner := true; inner; {
			var pair string
			pair, segment, inner = strings.Cut(segment, ";")
			name, value, _ := strings.Cut(pair, "=")
			if value != "" && isOneOf(name, names) {
				return unescape(value)
			}
		}
	}
	return ""
}

var tokenNames = []string{"access_token", "component_access_token"}

// removal says which parameters go.
type removal struct {
	names []string
	drop  func(value string) bool // may be nil
}

// edit puts name=escaped in front of what the removal leaves of rawQuery.
func edit(rawQuery, name, escaped string, r removal) string {
	out := make([]byte, 0, 512) // on the stack, unless more is needed
	if name != "" {
		out = append(out, name...)
		out = append(out, '=')
		out = append(out, escaped...)
	}
	first := name == ""
	for rest, more := rawQuery, rawQuery != ""; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "&")
		segment, ok := r.strip(segment)
		if !ok {
			continue
		}
		if !first {
			out = append(out, '&')
		}
		first = false
		out = append(out, segment...)
	}
	return string(out)
}

// strip returns what is left of the text between two "&", false if nothing.
// Where it holds ";" it is one parameter to some servers and several to
// others, so it is looked at under both readings.
func (r removal) strip(segment string) (left string, ok bool) {
	if strings.IndexByte(segment, ';') >= 0 {
		kept := slices.DeleteFunc(strings.Split(segment, ";"), r.takes)
		if segment = strings.Join(kept, ";"); len(kept) == 0 {
			return "", false
		}
	}
	return segment, !r.takes(segment)
}

func (r removal) takes(pair string) bool {
	name, value := parameter(pair)
	return isOneOf(name, r.names) || r.drops(name) || r.drops(value)
}

func (r removal) drops(text string) bool {
	return r.drop != nil && text != "" && r.drop(unescape(text))
}

// parameter takes name=value apart. What has no "=" is a name.
func parameter(pair string) (name, value string) {
	name, value, _ = strings.Cut(pair, "=")
	return name, value
}

func isOneOf(raw string, names []string) bool {
	for _, name := range names {
		if raw == name || sameLetters(raw, name) {
			return true
		}
	}
	return false
}

// sameLetters reports whether the escaped name raw, decoded, has the letters
// of name, which is lower case, and besides them no letters.
func sameLetters(raw, name string) bool {
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '%' && i+2 < len(raw) {
			if decoded, err := strconv.ParseUint(raw[i+1:i+3], 16, 8); err == nil {
				c = byte(decoded)
				i += 2
			}
		}
		c |= 'a' - 'A'
		if !letter(c) {
			continue
		}
		name = skipNonLetters(name)
		if name == "" || name[0] != c {
			return false
		}
		name = name[1:]
	}
	return skipNonLetters(name) == ""
}

func skipNonLetters(name string) string {
	for name != "" && !letter(name[0]) {
		name = name[1:]
	}
	return name
}

func letter(c byte) bool { return 'a' <= c && c <= 'z' }

// unescape decodes a value. One with a broken escape stays as it is: it is
// likely to be a text that nobody escaped.
func unescape(value string) string {
	if strings.IndexByte(value, '%') < 0 && strings.IndexByte(value, '+') < 0 {
		return value
	}
	if decoded, err := url.QueryUnescape(value); err == nil {
		return decoded
	}
	return value
}
