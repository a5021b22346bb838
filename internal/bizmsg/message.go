// SPDX-License-Identifier: Apache-2.0

package bizmsg

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
)

// MessageFields are the elements that name a message or a passive reply, "" where
// it has none (Receiving_standard_messages.html, Passive_user_reply_message.html).
type MessageFields struct {
	// ToUserName is the gh_ id of the account in a message, a follower in a reply.
	ToUserName string
	// FromUserName is the openid of the follower in a message.
	FromUserName string
	// CreateTime is zero if missing or not a number.
	CreateTime time.Time
	MsgType    string
	// Event is set only where MsgType is event.
	Event string
	// MsgID is a number in decimal digits. Events have none.
	MsgID string
}

// ParseMessage reads a decrypted message of a follower, or a reply to one: XML, or a
// JSON object with the same names. It is as lenient as WeChat writes: characters that
// XML forbids, and a "]]>" within CDATA that is not escaped, both of which followers
// can send; encodings other than UTF-8, if declared.
//
// With a "]]>" a follower can end the element that holds his text and begin others.
// So of several elements of one name the first one counts: WeChat writes the names
// and the type before any text of a follower. Only MsgId comes after it; of several
// the last one counts.
//
// On an error the fields are those that stand before the fault; what stands behind
// the end of the root is such a fault too. The error does not quote the text.
func ParseMessage(plain []byte) (MessageFields, error) {
	doc, err := parseLenient(plain)
	fields := MessageFields{
		ToUserName:   doc.first("ToUserName"),
		FromUserName: doc.first("FromUserName"),
		CreateTime:   unixTime(doc.first("CreateTime")),
		MsgType:      doc.first("MsgType"),
		MsgID:        doc.last("MsgId", "MsgID"), // WeChat writes both
	}
	if strings.EqualFold(fields.MsgType, "event") {
		fields.Event = doc.first("Event")
	}
	if err != nil {
		return fields, fmt.Errorf("parsing message: %w", err)
	}
	return fields, nil
}

// IsEmptyText reports whether a message of type text has no text.
func IsEmptyText(plain []byte) bool {
	doc, err := parseLenient(plain)
	return err == nil && strings.EqualFold(doc.first("MsgType"), "text") && doc.first("Content") == ""
}

// TextOf returns the text of a message of type text, "" for all others. It is as lenient
// as ParseMessage; of a text that cannot be read to its end it returns none.
func TextOf(plain []byte) string {
	doc, err := parseLenient(plain)
	if err != nil || !strings.EqualFold(doc.first("MsgType"), "text") {
		return ""
	}
	return doc.first("Content")
}

// first returns the text of the first field with this name, "" if there is none.
func (d document) first(name string) string {
	for _, f := range d {
		if f.name == name {
			return f.text
		}
	}
	return ""
}

// last returns the text of the last field with one of the names, "" if there is none.
func (d document) last(names ...string) (text string) {
	for _, f := range d {
		for _, name := range names {
			if f.name == name {
				text = f.text
			}
		}
	}
	return text
}

// declaration is an XML declaration that names an encoding.
var declaration = regexp.MustCompile(`^<\?(?i:xml)\s[^>]*?encoding\s*=\s*["']([^"']*)["'][^>]*\?>`)

// byteOrderMark begins texts that some editors and frameworks write in UTF-8.
var byteOrderMark = []byte("\ufeff")

// DecodeText returns a text in UTF-8, without a byte order mark and without white
// space around it. If its XML declaration names another encoding, such as GBK, the
// text is converted and loses the declaration. charset is that of a Content-Type, ""
// if there is none. It counts only for a text that is not UTF-8: many servers name an
// encoding there that is not that of the text. The error does not quote the text.
func DecodeText(text []byte, charset string) ([]byte, error) {
	text = bytes.TrimSpace(bytes.TrimPrefix(text, byteOrderMark))
	declared := declaration.FindSubmatchIndex(text)
	switch {
	case declared != nil:
		charset = string(text[declared[2]:declared[3]])
	case utf8.Valid(text):
		return text, nil
	}
	if charset == "" || strings.EqualFold(charset, "utf-8") {
		if !utf8.Valid(text) {
			return nil, errors.New("not UTF-8, and no other encoding is declared")
		}
		return text, nil
	}
	encoding, err := htmlindex.Get(charset)
	if err != nil {
		return nil, errors.New("the declared encoding is not known")
	}
	if declared != nil {
		text = bytes.TrimSpace(text[declared[1]:])
	}
	converted, err := encoding.NewDecoder().Bytes(text)
	if err != nil {
		return nil, errors.New("not in the declared encoding")
	}
	return converted, nil
}
