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
func Edit(raw []byte, edit func(name string, value []byte) []byte) ([]byte, error) {
	return editor{edit}.value(raw, blanked(raw), 0)
}

type editor struct {
	edit func(name string, value []byte) []byte
}

// value edits one value. clean is raw without control characters; the two are
// of the same length, so that offsets found in one hold in the other.
func (e editor) value(raw, clean []byte, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	decoder := json.NewDecoder(bytes.NewReader(clean))
	decoder.UseNumber() // a number too large for a float64 is JSON all the same
	opening, err := decoder.Token()
	if err != nil {
		return nil, errNotJSON
	}
	inObject := opening == json.Delim('{')
	if !inObject && opening != json.Delim('[') {
		if !isBlank(clean[decoder.InputOffset():]) {
			return nil, errNotJSON
		}
		return raw, nil
	}
	var out bytes.Buffer
	copied := 0
	for decoder.More() {
		var name string
		if inObject {
			token, err := decoder.Token()
			if err != nil {
				return nil, errNotJSON
			}
			name = strings.ToLower(token.(string)) // the decoder has no other here
		}
		var member json.RawMessage
		if decoder.Decode(&member) != nil {
			return nil, errNotJSON
		}
		end := int(decoder.InputOffset())
		start := end - len(member)
		edited, err := e.member(name, inObject, raw[start:end], member, depth)
		if err != nil {
			return nil, err
		}
		out.Write(raw[copied:start])
		out.Write(edited)
		copied = end
	}
	if _, err := decoder.Token(); err != nil || !isBlank(clean[decoder.InputOffset():]) {
		return nil, errNotJSON
	}
	out.Write(raw[copied:])
	return out.Bytes(), nil
}

// isBlank reports whether a text without control characters has only what JSON
// counts as blanks: others, such as U+00A0, are none.
func isBlank(clean []byte) bool { return len(bytes.TrimLeft(clean, " ")) == 0 }

func (e editor) member(name string, named bool, raw, clean []byte, depth int) ([]byte, error) {
	if named {
		if edited := e.edit(name, raw); edited != nil {
			return edited, nil
		}
	}
	if clean[0] != '{' && clean[0] != '[' {
		return raw, nil
	}
	return e.value(raw, clean, depth+1)
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
