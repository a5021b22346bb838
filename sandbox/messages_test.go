// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"encoding/xml"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

func TestMessagesOfEveryKind(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	var seen []string
	for _, kind := range sandbox.MessageKinds() {
		message, err := w.Message(official, "o1", kind, "")
		w.must(err)
		_, err = w.Push(t.Context(), message)
		w.must(err)
		p := w.receiver.last()
		if err := xml.Unmarshal([]byte(p.plain), new(struct{})); err != nil {
			t.Errorf("%s: %v in %s", kind, err, p.plain)
		}
		name := p.field("MsgType")
		if name == "event" {
			name = p.field("Event")
		}
		if name != kind || p.field("FromUserName") != "o1" || p.field("ToUserName") != w.Accounts()[0].UserName || p.query.Get("openid") != "o1" {
			t.Errorf("%s: %s", kind, p.plain)
		}
		if seconds, _ := strconv.ParseInt(p.field("CreateTime"), 10, 64); time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
			t.Errorf("%s: CreateTime %d", kind, seconds)
		}
		if (p.field("MsgId") == "") != (p.field("MsgType") == "event") {
			t.Errorf("%s: MsgId %q", kind, p.field("MsgId"))
		}
		if strings.Contains(p.plain, "$") {
			t.Errorf("%s: a placeholder is left in %s", kind, p.plain)
		}
		seen = append(seen, kind)
	}
	for _, kind := range []string{"text", "image", "voice", "location", "link", "subscribe", "CLICK", "VIEW", "LOCATION", "SCAN",
		"TEMPLATESENDJOBFINISH", "wxa_media_check", "weapp_audit_success", "miniprogrampage", "user_enter_tempsession"} {
		if !slices.Contains(seen, kind) {
			t.Errorf("%s is missing", kind)
		}
	}
	if _, err := w.Message(official, "o1", "poem", ""); err == nil {
		t.Error("a kind that is unknown is made")
	}
}

func TestFieldsOfMessages(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	for _, row := range []struct{ kind, content, field, want string }{
		{"text", "你好 😀👨‍👩‍👧", "Content", "你好 😀👨‍👩‍👧"},
		{"text", "$MSGID$", "Content", "$MSGID$"},
		{"image", "m1", "MediaId", "m1"},
		{"location", "here", "Label", "here"},
		{"CLICK", "KEY", "EventKey", "KEY"},
		{"VIEW", "", "EventKey", "https://shop.example.com/?a=1&b=2"},
		{"subscribe", "qrscene_1", "EventKey", "qrscene_1"},
		{"subscribe", "", "EventKey", ""},
		{"TEMPLATESENDJOBFINISH", "", "Status", "success"},
		{"wxa_media_check", "t1", "trace_id", "t1"},
		{"miniprogrampage", "", "AppId", mini},
	} {
		message, err := w.Message(mini, "o1", row.kind, row.content)
		w.must(err)
		if got := elements(message.Plain)[row.field]; got != row.want {
			t.Errorf("%s: %s is %q", row.kind, row.field, got)
		}
	}
	for _, kind := range []string{"TEMPLATESENDJOBFINISH", "wxa_media_check", "weapp_audit_success"} {
		message, _ := w.Message(official, "o1", kind, "")
		if strings.Contains(message.Plain, "EventKey") {
			t.Errorf("%s has an EventKey", kind)
		}
	}
}

// What a follower types arrives as it is, and then the text is no XML any more.
func TestNothingThatAFollowerTypesIsEscaped(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	for _, content := range []string{"a\u001db", "a]]>b", "\u0000", "<b>&amp;"} {
		_, err := w.Push(t.Context(), w.Text(official, "o1", content))
		w.must(err)
		if p := w.receiver.last(); !p.signed || !strings.Contains(p.plain, "<Content><![CDATA["+content+"]]></Content>") {
			t.Errorf("%q: %q", content, p.plain)
		}
	}
	w.lever("message", `{"appid":"`+official+`","openid":"o1","content":"a\u001db"}`)
	plain := w.receiver.last().plain
	if !strings.Contains(plain, "[a\u001db]") {
		t.Errorf("the lever pushes %q", plain)
	}
	if xml.Unmarshal([]byte(plain), new(struct{})) == nil {
		t.Error("U+001D is well-formed all of a sudden")
	}
}

func TestMsgIDsAreUniqueForAFollowerOnly(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	id := func(openid string) string { return elements(w.Text(official, openid, "hi").Plain)["MsgId"] }
	alice, bob := []string{id("alice"), id("alice"), id("alice")}, []string{id("bob"), id("bob")}
	if alice[0] == alice[1] || alice[1] == alice[2] || alice[0] != bob[0] || alice[1] != bob[1] {
		t.Errorf("alice %v, bob %v", alice, bob)
	}
	if number, err := strconv.ParseUint(alice[0], 10, 64); err != nil || uint64(float64(number+1)) == number+1 && uint64(float64(number)) == number {
		t.Errorf("MsgId %s fits a JavaScript number", alice[0])
	}
}

func TestMsgIDsOfManyFollowersAreForgottenAndNotUsedAgain(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	id := func(openid string) uint64 {
		number, _ := strconv.ParseUint(elements(w.Text(official, openid, "hi").Plain)["MsgId"], 10, 64)
		return number
	}
	id("alice")
	newest := id("alice")
	for i := range 100_000 {
		w.Text(official, strconv.Itoa(i), "hi")
	}
	if again := id("alice"); again <= newest {
		t.Errorf("MsgId %d after %d", again, newest)
	}
}

func TestTheLeverMessageRefusesWhatItCannotMake(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	for _, body := range []string{
		`{"appid":"` + official + `","openid":"o1","kind":"poem"}`,
		`{"appid":"` + official + `","openid":"o1","kind":"text","inner":"<MsgType>text</MsgType>"}`,
	} {
		if response, answer := w.do("POST", "/_sandbox/message", body); response.StatusCode != 409 || !strings.Contains(answer, "making a message") {
			t.Errorf("%s: %d %s", body, response.StatusCode, answer)
		}
	}
	if n := len(w.receiver.all()); n != 0 {
		t.Errorf("%d pushes", n)
	}
}
