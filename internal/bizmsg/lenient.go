// SPDX-License-Identifier: Apache-2.0

package bizmsg

import (
	"bytes"
	"errors"
)

// maxDepth is how deep elements may be nested. WeChat's are four deep.
const maxDepth = 32

var errMalformed = errors.New("not a message in XML or JSON")

// parseLenient reads what parseDocument does, and also what XML forbids and WeChat
// writes, see ParseMessage. On an error the document has what was read before.
// The time it takes grows with the length of the text alone: each part is searched
// for once.
func parseLenient(text []byte) (document, error) {
	text, err := DecodeText(text, "")
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(text, []byte("{")) {
		return parseJSON(WithoutControls(text), maxParts)
	}
	r := &lenientReader{rest: text}
	if r.take("<?") && !r.skip("?>") {
		return nil, errMalformed
	}
	return r.root()
}

// lenientReader reads XML from the front of rest.
type lenientReader struct {
	rest  []byte
	parts int // elements so far
}

// root reads the element xml, which is the whole text. The fields are its children.
func (r *lenientReader) root() (document, error) {
	if !r.blank() {
		return nil, errMalformed
	}
	name, empty, ok := r.startTag()
	if !ok || name != "xml" || empty {
		return nil, errMalformed
	}
	doc := document{}
	for {
		if !r.blank() {
			return doc, errMalformed
		}
		if r.take("</") {
			break
		}
		f, err := r.element(2)
		if err != nil {
			return doc, err
		}
		doc = append(doc, f)
	}
	if !r.endTag("xml") || !r.blank() || len(r.rest) > 0 {
		return doc, errMalformed
	}
	return doc, nil
}

// element reads an element, and those in it, which is at this depth.
func (r *lenientReader) element(depth int) (field, error) {
	if r.parts++; r.parts > maxParts || depth > maxDepth {
		return field{}, errTooMany
	}
	name, empty, ok := r.startTag()
	f := field{name: name}
	switch {
	case !ok:
		return f, errMalformed
	case empty:
		return f, nil
	}
	var text []byte
	for {
		switch {
		case r.take("</"):
			f.text = string(bytes.TrimSpace(text))
			if !r.endTag(name) {
				return f, errMalformed
			}
			return f, nil
		case r.take("<![CDATA["):
			content, ok := r.cdata(name)
			if !ok {
				return f, errMalformed
			}
			text = append(text, content...)
		case r.take("<!--"):
			if !r.skip("-->") {
				return f, errMalformed
			}
		case len(r.rest) == 0:
			return f, errMalformed
		case r.rest[0] == '<':
			f.nested = true
			if _, err := r.element(depth + 1); err != nil {
				return f, err
			}
		default:
			end := bytes.IndexByte(r.rest, '<')
			if end < 0 {
				return f, errMalformed
			}
			text = append(text, r.rest[:end]...)
			r.rest = r.rest[end:]
		}
	}
}

// cdata reads a section of which the beginning is read. It ends at the first "]]>"
// behind which the element ends: one before is part of the text, not escaped.
func (r *lenientReader) cdata(element string) (text []byte, ok bool) {
	all := r.rest
	for r.skip("]]>") {
		behind := *r
		behind.rest = bytes.TrimLeft(behind.rest, space)
		if behind.take("</") && behind.endTag(element) {
			return all[:len(all)-len(r.rest)-len("]]>")], true
		}
	}
	return nil, false
}

// startTag reads a start tag. Attributes are passed over; empty means <name/>.
func (r *lenientReader) startTag() (name string, empty, ok bool) {
	if !r.take("<") {
		return "", false, false
	}
	end := bytes.IndexByte(r.rest, '>')
	if end < 1 || end > maxTag {
		return "", false, false
	}
	tag := r.rest[:end]
	r.rest = r.rest[end+1:]
	tag, empty = bytes.CutSuffix(tag, []byte("/"))
	if i := bytes.IndexAny(tag, space); i >= 0 {
		tag = tag[:i]
	}
	return string(tag), empty, len(tag) > 0 && !bytes.ContainsAny(tag, "<!?/&\"'=")
}

// endTag reads the rest of an end tag, of which "</" is read.
func (r *lenientReader) endTag(name string) bool {
	if !r.take(name) {
		return false
	}
	r.rest = bytes.TrimLeft(r.rest, space)
	return r.take(">")
}

// blank passes over white space and comments. It reports false at a comment that
// does not end.
func (r *lenientReader) blank() bool {
	for {
		r.rest = bytes.TrimLeft(r.rest, space)
		if !r.take("<!--") {
			return true
		}
		if !r.skip("-->") {
			return false
		}
	}
}

// space is white space in XML.
const space = " \t\r\n"

// take reads prefix, if it comes next.
func (r *lenientReader) take(prefix string) (ok bool) {
	r.rest, ok = bytes.CutPrefix(r.rest, []byte(prefix))
	return ok
}

// skip reads up to mark and mark itself. It reports false if there is none.
func (r *lenientReader) skip(mark string) bool {
	_, rest, ok := bytes.Cut(r.rest, []byte(mark))
	if ok {
		r.rest = rest
	}
	return ok
}
