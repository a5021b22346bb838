// SPDX-License-Identifier: Apache-2.0

package bizmsg

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
)

// Envelope is what surrounds an encrypted message. Fields are "" where the
// message has none; all but Encrypt are unsigned claims.
type Envelope struct {
	// AppID is the component_appid, in pushes to the authorization events URL.
	AppID string
	// ToUserName is the gh_ id of an authorizer, in pushes to the messages URL.
	ToUserName string
	// Encrypt is the message, in base64.
	Encrypt string

	// The next three travel in a reply. In a push they stand in the query.

	MsgSignature string
	TimeStamp    string // Unix seconds
	Nonce        string
}

// element is a field of an Envelope under its name on the wire.
type element struct {
	name  string
	value *string
}

func (e *Envelope) elements() [6]element {
	return [...]element{
		{"AppId", &e.AppID},
		{"ToUserName", &e.ToUserName},
		{"Encrypt", &e.Encrypt},
		{"MsgSignature", &e.MsgSignature},
		{"TimeStamp", &e.TimeStamp},
		{"Nonce", &e.Nonce},
	}
}

// ParseEnvelope reads the body of a push, or of a reply: XML, or a JSON object
// with the same names. The caller bounds its size. There must be one Encrypt.
// Refused are a DOCTYPE, a comment, a namespace, nested elements, a repeated
// field and anything behind the end; also a value that is not printable ASCII
// without spaces, because an AppID may be logged before anything is verified.
func ParseEnvelope(body []byte) (Envelope, error) {
	doc, err := parseDocument(body, maxEnvelopeParts)
	if err != nil {
		return Envelope{}, fmt.Errorf("parsing envelope: %w", err)
	}
	for _, f := range doc {
		if f.nested {
			return Envelope{}, errors.New("parsing envelope: nested elements")
		}
	}
	var e Envelope
	for _, el := range e.elements() {
		if *el.value, err = doc.one(el.name); err != nil {
			return Envelope{}, fmt.Errorf("parsing envelope: %w", err)
		}
		if strings.ContainsFunc(*el.value, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return Envelope{}, fmt.Errorf("parsing envelope: %s is not printable ASCII", el.name)
		}
	}
	if e.Encrypt == "" {
		return Envelope{}, errors.New("parsing envelope: no Encrypt")
	}
	return e, nil
}

// XML returns the envelope as WeChat writes it: texts in CDATA, TimeStamp as a
// number, empty fields left out.
func (e Envelope) XML() []byte {
	var b bytes.Buffer
	b.WriteString("<xml>")
	for _, el := range e.elements() {
		if *el.value == "" {
			continue
		}
		fmt.Fprintf(&b, "<%s>", el.name)
		if el.name == "TimeStamp" {
			_ = xml.EscapeText(&b, []byte(*el.value)) // a Buffer takes everything
		} else {
			writeCDATA(&b, *el.value)
		}
		fmt.Fprintf(&b, "</%s>", el.name)
	}
	b.WriteString("</xml>")
	return b.Bytes()
}

// JSON returns the envelope of a push as WeChat writes it where pushes are in JSON.
func (e Envelope) JSON() []byte {
	text, _ := json.Marshal(struct { // three texts, so it cannot fail
		AppID      string `json:"AppId,omitempty"`
		ToUserName string `json:",omitempty"`
		Encrypt    string
	}{e.AppID, e.ToUserName, e.Encrypt})
	return text
}

// writeCDATA splits "]]>" over two sections: a nonce comes from the request,
// and must not end its section and add elements of its own.
func writeCDATA(b *bytes.Buffer, text string) {
	fmt.Fprintf(b, "<![CDATA[%s]]>", strings.ReplaceAll(text, "]]>", "]]]]><![CDATA[>"))
}
