// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
)

// replyTypes are the values of MsgType that WeChat knows in a passive reply:
// developers.weixin.qq.com/doc/service/guide/product/message/Passive_user_reply_message.html,
// the hand-over to customer service or to WeChat's own AI, and devices
// (iot.weixin.qq.com).
var replyTypes = []string{
	"text", "image", "voice", "video", "music", "news", "transfer_customer_service", "transfer_biz_ai_ivr",
	"device_text", "device_event", "device_status", "hardware",
}

// hintAs is the remedy where an SDK may have refused the receive id, or encrypts for
// another one: it does not say so in a form that can be told from other failures.
const hintAs = "if the SDK of the application says that the appid is wrong, compare as of deliver: platform for a platform SDK with the component's appid, account for any other with the account's"

// Why an answer is no reply. None quotes the answer.
var (
	errNoReply = errors.New("reading the answer: neither success, nor empty, nor a passive reply in XML")
	errInClear = errors.New("reading the answer: not encrypted, as a reply must be where there is an encoding_aes_key; somebody on the way could have made it")
	errNotSafe = errors.New("reading the answer: neither success, nor empty, nor an encrypted passive reply; " + hintAs)
	errSealed  = errors.New("reading the answer: encrypted, but deliver has no encoding_aes_key to open it")
)

// reply returns the passive reply in an answer, in clear text and as the
// application has written it; nil if the application does not reply. An answer that
// is neither is an error: if WeChat got it, it would tell the follower that the
// service is unavailable (message_push.html), and an error page of the application
// is such an answer.
func (t *Target) reply(item Item, answer []byte, contentType string) ([]byte, error) {
	if silent(answer) {
		return nil, nil
	}
	if t.safe() {
		opened, err := t.openReply(item, answer)
		if _, inClear, _ := passive(answer, contentType); inClear {
			err = errInClear
		}
		if err != nil || silent(opened) {
			return nil, err
		}
		answer, contentType = opened, "" // it was that of the envelope
	}
	text, ok, empty := passive(answer, contentType)
	switch {
	case empty: // WeChat would take it for a fault
		return nil, nil
	case ok:
		return text, nil
	case !t.safe() && isEnvelope(answer):
		return nil, errSealed
	}
	return nil, errNoReply
}

// passive returns a passive reply in UTF-8, with nothing around it. ok is false for a text
// that is none. empty is true for a reply of type text without a text, by which some
// applications say that they do not reply.
func passive(text []byte, contentType string) (reply []byte, ok, empty bool) {
	_, parameters, _ := mime.ParseMediaType(contentType)
	text, err := bizmsg.DecodeText(text, parameters["charset"])
	if err != nil || bytes.HasPrefix(text, []byte("{")) {
		return nil, false, false
	}
	fields, err := bizmsg.ParseMessage(text)
	ok = err == nil && fields.ToUserName != "" && fields.FromUserName != "" &&
		slices.Contains(replyTypes, strings.ToLower(fields.MsgType)) && isXML(text)
	return text, ok, ok && bizmsg.IsEmptyText(text)
}

// silent reports whether an answer says that there is no reply: success, or nothing
// (message_push.html).
func silent(answer []byte) bool {
	answer = bytes.TrimSpace(bytes.TrimPrefix(answer, []byte("\ufeff")))
	return len(answer) == 0 || strings.EqualFold(string(answer), "success")
}

// isEnvelope reports whether an answer is encrypted.
func isEnvelope(answer []byte) bool {
	_, err := bizmsg.ParseEnvelope(bytes.TrimPrefix(answer, []byte("\ufeff")))
	return err == nil
}

// openReply verifies and decrypts the reply of a client in safe mode, which may
// still have the previous token or key.
func (t *Target) openReply(item Item, answer []byte) ([]byte, error) {
	e, err := bizmsg.ParseEnvelope(bytes.TrimPrefix(answer, []byte("\ufeff")))
	if err != nil {
		return nil, errNotSafe
	}
	for _, receiveID := range t.receiveIDs(item) {
		var message *bizmsg.Message
		if message, err = t.codec(receiveID).Open(e.MsgSignature, e.TimeStamp, e.Nonce, e.Encrypt); err == nil {
			return message.Plain, nil
		}
	}
	if errors.Is(err, bizmsg.ErrReceiveID) {
		return nil, fmt.Errorf("reading the reply: %w; %s", err, hintAs)
	}
	return nil, fmt.Errorf("reading the reply: %w", err)
}

// isXML reports whether a text is one well-formed element and nothing else, so that
// WeChat can read it. Control characters do not count: WeChat writes them itself,
// where XML forbids them.
func isXML(text []byte) bool {
	d := xml.NewDecoder(bytes.NewReader(bizmsg.WithoutControls(text)))
	d.CharsetReader = func(_ string, text io.Reader) (io.Reader, error) { return text, nil } // it is in UTF-8, by whatever name
	roots, depth := 0, 0
	for {
		token, err := d.Token()
		if err != nil {
			return errors.Is(err, io.EOF) && roots == 1
		}
		switch t := token.(type) {
		case xml.StartElement:
			if depth == 0 {
				roots++
			}
			depth++
		case xml.EndElement:
			depth--
		case xml.CharData:
			if depth == 0 && len(bytes.TrimSpace(t)) > 0 {
				return false
			}
		case xml.Directive: // a DOCTYPE can declare entities
			return false
		}
	}
}
