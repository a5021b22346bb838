// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

// errNotReadable does not quote the text, which may contain a credential.
var errNotReadable = errors.New("redacting event: neither well-formed XML nor a JSON object, or nested too deep")

// redacted is the text of an event without the credentials in it. It is cut into
// pieces, so that entries of a list can be left out.
type redacted struct {
	pieces []piece
	top    map[string]string // texts of the elements directly below the root, by name
}

// piece is a part of the text.
type piece struct {
	text     []byte
	isEntry  bool     // an entry of a list; all other pieces are always there
	accounts []string // the appids in an entry, as they are written
	array    int      // of the entries in an array of JSON: which one; commas are put between them
	instead  string   // what is written in the place of an entry that is left out
}

// listed returns the appids in all lists, in their order.
func (r redacted) listed() (appIDs []string) {
	known := make(map[string]bool)
	for _, p := range r.pieces {
		for _, appID := range p.accounts {
			if !known[appID] {
				known[appID] = true
				appIDs = append(appIDs, appID)
			}
		}
	}
	return appIDs
}

// without returns the text without the entries of lists for which drop returns true,
// given the appids in one. Nil drops none.
func (r redacted) without(drop func(accounts []string) bool) []byte {
	var out bytes.Buffer
	array := 0 // to which the last entry belonged that was written
	for _, p := range r.pieces {
		switch {
		case p.isEntry && drop != nil && drop(p.accounts):
			out.WriteString(p.instead)
			continue
		case p.array != 0 && p.array == array:
			out.WriteByte(',')
		}
		if p.isEntry {
			array = p.array
		}
		out.Write(p.text)
	}
	return out.Bytes()
}

// redact takes the credentials out of the text of an event. Characters that XML or
// JSON do not allow become blanks, so that every parser can read what is delivered.
// The only error is errNotReadable.
func redact(plain []byte) (redacted, error) {
	if !utf8.Valid(plain) {
		return redacted{}, errNotReadable
	}
	plain = bizmsg.WithoutControls(plain)
	if bizmsg.IsJSON(plain) {
		return redactJSON(plain)
	}
	return redactXML(plain)
}

// redactXML returns the document without the elements that may contain a
// credential. Attributes, comments, processing instructions and directives are
// left out as well, because they could contain one. The texts of two elements
// with the same name are joined.
func redactXML(plain []byte) (redacted, error) {
	r := redacted{top: make(map[string]string)}
	var out bytes.Buffer // writing to it never fails; errors of the encoder are about nesting
	d, e := xml.NewDecoder(bytes.NewReader(plain)), xml.NewEncoder(&out)
	cut := func(p piece) { // ends a piece
		if e.Flush() == nil && out.Len() > 0 {
			p.text = bytes.Clone(out.Bytes())
			r.pieces = append(r.pieces, p)
			out.Reset()
		}
	}
	var open []string // names of the open elements, the root first
	var accounts []string
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return redacted{}, errNotReadable
		}
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Space != "" { // WeChat uses no namespaces; without its prefix a name may be invalid
				return redacted{}, errNotReadable
			}
			if isCredential(t.Name.Local) {
				err = d.Skip()
				break
			}
			if open = append(open, t.Name.Local); len(open) == 2 && isList(t.Name.Local) {
				cut(piece{})
				accounts = nil
			}
			if len(open) > 2 && isListedAccount(t.Name.Local) {
				accounts = append(accounts, "")
			}
			err = e.EncodeToken(xml.StartElement{Name: xml.Name{Local: t.Name.Local}})
		case xml.EndElement:
			err = e.EncodeToken(xml.EndElement{Name: xml.Name{Local: t.Name.Local}})
			if len(open) == 2 && isList(t.Name.Local) {
				cut(piece{isEntry: true, accounts: texts(accounts)})
			}
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) == 2 {
				r.top[open[1]] += strings.TrimSpace(string(t))
			}
			if len(open) > 2 && isListedAccount(open[len(open)-1]) {
				accounts[len(accounts)-1] += string(t)
			}
			if len(open) > 0 {
				err = e.EncodeToken(t)
			}
		}
		if err != nil {
			return redacted{}, errNotReadable
		}
	}
	cut(piece{})
	if e.Close() != nil || len(r.pieces) == 0 {
		return redacted{}, errNotReadable
	}
	return r, nil
}

// texts returns the texts of some elements, without blanks around them, and without
// those that are empty.
func texts(of []string) (found []string) {
	for _, text := range of {
		if text = strings.TrimSpace(text); text != "" {
			found = append(found, text)
		}
	}
	return found
}

// redactJSON returns the object with null in the place of all values that may be a
// credential. All other bytes stay.
func redactJSON(plain []byte) (redacted, error) {
	text, err := rewrite.Edit(bytes.TrimSpace(plain), func(name string, _ []byte) []byte {
		if isCredential(name) {
			return []byte("null")
		}
		return nil
	})
	if err != nil {
		return redacted{}, errNotReadable
	}
	r := redacted{top: make(map[string]string)}
	d := json.NewDecoder(bytes.NewReader(text))
	_, _ = d.Token() // the brace
	copied := 0
	for arrays := 1; d.More(); arrays++ {
		token, _ := d.Token()
		name, isName := token.(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil || !isName {
			return redacted{}, errNotReadable
		}
		if !isList(name) {
			var plain string
			if json.Unmarshal(value, &plain) == nil {
				r.top[name] += strings.TrimSpace(plain)
			}
			continue
		}
		end := int(d.InputOffset())
		r.pieces = append(r.pieces, piece{text: text[copied : end-len(value)]})
		r.pieces = append(r.pieces, entries(value, arrays)...)
		copied = end
	}
	r.pieces = append(r.pieces, piece{text: text[copied:]})
	return r, nil
}

// entries cuts the value of a list into pieces: the entries of an array, or else one.
func entries(list json.RawMessage, array int) []piece {
	var each []json.RawMessage
	if json.Unmarshal(list, &each) != nil || each == nil {
		return []piece{{text: list, isEntry: true, accounts: accountsIn(list), instead: "null"}}
	}
	pieces := []piece{{text: []byte("[")}}
	for _, entry := range each {
		pieces = append(pieces, piece{text: entry, isEntry: true, accounts: accountsIn(entry), array: array})
	}
	return append(pieces, piece{text: []byte("]")})
}

// accountsIn returns the appids in an entry of a list, which may be nothing but an
// appid.
func accountsIn(entry json.RawMessage) []string {
	var accounts []string
	add := func(value []byte) {
		var one string
		var several []string
		if json.Unmarshal(value, &one) == nil {
			accounts = append(accounts, one)
		} else if json.Unmarshal(value, &several) == nil {
			accounts = append(accounts, several...)
		}
	}
	add(entry)
	_, _ = rewrite.Edit(entry, func(name string, value []byte) []byte { // redactJSON has edited it already
		if isListedAccount(name) {
			add(value)
		}
		return nil
	})
	return texts(accounts)
}
