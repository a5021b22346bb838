// SPDX-License-Identifier: Apache-2.0

package publishtest_test

import (
	"encoding/xml"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/publishtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// replyWith pushes a message and returns the text of the reply.
func (w *world) replyWith(p sandbox.Push) string {
	w.Helper()
	answer, err := w.weixin.Push(w.Context(), p)
	if err != nil || answer.Attempts != 1 {
		w.Fatalf("%v after %d attempts: %+v", err, answer.Attempts, answer)
	}
	_, content, _ := strings.Cut(answer.Reply, "<Content><![CDATA[")
	content, _, ok := strings.Cut(content, "]]></Content>")
	if ok && !strings.Contains(answer.Reply, "<MsgType><![CDATA[text]]></MsgType>") {
		w.Errorf("%s is no text", answer.Reply)
	}
	return content
}

// All ten accounts pass all steps, and no application is asked.
func TestEveryAccountPasses(t *testing.T) {
	play(t, func(w *world) {
		for _, account := range testAccounts {
			code := w.authorize(account.AppID)
			if got := w.replyWith(w.weixin.Text(account.AppID, tester, "TESTCOMPONENT_MSG_TYPE_TEXT")); got != "TESTCOMPONENT_MSG_TYPE_TEXT_callback" {
				t.Errorf("%s replies %q to the text", account.AppID, got)
			}
			w.wantEmpty(w.asks(account.AppID, code))
			synctest.Wait()
			w.wantSent(account.AppID, code, 1)
			for _, event := range []string{"LOCATION", "subscribe", "CLICK", "SCAN"} {
				p, err := w.weixin.Message(account.AppID, tester, event, "")
				w.must(err)
				want := event + "from_callback"
				if account.MiniProgram {
					want = "" // WeChat takes no replies in the name of mini programs
				}
				if got := w.replyWith(p); got != want {
					t.Errorf("%s replies %q to %s, want %q", account.AppID, got, event, want)
				}
			}
		}
		if got, events := w.nodes[0].got.Load(), int32(4*len(testAccounts)/2); got != events {
			t.Errorf("the application has got %d messages, want %d: the events of mini programs", got, events)
		}
		w.wantNothingLeft()
	})
}

// What is not part of the test goes to the applications, and sets nothing off.
func TestOtherMessagesAreNotAnswered(t *testing.T) {
	play(t, func(w *world) {
		const ordinary = "wxaaaaaaaaaaaaaaaa"
		w.must(w.weixin.AddAccount(sandbox.Account{AppID: ordinary}))
		code := w.authorize(official)
		other := w.authorize(ordinary)
		w.weixin.ResetCounts()
		event := func(appid, kind string) sandbox.Push {
			p, err := w.weixin.Message(appid, tester, kind, "QUERY_AUTH_CODE:"+code)
			w.must(err)
			return p
		}
		moved := func(p sandbox.Push, appid string) sandbox.Push {
			p.AppID = appid
			return p
		}
		renamed := func(p sandbox.Push, was, is string) sandbox.Push {
			p.Plain = strings.ReplaceAll(p.Plain, was, is)
			return p
		}
		question := w.weixin.Text(official, tester, "TESTCOMPONENT_MSG_TYPE_TEXT")
		for name, p := range map[string]sandbox.Push{
			"the text to an ordinary account":             w.weixin.Text(ordinary, tester, "TESTCOMPONENT_MSG_TYPE_TEXT"),
			"a code to an ordinary account":               w.asks(ordinary, other),
			"an event of an ordinary account":             event(ordinary, "LOCATION"),
			"an ordinary account's text on the path":      moved(w.weixin.Text(ordinary, tester, "TESTCOMPONENT_MSG_TYPE_TEXT"), official),
			"an ordinary account's code on the path":      moved(w.asks(ordinary, code), official),
			"a test account's text on an ordinary path":   moved(w.weixin.Text(official, tester, "TESTCOMPONENT_MSG_TYPE_TEXT"), ordinary),
			"a test account's code on another one's path": moved(w.asks(official, code), mini),
			"the name in other letters":                   renamed(question, "gh_3c884a361561", "GH_3C884A361561"),
			"no name, which the envelope has":             renamed(question, "gh_3c884a361561", ""),
			"no sender":                                   renamed(question, tester, ""),
			"another text":                                w.weixin.Text(official, tester, "hello"),
			"the text and more":                           w.weixin.Text(official, tester, "TESTCOMPONENT_MSG_TYPE_TEXT_callback"),
			"the text in small letters":                   w.weixin.Text(official, tester, "testcomponent_msg_type_text"),
			"no code":                                     w.asks(official, ""),
			"a code behind other words":                   w.weixin.Text(official, tester, "my QUERY_AUTH_CODE:"+code),
			"a code in small letters":                     w.weixin.Text(official, tester, "query_auth_code:"+code),
			"a code in an image":                          event(official, "image"),
			"a code in the event of a mini program":       event(mini, "user_enter_tempsession"),
			"an event that names none":                    renamed(event(official, "CLICK"), "<Event><![CDATA[CLICK]]></Event>", ""),
			"a text that breaks off":                      renamed(question, "</xml>", ""),
		} {
			before := w.nodes[0].got.Load()
			answer, err := w.weixin.Push(w.Context(), p)
			if err != nil || answer.Body != "success" || w.nodes[0].got.Load() != before+1 {
				t.Errorf("%s: answered %q, %v; the application has got %d messages", name, answer.Body, err, w.nodes[0].got.Load()-before)
			}
		}
		time.Sleep(time.Hour)
		if sent, asked := w.weixin.Count(customer), w.weixin.Count(queryAuth); sent+asked > 0 {
			t.Errorf("%d messages sent, %d codes exchanged, want none", sent, asked)
		}
		if strings.Contains(w.logged(), "publish test") {
			t.Error(w.logged())
		}
	})
}

// What WeChat writes into a message comes back as it is, and nothing of it becomes XML.
func TestReplyRepeatsNothingAsMarkup(t *testing.T) {
	play(t, func(w *world) {
		for _, text := range []string{"a]]><b>&amp;", "<c/>", "]]]]>>"} {
			plain := fmt.Sprintf("<xml><ToUserName>gh_3c884a361561</ToUserName><FromUserName>%s</FromUserName><MsgType>event</MsgType><Event><![CDATA[%s]]></Event></xml>", tester, text)
			reply, ok, err := w.nodes[0].tester.Answer(w.Context(), publishtest.Message{Component: platform, AppID: official, ID: strings.Repeat("0", 32), Plain: []byte(plain)})
			if err != nil || !ok {
				t.Errorf("%q: %v, %v", text, ok, err)
			}
			if got := readContent(t, reply); got != text+"from_callback" {
				t.Errorf("%q becomes %q", text, got)
			}
		}
	})
}

func readContent(t *testing.T, reply []byte) string {
	t.Helper()
	var r struct {
		XMLName xml.Name `xml:"xml"`
		Content string
	}
	if err := xml.Unmarshal(reply, &r); err != nil {
		t.Fatalf("%v in %s", err, reply)
	}
	return r.Content
}
