// SPDX-License-Identifier: Apache-2.0

package rewrite

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// maxDepth is how deep members may lie in a document that is edited; WeChat's
// answers use five.
const maxDepth = 32

var (
	errTooDeep = errors.New("editing JSON: nested too deep")
	errNotJSON = errors.New("editing JSON: not a JSON document")
)

// Edit returns the JSON document raw with other values in some members. It
// asks edit about every member of every object, with the name in lower case
// and the value as it stands, and writes what edit returns in its place; nil
// leaves the member as it is, and lets Edit look into it. Every other byte
// stays: order, blanks, unknown members, the way numbers are written.
//
// A name that occurs twice is edited twice, and one that is written with
// escapes is read like any other. Control characters in strings, which JSON
// forbids and WeChat's nicknames have, are let through.
//
// The document is checked as a whole first and then read once, byte by byte: what a
// server sends must not cost more than its size.
func Edit(raw []byte, edit func(name string, value []byte) []byte) ([]byte, error) {
	clean := blanked(raw)
	if !json.Valid(clean) {
		return nil, errNotJSON
	}
	e := editor{raw: raw, clean: clean, edit: edit}
	if _, err := e.value(e.skipBlanks(0), 0); err != nil {
		return nil, err
	}
	return append(e.out, raw[e.copied:]...), nil
}

// editor edits one document, which is JSON. Positions are offsets in raw and in clean.
type editor struct {
	raw    []byte
	clean  []byte // raw without control characters, and of the same length
	edit   func(name string, value []byte) []byte
	out    []byte // the edited document as far as copied
	copied int
}

// value edits what lies in the value at a position, and returns where it ends.
func (e *editor) value(at, depth int) (end int, err error) {
	if c := e.clean[at]; c != '{' && c != '[' {
		return e.end(at), nil
	}
	if depth > maxDepth {
		return 0, errTooDeep
	}
	inObject := e.clean[at] == '{'
	for at = e.skipBlanks(at + 1); e.clean[at] != '}' && e.clean[at] != ']'; at = e.skipBlanks(at) {
		switch {
		case e.clean[at] == ',':
			at++
		case inObject:
			at, err = e.member(at, depth)
		default:
			at, err = e.value(at, depth+1)
		}
		if err != nil {
			return 0, err
		}
	}
	return at + 1, nil
}

// member edits the member whose name begins at a position, and returns where it ends.
func (e *editor) member(at, depth int) (end int, err error) {
	nameEnd := e.end(at)
	name := e.clean[at+1 : nameEnd-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		var unescaped string
		_ = json.Unmarshal(e.clean[at:nameEnd], &unescaped) // the document is JSON
		name = []byte(unescaped)
	}
	start := e.skipBlanks(e.skipBlanks(nameEnd) + 1) // behind the colon
	end = e.end(start)
	edited := e.edit(strings.ToLower(string(name)), e.raw[start:end])
	if edited == nil {
		return e.value(start, depth+1)
	}
	e.out = append(append(e.out, e.raw[e.copied:start]...), edited...)
	e.copied = end
	return end, nil
}

// end returns where the value at a position ends.
func (e *editor) end(at int) int {
	for depth := 0; at < len(e.clean); at++ {
		switch e.clean[at] {
		case '"':
			if at = endOfString(e.clean, at); depth == 0 {
				return at + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 { // of what a number or a word lies in
				return at
			}
			if depth == 0 {
				return at + 1
			}
		case ',', ' ':
			if depth == 0 {
				return at
			}
		}
	}
	return at
}

func (e *editor) skipBlanks(at int) int {
	for at < len(e.clean) && e.clean[at] == ' ' {
		at++
	}
	return at
}

// blanked returns raw with blanks in place of control characters, which
// between the parts of a document are blanks already.
func blanked(raw []byte) []byte {
	clean := bytes.Clone(raw)
	for i, c := range clean {
		if c < ' ' {
			clean[i] = ' '
		}
	}
	return clean
}

// EditStrings returns the JSON document raw with other texts in some strings,
// names of members included: it asks edit about every string, decoded, and where
// edit says true it writes what edit returns in its place. Every other byte stays.
// A document that is not JSON is read as far as it looks like it.
func EditStrings(raw []byte, edit func(text string) (string, bool)) []byte {
	var out []byte
	copied := 0
	for at := 0; at < len(raw); at++ {
		if raw[at] != '"' {
			continue
		}
		end := min(endOfString(raw, at)+1, len(raw))
		var text string
		if json.Unmarshal(blanked(raw[at:end]), &text) != nil {
			text = string(raw[at:end])
		}
		if edited, changed := edit(text); changed {
			out = append(append(out, raw[copied:at]...), quote(edited)...)
			copied = end
		}
		at = end - 1
	}
	return append(out, raw[copied:]...)
}

// quote returns a text as JSON, without escapes that it does not need.
func quote(text string) []byte {
	var literal bytes.Buffer
	encoder := json.NewEncoder(&literal)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a text never fails
	return bytes.TrimSuffix(literal.Bytes(), []byte("\n"))
}
