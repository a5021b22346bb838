// SPDX-License-Identifier: Apache-2.0

package bizmsg_test

import (
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
)

// event500 is the text of a ticket push, 500 bytes long.
func event500() []byte {
	head := "<xml><AppId><![CDATA[" + componentID + "]]></AppId>\n<CreateTime>1413192605</CreateTime>\n<InfoType><![CDATA[component_verify_ticket]]></InfoType>\n<ComponentVerifyTicket><![CDATA[ticket@@@"
	tail := "]]></ComponentVerifyTicket>\n</xml>"
	return []byte(head + strings.Repeat("x", 500-len(head)-len(tail)) + tail)
}

// The promise is 20 µs at most.
func BenchmarkOpen(b *testing.B) {
	c := newCodec(b, componentID, tokenText, keyText)
	e := c.Seal(event500(), now, nonce)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Open(e.MsgSignature, e.TimeStamp, e.Nonce, e.Encrypt); err != nil {
			b.Fatal(err)
		}
	}
}

// A whole push: envelope, message, event.
func BenchmarkPush(b *testing.B) {
	c := newCodec(b, componentID, tokenText, keyText)
	e := c.Seal(event500(), now, nonce)
	body := bizmsg.Envelope{AppID: componentID, Encrypt: e.Encrypt}.XML()
	b.ReportAllocs()
	for b.Loop() {
		envelope, err := bizmsg.ParseEnvelope(body)
		if err != nil {
			b.Fatal(err)
		}
		m, err := c.Open(e.MsgSignature, e.TimeStamp, e.Nonce, envelope.Encrypt)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := bizmsg.ParseEvent(m.Plain); err != nil {
			b.Fatal(err)
		}
	}
}
