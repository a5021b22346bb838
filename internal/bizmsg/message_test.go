// SPDX-License-Identifier: Apache-2.0

package bizmsg_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
)

// begin is how WeChat begins each message.
const begin = "<xml><ToUserName><![CDATA[gh_0123456789ab]]></ToUserName>\n<FromUserName><![CDATA[oFollower]]></FromUserName>\n<CreateTime>1700000000</CreateTime>\n"

// inText is a text message of a follower, as WeChat writes it.
func inText(content string) string {
	return begin + "<MsgType><![CDATA[text]]></MsgType>\n<Content><![CDATA[" + content + "]]></Content>\n<MsgId>24870012345678901</MsgId>\n</xml>"
}

func gbk(t testing.TB, text string) string {
	t.Helper()
	encoded, err := simplifiedchinese.GBK.NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestMessagesAreReadAsWeChatWritesThem(t *testing.T) {
	text := bizmsg.MessageFields{
		ToUserName: "gh_0123456789ab", FromUserName: "oFollower", CreateTime: time.Unix(1700000000, 0), MsgType: "text", MsgID: "24870012345678901",
	}
	event := text
	event.MsgType, event.Event, event.MsgID = "event", "LOCATION", ""
	for name, row := range map[string]struct {
		text string
		want bizmsg.MessageFields
	}{
		"a text":                                 {inText("你好 🎉"), text},
		"no text":                                {inText(""), text},
		"control characters":                     {inText("a\x1d\x00\x08\x1f\x7fb\ufffe"), text},
		"tags behind a ]]> that is not escaped":  {inText("a]]> <b></c> & < ]]></Contents>"), text},
		"a ]]> that is not escaped":              {inText("a]]>b]]>"), text},
		"a ]]> that is":                          {inText("a]]]]><![CDATA[>b"), text},
		"tags in a text":                         {inText("<MsgType>event</MsgType> </Content> <![CDATA["), text},
		"half a comment in a text":               {inText("<!-- "), text},
		"a byte order mark and white space":      {"\ufeff\r\n " + inText("a") + "\r\n", text},
		"a declaration":                          {`<?xml version="1.0" encoding="UTF-8"?>` + inText("a"), text},
		"a declaration in small letters":         {`<?xml version='1.0' encoding='utf8' ?>` + inText("a"), text},
		"GBK":                                    {`<?xml version="1.0" encoding="GBK"?>` + gbk(t, inText("联通一")), text},
		"gb2312 between other quotes":            {`<?xml version='1.0' encoding = 'gb2312' standalone='yes'?>` + "\n" + gbk(t, inText("你好")), text},
		"comments":                               {"<!-- a --><xml><!-- <MsgType>b</MsgType> -->" + strings.TrimPrefix(inText("a"), "<xml>"), text},
		"attributes":                             {`<xml xmlns="urn:a">` + strings.TrimPrefix(inText("a"), "<xml>"), text},
		"without CDATA, with blanks":             {"<xml><ToUserName> gh_0123456789ab </ToUserName><FromUserName>oFollower</FromUserName><CreateTime> 1700000000\n</CreateTime><MsgType>text</MsgType><MsgID>24870012345678901</MsgID></xml>", text},
		"nothing between the tags of an element": {begin + "<MsgType>text</MsgType><Content/><a></a><MsgId>24870012345678901</MsgId></xml >", text},
		"JSON":                                   {`{"ToUserName":"gh_0123456789ab","FromUserName":"oFollower","CreateTime":1700000000,"MsgType":"text","Content":"a` + "\x1d" + `]]>","MsgId":24870012345678901}`, text},
		"an event with nested elements": {begin + "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[LOCATION]]></Event>" +
			"<SendLocationInfo><Label><![CDATA[a]]>b]]></Label><MsgType>text</MsgType><MsgId>1</MsgId></SendLocationInfo></xml>", event},
		"an event in JSON": {`{"ToUserName":"gh_0123456789ab","FromUserName":"oFollower","CreateTime":"1700000000","MsgType":"event","Event":"LOCATION","List":[{"MsgId":1}]}`, event},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := bizmsg.ParseMessage([]byte(row.text))
			if diff := cmp.Diff(row.want, got); diff != "" || err != nil {
				t.Error(err, diff)
			}
		})
	}
}

// A follower who writes "]]>" can end the element of his text and begin others. He
// must not become somebody else, nor his message something else.
func TestAFollowersTextOverridesNothing(t *testing.T) {
	want, err := bizmsg.ParseMessage([]byte(inText("a")))
	if err != nil {
		t.Fatal(err)
	}
	const forged = "<ToUserName>gh_other</ToUserName><FromUserName>oOther</FromUserName><CreateTime>1</CreateTime><MsgType>event</MsgType><Event>unsubscribe</Event><MsgId>1</MsgId>"
	for _, content := range []string{
		"a]]></Content>" + forged + "<Content><![CDATA[b",
		"a]]></Content></xml>",
		"a]]></Content></xml><xml>" + forged + "</xml>",
		"a]]></Content><ToUserName>",
		"a]]></Content><!-- ",
		"a]]></Content>" + forged + "</xml><!-- ",
	} {
		got, err := bizmsg.ParseMessage([]byte(inText(content)))
		if err != nil { // then the id may be missing, but nothing is another
			want.MsgID, got.MsgID = "", ""
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", content, diff)
		}
		want.MsgID = "24870012345678901"
	}
}

func TestWhatIsNoMessage(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                   "",
		"a word":                    "success",
		"HTML":                      "<html><body><p>Bad gateway</p></body></html>",
		"half a document":           begin,
		"half a tag":                begin + "<MsgType",
		"CDATA that does not end":   begin + "<MsgType><![CDATA[text</MsgType></xml>",
		"another end tag":           begin + "<MsgType>text</Type></xml>",
		"two documents":             inText("a") + inText("b"),
		"text behind the document":  inText("a") + "success",
		"text between the elements": begin + "SECRET</xml>",
		"a DOCTYPE":                 "<!DOCTYPE xml>" + inText("a"),
		"not UTF-8":                 gbk(t, inText("你好")),
		"an encoding nobody knows":  `<?xml version="1.0" encoding="SECRET"?>` + inText("a"),
		"a declaration alone":       `<?xml version="1.0"`,
		"only a root":               "<xml/>",
		"very deep":                 "<xml>" + strings.Repeat("<a>", 10_000) + strings.Repeat("</a>", 10_000) + "</xml>",
		"a long tag":                "<xml><a" + strings.Repeat("a", 1000) + "></xml>",
		"half a JSON object":        `{"MsgType":"SECRET`,
		"two JSON objects":          `{}{}`,
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := bizmsg.ParseMessage([]byte(text)); err == nil || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestTextsAreDecoded(t *testing.T) {
	for name, row := range map[string]struct{ text, charset, want string }{
		"UTF-8":                                 {"你好", "", "你好"},
		"a byte order mark":                     {"\ufeff 你好\n", "", "你好"},
		"the charset of a Content-Type":         {gbk(t, "你好"), "gbk", "你好"},
		"a charset that is not the text's":      {"你好", "iso-8859-1", "你好"},
		"a declaration wins over the charset":   {`<?xml version="1.0" encoding="gb18030"?> ` + gbk(t, "<a>你好</a>"), "utf-8", "<a>你好</a>"},
		"UTF-8 is declared":                     {`<?xml version="1.0" encoding="utf-8"?><a>你好</a>`, "gbk", `<?xml version="1.0" encoding="utf-8"?><a>你好</a>`},
		"UTF-8 is declared, but not written":    {`<?xml version="1.0" encoding="utf-8"?><a>` + gbk(t, "你好"), "gbk", ""},
		"not UTF-8":                             {gbk(t, "你好"), "", ""},
		"not UTF-8, whatever Content-Type says": {gbk(t, "你好"), "utf-8", ""},
		"a charset nobody knows":                {gbk(t, "你好"), "klingon", ""},
	} {
		got, err := bizmsg.DecodeText([]byte(row.text), row.charset)
		if string(got) != row.want || (err != nil) != (row.want == "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestControlCharactersBecomeSpaces(t *testing.T) {
	if got := string(bizmsg.WithoutControls([]byte("a\x00\x1d\t\n\r\x7f你\uffff"))); got != "a  \t\n\r\x7f你 " {
		t.Errorf("%q", got)
	}
}

func TestAnEnvelopeInJSON(t *testing.T) {
	for want, envelope := range map[string]bizmsg.Envelope{
		`{"AppId":"wx0123456789abcdef","Encrypt":"a+/="}`: {AppID: "wx0123456789abcdef", Encrypt: "a+/="},
		`{"ToUserName":"gh_1","Encrypt":"a"}`:             {ToUserName: "gh_1", Encrypt: "a"},
	} {
		if got := string(envelope.JSON()); got != want {
			t.Errorf("%s", got)
		}
		if back, err := bizmsg.ParseEnvelope(envelope.JSON()); back != envelope || err != nil {
			t.Errorf("%+v, %v", back, err)
		}
	}
}

// What a follower writes is the text, whatever is in it; other messages have none.
func TestTextOfAMessage(t *testing.T) {
	for name, row := range map[string]struct{ text, want string }{
		"a text":                       {inText("QUERY_AUTH_CODE:queryauthcode@@@a-b_c"), "QUERY_AUTH_CODE:queryauthcode@@@a-b_c"},
		"no text":                      {inText(""), ""},
		"another Content in the text":  {inText("a]]></Content><Content><![CDATA[b"), "a"},
		"a text that does not end":     {strings.TrimSuffix(inText("a"), "</xml>"), ""},
		"an event with a Content":      {begin + "<MsgType>event</MsgType><Event>LOCATION</Event><Content>a</Content></xml>", ""},
		"JSON":                         {`{"MsgType":"text","Content":"a"}`, "a"},
		"what is neither XML nor JSON": {"text", ""},
	} {
		if got := bizmsg.TextOf([]byte(row.text)); got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}
