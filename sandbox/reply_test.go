// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

func TestWhatTheFollowerSees(t *testing.T) {
	good := textReply("o1", "hi")
	without := func(part string) string { return sealedReply(strings.Replace(good, part, "", 1)) }
	for name, row := range map[string]struct{ answer, shown string }{
		"success":                    {"success", sandbox.ShownSilence},
		"SUCCESS":                    {"SUCCESS", sandbox.ShownSilence},
		"nothing":                    {"", sandbox.ShownSilence},
		"a reply":                    {sealedReply(good), sandbox.ShownReply},
		"a reply with declaration":   {sealedReply(`<?xml version="1.0" encoding="utf-8"?>` + "\n" + good), sandbox.ShownReply},
		"a control character":        {sealedReply(textReply("o1", "a\u001db")), sandbox.ShownReply},
		"]]> quoted":                 {sealedReply(textReply("o1", "a]]>b")), sandbox.ShownReply},
		"a transfer to the staff":    {sealedReply(strings.Replace(good, "[text]", "[transfer_customer_service]", 1)), sandbox.ShownReply},
		"Success":                    {"Success", sandbox.ShownUnavailable},
		"success and a line feed":    {"success\n", sandbox.ShownUnavailable},
		"HTML":                       {"<html><body>OK</body></html>", sandbox.ShownUnavailable},
		"JSON":                       {`{"errcode":0}`, sandbox.ShownUnavailable},
		"a reply in clear":           {good, sandbox.ShownUnavailable},
		"another signature":          {strings.Replace(sealedReply(good), "<Nonce><![CDATA[", "<Nonce><![CDATA[9", 1), sandbox.ShownUnavailable},
		"an empty text sealed":       {sealedReply(""), sandbox.ShownUnavailable},
		"success sealed":             {sealedReply("success"), sandbox.ShownUnavailable},
		"a reply without Content":    {sealedReply(textReply("o1", "")), sandbox.ShownUnavailable},
		"a reply without a root":     {without("<xml>"), sandbox.ShownUnavailable},
		"a reply to nobody":          {without("<ToUserName><![CDATA[o1]]></ToUserName>"), sandbox.ShownUnavailable},
		"a reply from nobody":        {without("<FromUserName><![CDATA[gh_1]]></FromUserName>"), sandbox.ShownUnavailable},
		"a reply without MsgType":    {without("<MsgType><![CDATA[text]]></MsgType>"), sandbox.ShownUnavailable},
		"a reply of unknown MsgType": {sealedReply(strings.Replace(good, "[text]", "[poem]", 1)), sandbox.ShownUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sandbox.Config{})
			w.receiver.answer = row.answer
			answer, err := w.Push(t.Context(), w.Text(official, "o1", "hi"))
			if answer.Shown != row.shown || (err != nil) != (row.shown == sandbox.ShownUnavailable) {
				t.Errorf("the follower sees %q, %v", answer.Shown, err)
			}
			if answer.Attempts != 1 {
				t.Errorf("an answer was not enough: %d attempts", answer.Attempts)
			}
			if row.shown == sandbox.ShownReply && answer.Reply == "" || row.shown == sandbox.ShownSilence && answer.Reply != "" {
				t.Errorf("reply %q", answer.Reply)
			}
			answer, _ = w.Push(t.Context(), w.Text(mini, "o1", "hi"))
			if answer.Shown != sandbox.ShownSilence {
				t.Errorf("the user of a mini program sees %q", answer.Shown)
			}
		})
	}
	w := newWorld(t, sandbox.Config{})
	if answer, err := w.Push(t.Context(), sandbox.Push{Plain: "<xml/>"}); err != nil || answer.Shown != "" {
		t.Errorf("a follower sees %q of an authorisation event, %v", answer.Shown, err)
	}
}

func TestAnOfficialSealedSampleOpens(t *testing.T) {
	w, sample := newWorld(t, sandbox.Config{}), readSample(t)
	w.must(w.RotatePushKeys(sample.Token, sample.Key))
	w.receiver.answer = sealedSample(t)
	answer, _ := w.Push(t.Context(), w.Text(official, "o1", "hi"))
	if answer.Reply != "<xml><demo_resp>[CDATA[good luck]]</demo_resp></xml>" || answer.Tries[0].Reply != answer.Reply {
		t.Errorf("opened to %q", answer.Reply)
	}
}

func TestReplyNamesAreComparedIfSwitched(t *testing.T) {
	for _, strict := range []bool{false, true} {
		w := newWorld(t, sandbox.Config{Switches: sandbox.Switches{StrictReplyNames: strict}})
		account := w.Accounts()[0].UserName
		right := strings.Replace(textReply("o1", "hi"), "gh_1", account, 1)
		for reply, want := range map[string]string{
			right:                                 sandbox.ShownReply,
			textReply("o1", "hi"):                 map[bool]string{false: sandbox.ShownReply, true: sandbox.ShownUnavailable}[strict],
			strings.Replace(right, "o1", "o2", 1): map[bool]string{false: sandbox.ShownReply, true: sandbox.ShownUnavailable}[strict],
		} {
			w.receiver.answer = sealedReply(reply)
			if answer, _ := w.Push(t.Context(), w.Text(official, "o1", "hi")); answer.Shown != want {
				t.Errorf("strict %v, %s: %q", strict, reply, answer.Shown)
			}
		}
	}
}

func TestTheLeverMessageTellsWhatIsShown(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	w.receiver.answer = sealedReply(textReply("o1", "hi"))
	got := w.lever("message", `{"appid":"`+official+`","openid":"o1","kind":"text","content":"hello"}`)
	if got.text("shown") != "reply" || got.text("reply") != textReply("o1", "hi") || got.in("answer")["attempts"] != 1.0 {
		t.Errorf("%v", got)
	}
	w.receiver.answer = "<html>"
	response, body := w.do("POST", "/_sandbox/message", `{"appid":"`+official+`","openid":"o1","inner":"<MsgType>text</MsgType>"}`)
	if response.StatusCode != 409 || !strings.Contains(body, `"shown":"unavailable"`) || !strings.Contains(body, `"error"`) {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}
