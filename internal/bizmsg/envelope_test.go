// SPDX-License-Identifier: Apache-2.0

package bizmsg_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
)

func TestParseEnvelope(t *testing.T) {
	event := bizmsg.Envelope{AppID: componentID, Encrypt: "YWJj"}
	message := bizmsg.Envelope{ToUserName: "gh_97417a04a28d", Encrypt: "YWJj"}
	cases := map[string]struct {
		body string
		want bizmsg.Envelope
	}{
		"an event, in CDATA":         {"<xml><AppId><![CDATA[" + componentID + "]]></AppId><Encrypt><![CDATA[YWJj]]></Encrypt></xml>", event},
		"an event, as text":          {"<xml><AppId>" + componentID + "</AppId><Encrypt>YWJj</Encrypt></xml>", event},
		"a message":                  {"<xml><ToUserName><![CDATA[gh_97417a04a28d]]></ToUserName><Encrypt><![CDATA[YWJj]]></Encrypt></xml>", message},
		"other order":                {"<xml><Encrypt>YWJj</Encrypt><AppId>" + componentID + "</AppId></xml>", event},
		"indented":                   {"\n<xml>\n    <AppId> " + componentID + "\n</AppId>\n\t<Encrypt>\r\nYWJj </Encrypt>\n</xml>\r\n", event},
		"with an XML declaration":    {`<?xml version="1.0" encoding="UTF-8"?>` + "<xml><AppId>" + componentID + "</AppId><Encrypt>YWJj</Encrypt></xml>", event},
		"with an unknown element":    {"<xml><AgentID>1</AgentID><AppId>" + componentID + "</AppId><Encrypt>YWJj</Encrypt></xml>", event},
		"CDATA in two sections":      {"<xml><AppId>" + componentID + "</AppId><Encrypt><![CDATA[YW]]><![CDATA[Jj]]></Encrypt></xml>", event},
		"other case is another name": {"<xml><appid>wx</appid><AppId>" + componentID + "</AppId><encrypt>x</encrypt><Encrypt>YWJj</Encrypt></xml>", event},
		"an event, as JSON":          {`{"AppId":"` + componentID + `","Encrypt":"YWJj"}`, event},
		"a message, as JSON":         {` {"ToUserName":"gh_97417a04a28d","Encrypt":"YWJj","CreateTime":1}` + "\n", message},
		"JSON, other case":           {`{"appid":"wx","AppId":"` + componentID + `","encrypt":"x","Encrypt":"YWJj"}`, event},
		"an application's reply": {
			"<xml><Encrypt><![CDATA[YWJj]]></Encrypt><MsgSignature><![CDATA[ab12]]></MsgSignature><TimeStamp>1713424427</TimeStamp><Nonce><![CDATA[415670741]]></Nonce></xml>",
			bizmsg.Envelope{Encrypt: "YWJj", MsgSignature: "ab12", TimeStamp: "1713424427", Nonce: "415670741"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := bizmsg.ParseEnvelope([]byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEnvelopesThatAreRefused(t *testing.T) {
	const head, tail = "<xml><AppId>wx134c8103faa5a59e</AppId>", "<Encrypt>YWJj</Encrypt></xml>"
	if _, err := bizmsg.ParseEnvelope([]byte(head + tail)); err != nil {
		t.Fatalf("the model of the cases is refused: %v", err)
	}
	cases := map[string]string{
		"nothing":                                "",
		"white space":                            " \n",
		"plain text":                             "success",
		"no Encrypt":                             head + "</xml>",
		"an empty Encrypt":                       head + "<Encrypt/></xml>",
		"two Encrypts":                           head + "<Encrypt>eA==</Encrypt>" + tail,
		"two AppIds":                             head + "<AppId>wx134c8103faa5a59e</AppId>" + tail,
		"another root":                           "<html><Encrypt>YWJj</Encrypt></html>",
		"the documentation's missing slash":      head + "<Encrypt>YWJj</Encrypt><xml>",
		"cut short":                              head + "<Encrypt>YWJj",
		"end tag of another element":             head + "<Encrypt>YWJj</AppId></xml>",
		"two roots":                              head + tail + head + tail,
		"text after the end":                     head + tail + "x",
		"text before the root":                   "x" + head + tail,
		"text between elements":                  head + "x" + tail,
		"a byte order mark":                      "\uFEFF" + head + tail,
		"a DOCTYPE":                              "<!DOCTYPE xml>" + head + tail,
		"a DOCTYPE with an entity":               `<!DOCTYPE xml [<!ENTITY e SYSTEM "file:///etc/passwd">]>` + head + "<Encrypt>&e;</Encrypt></xml>",
		"an undeclared entity":                   head + "<Encrypt>&e;</Encrypt></xml>",
		"a comment":                              head + "<Encrypt>YW<!-- -->Jj</Encrypt></xml>",
		"a processing instruction":               "<?php x?>" + head + tail,
		"an XML declaration inside":              head + `<?xml version="1.0"?>` + tail,
		"a second XML declaration":               `<?xml version="1.0"?><?xml version="1.0"?>` + head + tail,
		"another encoding":                       `<?xml version="1.0" encoding="GBK"?>` + head + tail,
		"a nested Encrypt":                       "<xml><AppId><Encrypt>YWJj</Encrypt></AppId></xml>",
		"an Encrypt with a child":                head + "<Encrypt>YWJj<b/></Encrypt></xml>",
		"an unknown element with a child":        head + "<x><Encrypt>eA==</Encrypt></x>" + tail,
		"a namespace":                            `<xml xmlns="urn:x">` + head[len("<xml>"):] + tail,
		"a prefix":                               head + "<x:Encrypt>eA==</x:Encrypt>" + tail,
		"not UTF-8":                              head + "<x>\xff</x>" + tail,
		"a control character":                    head + "<x>\x01</x>" + tail,
		"an AppId with a line break":             "<xml><AppId>wx1\nerror: forged log line</AppId>" + tail,
		"an AppId that is not ASCII":             "<xml><AppId>wx\u202e1</AppId>" + tail,
		"deep nesting":                           head + strings.Repeat("<x>", 1000) + strings.Repeat("</x>", 1000) + tail,
		"JSON without Encrypt":                   `{"AppId":"wx134c8103faa5a59e"}`,
		"JSON with two Encrypts":                 `{"Encrypt":"YWJj","Encrypt":"YWJj"}`,
		"JSON, Encrypt a number":                 `{"Encrypt":{"a":"YWJj"}}`,
		"JSON, Encrypt null":                     `{"Encrypt":null}`,
		"JSON, nested unknown":                   `{"x":[1],"Encrypt":"YWJj"}`,
		"JSON, something behind":                 `{"Encrypt":"YWJj"}{}`,
		"JSON, trailing comma":                   `{"Encrypt":"YWJj",}`,
		"JSON, no comma":                         `{"Encrypt":"YWJj" "AppId":"wx"}`,
		"JSON, cut short":                        `{"Encrypt":"YWJj"`,
		"JSON, cut shorter":                      `{`,
		"JSON, key not a string":                 `{1:"YWJj"}`,
		"JSON, an array":                         `["Encrypt"]`,
		"JSON, not UTF-8":                        "{\"x\":\"\xff\",\"Encrypt\":\"YWJj\"}",
		"JSON, control character in the Encrypt": `{"Encrypt":"YW\u0000Jj"}`,
	}
	for name, body := range cases {
		t.Run(name, func(t *testing.T) {
			if got, err := bizmsg.ParseEnvelope([]byte(body)); err == nil {
				t.Errorf("accepted as %+v", got)
			} else if got != (bizmsg.Envelope{}) {
				t.Errorf("%+v came with the error", got)
			}
		})
	}
}

func TestEnvelopeXML(t *testing.T) {
	cases := map[string]struct {
		envelope bizmsg.Envelope
		want     string
	}{
		"a passive reply, as message_push.html prints it": {
			bizmsg.Envelope{Encrypt: "YWJj", MsgSignature: "ab12", TimeStamp: "1713424427", Nonce: "415670741"},
			"<xml><Encrypt><![CDATA[YWJj]]></Encrypt><MsgSignature><![CDATA[ab12]]></MsgSignature><TimeStamp>1713424427</TimeStamp><Nonce><![CDATA[415670741]]></Nonce></xml>",
		},
		"a push": {
			bizmsg.Envelope{ToUserName: "gh_97417a04a28d", Encrypt: "YWJj"},
			"<xml><ToUserName><![CDATA[gh_97417a04a28d]]></ToUserName><Encrypt><![CDATA[YWJj]]></Encrypt></xml>",
		},
		"a nonce that would break out of its section": {
			bizmsg.Envelope{Encrypt: "YWJj", Nonce: "1]]></Nonce>"},
			"<xml><Encrypt><![CDATA[YWJj]]></Encrypt><Nonce><![CDATA[1]]]]><![CDATA[></Nonce>]]></Nonce></xml>",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, string(tc.envelope.XML())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			back, err := bizmsg.ParseEnvelope(tc.envelope.XML())
			if err != nil || back != tc.envelope {
				t.Errorf("reads back as %+v, %v", back, err)
			}
		})
	}
}
