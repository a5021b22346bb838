// SPDX-License-Identifier: Apache-2.0

package push

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// remembering is a node that remembers facts of pushes, all from one address.
func (w *world) remembering() *node {
	n := w.node()
	n.Facts = new(pushlog.Log)
	n.Address = func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.7") }
	return n
}

// event is the handler for events, without Caddy.
func (n *node) event(r *http.Request) {
	recorder := httptest.NewRecorder()
	event, err := n.OpenEvent(recorder, r)
	if err == nil {
		err = n.HandleEvent(r.Context(), event)
	}
	if err != nil {
		n.Reject(recorder, r, EventsURL, err)
	}
}

// last is the newest fact, without its times.
func (n *node) last() string {
	got := n.Facts.Last(1)
	if len(got) == 0 {
		return "nothing"
	}
	p := got[0]
	return fmt.Sprintf("%s %s %q %q %s %q %d %s genuine %t previous %t", p.At, p.Component, p.AppID, p.What, p.Outcome, p.Reason, p.Status, p.Remote, p.Genuine, p.Previous)
}

// eventText is an event of an account.
func eventText(infoType string) string {
	return fmt.Sprintf("<xml><AppId>%s</AppId><CreateTime>%d</CreateTime><InfoType>%s</InfoType><AuthorizerAppid>%s</AuthorizerAppid></xml>",
		component, time.Now().Unix(), infoType, account)
}

// What came of each push can be looked up, whatever it was.
func TestWhatCameOfEachPushIsRemembered(t *testing.T) {
	const verified, forged = " 192.0.2.7 genuine true previous false", " 192.0.2.7 genuine false previous false"
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{0, 200, "success"})
		n := w.remembering()
		want := func(text string) {
			t.Helper()
			if got := n.last(); got != text {
				t.Errorf("remembered is\n%s, want\n%s", got, text)
			}
			time.Sleep(time.Second) // so that the next one is later
		}
		text := eventText("something")
		n.event(w.eventRequest(t.Context(), text))
		want("events " + component + ` "` + account + `" "something" acknowledged "" 200` + verified)
		n.event(w.eventRequest(t.Context(), text))
		want("events " + component + ` "` + account + `" "something" repeated "" 200` + verified)
		w.memory.Intercept(func(context.Context, vaulttest.Op, string) error { return errors.New("disk full") })
		n.event(w.eventRequest(t.Context(), eventText("something")))
		want("events " + component + ` "` + account + `" "something" failed "storing failed" 503` + verified)
		w.memory.Intercept(nil)

		n.serve(w.request(t.Context(), account, text1(1)))
		want("messages " + component + ` "` + account + `" "text" acknowledged "" 200` + verified)
		n.serve(w.request(t.Context(), account, strings.ReplaceAll(text1(2), "[text]", "[event]]></MsgType><Event><![CDATA[CLICK]]></Event><MsgType><![CDATA[event]")))
		want("messages " + component + ` "` + account + `" "event/CLICK" acknowledged "" 200` + verified)
		n.Account = func(context.Context, string, string, string) (its, official bool) { return false, true }
		n.serve(w.request(t.Context(), account2, text1(3)))
		want("messages " + component + ` "` + account2 + `" "text" misdirected "" 200` + verified)

		n.serve(w.request(t.Context(), "nobody", text1(4)))
		want(`messages  "" "" refused "` + errMessagePath.Error() + `" 403` + forged)
		n.serve(w.sealed(t.Context(), "/wechat/messages/"+account, "", eventText("something")))
		want("messages " + component + ` "` + account + `" "" refused "` + errMessageIsEvent.Error() + `" 403` + forged)
		unsigned := w.eventRequest(t.Context(), text)
		unsigned.URL.RawQuery = strings.Replace(unsigned.URL.RawQuery, "msg_signature=", "msg_signature=0", 1)
		n.event(unsigned)
		want("events " + component + ` "" "" refused "` + bizmsg.ErrSignature.Error() + `" 403` + forged)
		n.event(w.sealed(t.Context(), "/wechat/events", "<AppId>wx2222222222222222</AppId>", text))
		want(`events  "" "" refused "` + errPushForeign.Error() + `" 403` + forged)
		old := w.eventRequest(t.Context(), text)
		time.Sleep(maxAge + time.Second)
		n.event(old)
		want("events " + component + ` "" "" refused "` + errPushStale.Error() + `" 403` + forged)

		w.codec.Tokens = []secret.Secret{secret.New("nexttoken"), w.codec.Tokens[0]}
		previous := *w.codec
		previous.Tokens = previous.Tokens[1:]
		current := w.codec
		w.codec = &previous
		r := w.eventRequest(t.Context(), eventText("another"))
		w.codec = current
		n.event(r)
		want("events " + component + ` "` + account + `" "another" acknowledged "" 200 192.0.2.7 genuine true previous true`)
	})
}

// text1 is a message with this id.
func text1(id int) string { return text(id, "hello") }

// How long a push took, and how old it was when it came, tell of slow applications and
// of clocks that differ.
func TestTimesOfAPushAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{30 * time.Second, 200, "success"})
		n := w.remembering()
		r := w.request(t.Context(), account, text1(1))
		time.Sleep(3 * time.Second)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		n.serve(r.WithContext(ctx))
		p := n.Facts.Last(1)[0]
		if !p.Time.Equal(began) || p.Took != 2*time.Second || p.Age < 3*time.Second || p.Age >= 4*time.Second || p.Outcome != pushlog.HungUp || p.Status != 0 {
			t.Errorf("%+v", p)
		}
	})
}

// Nothing of what a follower writes, and nobody's name, is remembered.
func TestWhatIsInAPushIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{0, 200, "success"})
		n := w.remembering()
		n.serve(w.request(t.Context(), account, text(1, "the content")))
		n.event(w.eventRequest(t.Context(), "<xml><AppId>"+component+"</AppId><InfoType>component_verify_ticket</InfoType></xml>"))
		for _, hidden := range []string{"content", follower, userName} {
			if got := fmt.Sprintf("%+v", n.Facts.Last(10)); strings.Contains(got, hidden) {
				t.Errorf("%q stands in %s", hidden, got)
			}
		}
	})
}
