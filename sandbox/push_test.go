// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// parameters are the names in a query, in order.
func parameters(rawQuery string) (names []string) {
	for pair := range strings.SplitSeq(rawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		names = append(names, name)
	}
	return names
}

func TestTicketPushIsAsWeChatMakesIt(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	w.must(w.PushTicket(t.Context()))
	p := w.receiver.last()
	if p.request.Method != http.MethodPost || p.request.URL.Path != "/wechat/events" {
		t.Errorf("%s %s", p.request.Method, p.request.URL)
	}
	want := []string{"signature", "timestamp", "nonce", "encrypt_type", "msg_signature"}
	if diff := cmp.Diff(want, parameters(p.request.URL.RawQuery)); diff != "" {
		t.Error(diff)
	}
	if !p.signed || p.receiveID != sandbox.DefaultComponent || p.envelope["AppId"] != sandbox.DefaultComponent {
		t.Errorf("signed %v, for %q, envelope %v", p.signed, p.receiveID, p.envelope)
	}
	if _, there := p.envelope["ToUserName"]; there {
		t.Error("an event has no ToUserName")
	}
	if p.field("InfoType") != "component_verify_ticket" || p.field("AppId") != sandbox.DefaultComponent {
		t.Errorf("plain %s", p.plain)
	}
	if seconds, _ := strconv.ParseInt(p.field("CreateTime"), 10, 64); time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
		t.Errorf("CreateTime %d", seconds)
	}
	if p.field("ComponentVerifyTicket") != w.ValidToken(sandbox.KindTicket, "") {
		t.Error("the pushed ticket is not the valid one")
	}
}

func TestOnlyExactlySuccessEndsThePushing(t *testing.T) {
	for _, answer := range []string{"", "Success", "success\n", "<xml>success</xml>", `"success"`} {
		w := newWorld(t, sandbox.Config{})
		w.receiver.answer = answer
		if err := w.PushTicket(t.Context()); err == nil || len(w.receiver.all()) != 3 {
			t.Errorf("%q: %v after %d attempts", answer, err, len(w.receiver.all()))
		}
	}
	w := newWorld(t, sandbox.Config{Switches: sandbox.Switches{PushAttempts: 1}})
	w.receiver.status = http.StatusForbidden
	if err := w.PushTicket(t.Context()); err == nil || len(w.receiver.all()) != 1 {
		t.Errorf("status 403: %v after %d attempts", err, len(w.receiver.all()))
	}
}

func TestFurtherAttemptsAreSealedAnewUnlessSwitched(t *testing.T) {
	for _, same := range []bool{false, true} {
		w := newWorld(t, sandbox.Config{Switches: sandbox.Switches{RetrySameBytes: same}})
		w.receiver.answer = "busy"
		_ = w.PushTicket(t.Context())
		all := w.receiver.all()
		if (all[0].body == all[1].body && all[0].query.Encode() == all[1].query.Encode()) != same {
			t.Errorf("RetrySameBytes %v is not honoured", same)
		}
		if all[0].plain != all[2].plain {
			t.Error("the attempts say different things")
		}
	}
}

func TestMessagePushAndItsReplies(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	inner := "<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[hi]]></Content><MsgId>1</MsgId>"
	for name, row := range map[string]struct {
		answer, reply string
		fails         bool
	}{
		"success":                      {answer: "success"},
		"nothing":                      {answer: ""},
		"a sealed reply":               {answer: sealedReply(textReply("openid-1", "hi")), reply: textReply("openid-1", "hi")},
		"plain XML":                    {answer: "<xml><Content>hi</Content></xml>", fails: true},
		"a reply with a bad signature": {answer: strings.Replace(sealedSample(t), "<Nonce>", "<Nonce>1", 1), fails: true},
		"something else":               {answer: "ok", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			w.receiver.answer = row.answer
			reply, err := w.PushMessage(t.Context(), official, "openid-1", inner)
			if (err != nil) != row.fails || reply != row.reply {
				t.Errorf("reply %q, %v", reply, err)
			}
		})
	}
	w = newWorld(t, sandbox.Config{})
	_, err := w.PushMessage(t.Context(), official, "openid-1", inner)
	w.must(err)
	p := w.receiver.last()
	if p.request.URL.Path != "/wechat/messages/"+official || !p.signed || p.receiveID != sandbox.DefaultComponent {
		t.Errorf("%s signed %v for %q", p.request.URL, p.signed, p.receiveID)
	}
	if names := parameters(p.request.URL.RawQuery); len(names) != 6 || !slices.Contains(names, "openid") {
		t.Errorf("query %v", names)
	}
	if _, there := p.envelope["AppId"]; there || p.envelope["ToUserName"] != p.field("ToUserName") || !strings.HasPrefix(p.field("ToUserName"), "gh_") {
		t.Errorf("envelope %v, plain %s", p.envelope, p.plain)
	}
	if p.field("FromUserName") != "openid-1" || p.field("Content") != "hi" {
		t.Errorf("plain %s", p.plain)
	}
}

// sample is the official reply vector.
type sample struct {
	ID, Token, Timestamp, Nonce, Encrypt string
	Key                                  string `json:"encoding_aes_key"`
	Signature                            string `json:"msg_signature"`
}

func readSample(t *testing.T) sample {
	t.Helper()
	data, err := os.ReadFile("../testdata/bizmsg-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []sample
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	return all[slices.IndexFunc(all, func(s sample) bool { return s.ID == "component-reply" })]
}

func sealedSample(t *testing.T) string {
	s := readSample(t)
	return fmt.Sprintf("<xml><Encrypt><![CDATA[%s]]></Encrypt><MsgSignature><![CDATA[%s]]></MsgSignature><TimeStamp>%s</TimeStamp><Nonce>%s</Nonce></xml>",
		s.Encrypt, s.Signature, s.Timestamp, s.Nonce)
}

func TestBadPushes(t *testing.T) {
	plain := "<xml><InfoType>component_verify_ticket</InfoType></xml>"
	w := newWorld(t, sandbox.Config{})
	push := func(p sandbox.Push) pushed {
		t.Helper()
		_, err := w.Push(t.Context(), p)
		w.must(err)
		return w.receiver.last()
	}
	if p := push(sandbox.Push{Plain: plain}); !p.signed || p.plain != plain {
		t.Errorf("a good one is bad: %+v", p)
	}
	good := w.receiver.last()
	if p := push(sandbox.Push{Replay: true}); p.body != good.body || p.request.URL.RawQuery != good.request.URL.RawQuery {
		t.Error("Replay is not byte for byte")
	}
	if p := push(sandbox.Push{Plain: plain, ForgedSignature: true}); p.signed || p.plain != plain {
		t.Error("ForgedSignature fits, or spoils more than the signature")
	}
	if p := push(sandbox.Push{Plain: plain, ReceiveID: "wx0000000000000000"}); !p.signed || p.receiveID != "wx0000000000000000" {
		t.Errorf("ReceiveID: %q", p.receiveID)
	}
	if p := push(sandbox.Push{Plain: plain, EncodingAESKey: strings.Repeat("b", 43)}); !p.signed || p.plain == plain {
		t.Error("EncodingAESKey: opens with the component's")
	}
	if p := push(sandbox.Push{Plain: plain, Token: "another"}); p.signed {
		t.Error("Token: signed with the component's")
	}
	p := push(sandbox.Push{Plain: plain, Age: time.Hour})
	if seconds, _ := strconv.ParseInt(p.query.Get("timestamp"), 10, 64); !p.signed || time.Since(time.Unix(seconds, 0)) < time.Hour-time.Second {
		t.Errorf("Age: timestamp %d, signed %v", seconds, p.signed)
	}
	if _, err := newWorld(t, sandbox.Config{}).Push(t.Context(), sandbox.Push{Replay: true}); err == nil {
		t.Error("replayed before anything was pushed")
	}
}

func TestRunPushesEveryTenMinutesOfItsClock(t *testing.T) {
	for speed, interval := range map[float64]time.Duration{1: 10 * time.Minute, 60: 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, sandbox.Config{Speed: speed})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx) }()
			time.Sleep(3*interval + time.Second)
			if got := len(w.receiver.all()); got != 4 {
				t.Errorf("speed %v: %d tickets after three intervals, want 4", speed, got)
			}
			w.StopTickets()
			time.Sleep(2 * interval)
			if got := len(w.receiver.all()); got != 4 {
				t.Errorf("stopped, but %d tickets", got)
			}
			w.wantCode("start", w.startPush(), 0)
			synctest.Wait()
			if got := len(w.receiver.all()); got != 5 {
				t.Errorf("started again, but %d tickets", got)
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

func (w *world) startPush() answer {
	secret, _, _ := w.Keys()
	return w.component("api_start_push_ticket", "", "component_secret", secret)
}

func TestStartPushTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Config{})
		if got := w.startPush(); got.text("errmsg") != "ok" || len(w.receiver.all()) != 1 {
			t.Errorf("with no ticket yet: %v, %d pushes", got, len(w.receiver.all()))
		}
		if got := w.startPush(); got.text("errmsg") != "in a normal state" || len(w.receiver.all()) != 1 {
			t.Errorf("at once again: %v, %d pushes", got, len(w.receiver.all()))
		}
		time.Sleep(time.Minute)
		w.startPush()
		if len(w.receiver.all()) != 2 {
			t.Error("a minute later: no push")
		}
		w.SetSwitches(sandbox.Switches{QuietStartPush: true})
		time.Sleep(time.Minute)
		if got := w.startPush(); got.text("errmsg") != "in a normal state" || len(w.receiver.all()) != 2 {
			t.Errorf("QuietStartPush: %v, %d pushes", got, len(w.receiver.all()))
		}
		w.wantCode("another name for the secret", w.component("api_start_push_ticket", "", "component_appsecret", "x"), 41004)
		w.wantCode("a wrong secret", w.component("api_start_push_ticket", "", "component_secret", "x"), 40125)
	})
}

func TestPushingWithoutAURLFails(t *testing.T) {
	s, err := sandbox.New(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PushTicket(t.Context()); err == nil {
		t.Error("pushed to nowhere")
	}
}
