// SPDX-License-Identifier: Apache-2.0

package bizmsg

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// document is the children of the root, in order.
type document []field

type field struct {
	name   string
	text   string // in XML, without the white space around it
	nested bool   // has children of its own, so text means nothing
}

// Parts are tokens of XML and members of JSON.
const (
	// maxEnvelopeParts is for an envelope, of which WeChat's have five elements:
	// anybody can send one, it is read before its signature can be checked, and each
	// part costs memory.
	maxEnvelopeParts = 100
	// maxParts is for what was in an envelope; the size of a push bounds it before.
	maxParts = 100_000
)

// maxTag is the length in bytes of the longest start tag. WeChat's have no
// attributes; a parser keeps all of them.
const maxTag = 256

var errTooMany = errors.New("too many parts")

// parseDocument reads <xml>…</xml>, or the JSON object that stands in its place
// in some of WeChat's other products. Its errors tell only the place: the
// parsers quote their input, which may hold a credential. A document of more parts
// than most is refused at the first that is too many.
func parseDocument(text []byte, most int) (document, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	if IsJSON(text) {
		return parseJSON(text, most)
	}
	return parseXML(text, most)
}

// one returns the text of the field with this very name (AppId and appid can
// be siblings), "" if there is none. A second one is an error: two readers of
// one document must not see different things.
func (d document) one(name string) (string, error) {
	found := false
	text := ""
	for _, f := range d {
		if f.name != name {
			continue
		}
		if found || f.nested {
			return "", fmt.Errorf("%s is repeated or not a plain text", name)
		}
		found, text = true, f.text
	}
	return text, nil
}

// parseXML knows elements, text and CDATA. All else is refused: a DOCTYPE can
// declare entities, a comment can split a name so that it reads differently
// elsewhere, and WeChat sends neither. WeChat's documentation prints samples
// that end with <xml> where </xml> is meant; no push does, so that is refused too.
func parseXML(text []byte, most int) (document, error) {
	if hasLongTag(text) {
		return nil, errTooMany
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	var doc document
	var leaf []byte
	depth := 0
	for parts := 0; ; parts++ {
		if parts > most {
			return nil, errTooMany
		}
		token, err := d.Token()
		if err == io.EOF {
			return doc, nil
		}
		if err != nil {
			return nil, fmt.Errorf("not well-formed XML at byte %d", d.InputOffset())
		}
		ok := true
		switch t := token.(type) {
		case xml.StartElement:
			depth++
			leaf = leaf[:0]
			doc, ok = doc.start(t.Name, depth)
		case xml.EndElement:
			if depth == 2 {
				doc[len(doc)-1].text = string(bytes.TrimSpace(leaf))
			}
			depth--
		case xml.CharData:
			leaf = append(leaf, t...)
			ok = depth >= 2 || len(bytes.TrimSpace(t)) == 0
		case xml.ProcInst:
			ok = parts == 0 && t.Target == "xml"
		default:
			ok = false
		}
		if !ok {
			return nil, fmt.Errorf("unexpected XML before byte %d", d.InputOffset())
		}
	}
}

// hasLongTag reports whether something that may be a tag is longer than maxTag. CDATA
// and the XML declaration are none.
func hasLongTag(text []byte) bool {
	for {
		begin := bytes.IndexByte(text, '<')
		if begin < 0 {
			return false
		}
		text = text[begin:]
		if rest, isCDATA := bytes.CutPrefix(text, []byte("<![CDATA[")); isCDATA {
			_, text, _ = bytes.Cut(rest, []byte("]]>"))
			continue
		}
		if end := bytes.IndexByte(text, '>'); end < 0 || end > maxTag {
			return true
		}
		text = text[1:]
	}
}

// start takes in a start tag. The root makes d non-nil.
func (d document) start(name xml.Name, depth int) (document, bool) {
	switch {
	case name.Space != "":
		return d, false
	case depth == 1:
		return document{}, d == nil && name.Local == "xml"
	case depth == 2:
		return append(d, field{name: name.Local}), true
	default:
		d[len(d)-1].nested = true
		return d, true
	}
}

// parseJSON reads one JSON object. It goes token by token because Unmarshal
// takes appid for AppId and the last of two fields for the only one.
func parseJSON(text []byte, most int) (document, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	malformed := func() error { return fmt.Errorf("not a JSON object at byte %d", d.InputOffset()) }

	if _, err := d.Token(); err != nil { // the "{" that parseDocument saw
		return nil, malformed()
	}
	doc := document{}
	for d.More() {
		if len(doc) >= most {
			return nil, errTooMany
		}
		name, err := d.Token()
		if err != nil {
			return nil, malformed()
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, malformed()
		}
		f := field{name: name.(string)}
		switch c := value[0]; {
		case c == '"':
			_ = json.Unmarshal(value, &f.text) // the decoder has taken it for a text
		case c == '-' || '0' <= c && c <= '9':
			f.text = string(value)
		default:
			f.nested = true
		}
		doc = append(doc, f)
	}
	if _, err := d.Token(); err != nil { // the "}"
		return nil, malformed()
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, malformed()
	}
	return doc, nil
}
