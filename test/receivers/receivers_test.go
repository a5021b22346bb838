// SPDX-License-Identifier: Apache-2.0

// Package receivers_test runs the applications in the folders beside it, which
// docs/delivery.md offers for copying, as they are: a whole gateway delivers to them.
// What they verify was signed by the gateway, and here by a published library of
// Standard Webhooks.
package receivers_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/need"
)

// text has what encodings, parsers and CDATA get wrong.
const text = "您好 🎉 <b>&amp;</b> \x1d ]]> <![CDATA["

// setups are the receivers.
var setups = []struct {
	name string
	form form
	run  func(*testing.T, []string) *program
}{
	{"Go", webhooks, func(t *testing.T, secrets []string) *program { return start(t, "go", secrets, build(t)) }},
	{"Node", webhooks, func(t *testing.T, secrets []string) *program {
		return start(t, "node", secrets, node(t), "receiver.js")
	}},
	{"Node in safe mode", safeMode, func(t *testing.T, secrets []string) *program { return start(t, "node", secrets, node(t), "safe.js") }},
	{"PHP", webhooks, func(t *testing.T, secrets []string) *program {
		php := need.Command(t, "install it (apt-get install php-cli)", "php")
		return start(t, "php", append(secrets, "ANSWERS="+t.TempDir()), php, "-S", "127.0.0.1:0", "receiver.php")
	}},
	{"Python", webhooks, func(t *testing.T, secrets []string) *program {
		python := need.Command(t, "install it (apt-get install python3)", "python3")
		return start(t, "python", secrets, python, "receiver.py")
	}},
}

func TestReceivers(t *testing.T) {
	for _, setup := range setups {
		t.Run(setup.name, func(t *testing.T) {
			w := newWorld(t, setup.form, setup.run(t, setup.form.environment))
			t.Run("takes events", w.takesEvents)
			t.Run("replies to a text", w.replies)
			t.Run("handles a repetition once", w.handlesOnce)
			t.Run("refuses what is forged or old", w.refuses)
			t.Run("loses nothing while the secret is wrong", w.waitsForSecret)
		})
	}
}

// world is a gateway that delivers to one receiver.
type world struct {
	*gwtest.Gateway
	form     form
	receiver *program
	wire     *wire
	url      string // of the wire
}

func newWorld(t *testing.T, f form, receiver *program) *world {
	wire := &wire{to: receiver.url}
	server := httptest.NewServer(wire)
	t.Cleanup(server.Close)
	w := &world{form: f, receiver: receiver, wire: wire, url: server.URL}
	w.Gateway = gwtest.Start(t, gwtest.Options{Clients: w.clients(f.right)})
	return w
}

// clients returns a client with one target.
func (w *world) clients(secrets string) string {
	return fmt.Sprintf("client shop {\nsecret %s\nauthorizers *\ncomponent_api\ndeliver %s/wechat {\n%s\n}\n}", gwtest.ClientSecret, w.url, secrets)
}

// setSecrets changes the secrets that the gateway has.
func (w *world) setSecrets(secrets string) {
	w.Change(func(o *gwtest.Options) { o.Clients = w.clients(secrets) })
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never happened: %s", what)
		}
	}
}

// write lets a follower write a text, and returns what came of it.
func (w *world) write(t *testing.T, text string) sandbox.PushAnswer {
	t.Helper()
	answer, err := w.WeChat.Push(t.Context(), w.WeChat.Text(gwtest.OfficialAccount, "o123", text))
	if err != nil {
		t.Fatalf("%v\n%s", err, w.Logs())
	}
	return answer
}

// sees fails the test unless the follower sees the receiver's reply to a text.
func sees(t *testing.T, answer sandbox.PushAnswer, text string) {
	t.Helper()
	written := strings.ReplaceAll(text, "]]>", "]]]]><![CDATA[>")
	if answer.Shown != sandbox.ShownReply || answer.Attempts != 1 || !strings.Contains(answer.Reply, "<![CDATA[You wrote: "+written+"]]>") ||
		!strings.Contains(answer.Reply, "<ToUserName><![CDATA[o123]]>") {
		t.Errorf("the follower sees %q %q after %d attempts", answer.Shown, answer.Reply, answer.Attempts)
	}
}

func (w *world) takesEvents(t *testing.T) {
	eventually(t, "both accounts have authorised", func() bool { return w.receiver.handled("", "authorized") == 2 })
	eventually(t, "the receiver knows which account has authorised", func() bool {
		return w.receiver.printed(gwtest.OfficialAccount + ": authorized")
	})
}

func (w *world) replies(t *testing.T) {
	sees(t, w.write(t, text), text)
	if answer, err := w.WeChat.PushMessage(t.Context(), gwtest.OfficialAccount, "o123",
		"<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe]]></Event>"); answer != "" || err != nil {
		t.Errorf("the reply to an event is %q (%v)", answer, err)
	}
	eventually(t, "the event is handled", func() bool { return w.receiver.handled("", "event") == 1 })
}

// The receiver has handled a message, but its answer is lost on the way. The gateway
// delivers it again, signed anew.
func (w *world) handlesOnce(t *testing.T) {
	w.wire.loseNextAnswer()
	w.write(t, "only once")
	id := w.wire.last().id()
	both := func() []delivery { return w.wire.of(id) }
	eventually(t, "a second delivery", func() bool { return len(both()) == 2 })
	for i, d := range both() {
		if d.status != http.StatusOK || d.answer == "" {
			t.Errorf("delivery %d was answered %d %q", i+1, d.status, d.answer)
		}
	}
	eventually(t, "it is handled once", func() bool { return w.receiver.handled(id, "text") == 1 })
}

// refuses sends what somebody could who has captured a delivery.
func (w *world) refuses(t *testing.T) {
	captured := w.wire.last()
	for name, forgery := range w.form.forgeries {
		t.Run(name, func(t *testing.T) {
			d := captured.clone()
			forgery.change(t, &d)
			before := w.receiver.handled("", "text")
			if err := w.wire.send(&d); err != nil || d.status != forgery.want {
				t.Errorf("answered %d (%v), want %d", d.status, err, forgery.want)
			}
			if n := w.receiver.handled("", "text"); n != before {
				t.Error("it was handled")
			}
		})
	}
}

func (w *world) waitsForSecret(t *testing.T) {
	w.setSecrets(w.form.wrong)
	if answer := w.write(t, "too early"); answer.Shown != sandbox.ShownSilence {
		t.Errorf("the follower sees %q %q", answer.Shown, answer.Reply)
	}
	refused := w.wire.last()
	if refused.status != http.StatusUnauthorized || w.receiver.handled(refused.id(), "text") != 0 {
		t.Errorf("answered %d", refused.status)
	}
	w.setSecrets(w.form.mended)
	eventually(t, "what has waited arrives", func() bool {
		of := w.wire.of(refused.id())
		return of[len(of)-1].status == http.StatusOK
	})
	eventually(t, "it is handled once", func() bool { return w.receiver.handled(refused.id(), "text") == 1 })
	sees(t, w.write(t, "in time"), "in time")
}
