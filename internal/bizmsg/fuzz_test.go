// SPDX-License-Identifier: Apache-2.0

package bizmsg_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
)

// What is accepted reads back the same when we write it, and an ordinary parser
// sees the same in it.
func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(`<?xml version="1.0"?><xml><AppId><![CDATA[wx134c8103faa5a59e]]></AppId><Encrypt><![CDATA[YWJj]]></Encrypt></xml>`))
	f.Add([]byte(`<xml><ToUserName>gh_1</ToUserName><Encrypt>a]]&gt;b</Encrypt><TimeStamp>&lt;</TimeStamp><Nonce>1</Nonce></xml>`))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY e "x">]><xml><Encrypt>&e;<!-- c --></Encrypt></xml>`))
	f.Add([]byte(`{"ToUserName":"gh_1","Encrypt":"YWJj","x":"y"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := bizmsg.ParseEnvelope(body)
		if err != nil {
			if e != (bizmsg.Envelope{}) {
				t.Errorf("%+v came with the error %v", e, err)
			}
			return
		}
		if bytes.TrimSpace(body)[0] == '{' {
			var other map[string]any
			if err := json.Unmarshal(body, &other); err != nil || fmt.Sprint(other["Encrypt"]) != e.Encrypt {
				t.Errorf("%+v, but encoding/json sees %v, %v", e, other, err)
			}
		} else {
			var other struct{ AppId, ToUserName, Encrypt string }
			err := xml.Unmarshal(body, &other)
			if err != nil || strings.TrimSpace(other.Encrypt) != e.Encrypt || strings.TrimSpace(other.AppId) != e.AppID || strings.TrimSpace(other.ToUserName) != e.ToUserName {
				t.Errorf("%+v, but encoding/xml sees %+v, %v", e, other, err)
			}
		}
		again, err := bizmsg.ParseEnvelope(e.XML())
		if err != nil || again != e {
			t.Errorf("%+v reads back as %+v, %v", e, again, err)
		}
	})
}

// Any ciphertext, rightly signed: an error brings no text; what opens, opens
// the same after sealing it again.
func FuzzOpen(f *testing.F) {
	c := newCodec(f, componentID, tokenText, keyText)
	for _, text := range []string{"", "a", "<xml></xml>"} {
		sealed, err := base64.StdEncoding.DecodeString(c.Seal([]byte(text), now, nonce).Encrypt)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sealed, false)
		f.Add(layout(uint32(len(text)), text, componentID), true)
	}
	f.Add(layout(1<<32-1, "a", componentID), true)
	f.Fuzz(func(t *testing.T, data []byte, plain bool) {
		encrypt := base64.StdEncoding.EncodeToString(data)
		if plain { // reach behind the cipher: data is the layout before padding
			encrypt = rawSeal(t, keyText, pad32(data))
		}
		m, err := open(c, encrypt)
		if err != nil {
			if m != nil {
				t.Errorf("a message came with the error %v", err)
			}
			return
		}
		e := m.Seal(m.Plain, now, nonce)
		again, err := c.Open(e.MsgSignature, e.TimeStamp, e.Nonce, e.Encrypt)
		if err != nil {
			t.Fatalf("%q does not open again: %v", m.Plain, err)
		}
		if !bytes.Equal(again.Plain, m.Plain) {
			t.Errorf("%q opens again as %q", m.Plain, again.Plain)
		}
	})
}

// No text makes ParseEvent panic, hang, or accept without an InfoType.
func FuzzEvent(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add([]byte(v.Plaintext))
	}
	f.Add([]byte(`<xml><AppId>wx1</AppId><CreateTime>1413192605</CreateTime><InfoType>authorized</InfoType><AuthorizerAppid>wx2</AuthorizerAppid><AuthorizationCode>c</AuthorizationCode></xml>`))
	f.Add([]byte(`<xml><InfoType>notify_third_fasteregister</InfoType><appid>wx2</appid><info><name>n</name></info></xml>`))
	f.Add([]byte(`{"InfoType":"authorized","CreateTime":1413192605,"info":{"a":[]}}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		event, err := bizmsg.ParseEvent(plain)
		if err != nil {
			if diff := cmp.Diff(bizmsg.Event{}, event, revealed); diff != "" {
				t.Errorf("came with the error %v:\n%s", err, diff)
			}
			return
		}
		if event.InfoType == "" {
			t.Error("accepted without an InfoType")
		}
		if !event.CreateTime.IsZero() {
			if _, err := event.CreateTime.MarshalJSON(); err != nil {
				t.Errorf("CreateTime: %v", err)
			}
		}
	})
}

// Where a message is well-formed, an ordinary parser sees the same in it.
func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(inText("a]]>b\x1d")))
	f.Add([]byte(begin + "<MsgType>event</MsgType><Event>CLICK</Event><a><b><![CDATA[c]]></b></a></xml>"))
	f.Add([]byte(`<?xml version="1.0" encoding="GBK"?>` + inText("\xc4\xe3")))
	f.Add([]byte(`{"ToUserName":"a","FromUserName":"b","MsgType":"event","Event":"c","MsgId":1}`))
	f.Add([]byte("<xml><!-- --><MsgType/><a b='c'>d</a ></xml >"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := bizmsg.ParseMessage(text)
		if err != nil || bytes.ContainsAny(text, "&:?") || bytes.Contains(text, []byte("<!--")) {
			return // what ParseMessage does not resolve, because no name has it
		}
		other := map[string]string{}
		if bytes.HasPrefix(text, []byte("{")) {
			var all map[string]any
			_ = json.Unmarshal(text, &all)
			for name, value := range all {
				other[name], _ = value.(string)
			}
		} else {
			var all struct{ ToUserName, FromUserName, MsgType string }
			if xml.Unmarshal(text, &all) != nil {
				return
			}
			other["ToUserName"], other["FromUserName"], other["MsgType"] = strings.TrimSpace(all.ToUserName), strings.TrimSpace(all.FromUserName), strings.TrimSpace(all.MsgType)
		}
		for name, value := range map[string]string{"ToUserName": got.ToUserName, "FromUserName": got.FromUserName, "MsgType": got.MsgType} {
			if bytes.Count(text, []byte(name)) == 1 && other[name] != "" && other[name] != value {
				t.Errorf("%s is %q, another parser sees %q", name, value, other[name])
			}
		}
	})
}
