// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Tickets with which applications sign, while WeChat fails, refuses, or says nonsense.

// While a ticket lives, no failure of WeChat's is felt, and it is asked once a minute.
func TestKnownTicketIsServedWhileWeChatFails(t *testing.T) {
	for name, fault := range map[string]sandbox.Fault{
		"busy":                {ErrCode: -1},
		"refusing":            {ErrCode: 48001},
		"out of quota":        {ErrCode: 45009},
		"rejecting the token": {ErrCode: 40001},
		"broken":              {Status: 502},
		"resetting":           {Reset: true},
		"answering nothing":   {Empty: true},
		"echoing":             {Echo: "plain"},
		"cut":                 {CutHalf: true},
		"hanging":             {Never: true},
	} {
		t.Run(name, func(t *testing.T) {
			playAuthorized(t, func(w *world) {
				first := w.shared(shop, "jsapi")
				time.Sleep(91 * time.Minute)
				w.token(shop)
				synctest.Wait()
				fault.Path = askTicket
				w.weixin.Inject(fault)
				w.weixin.ResetCounts()
				began := time.Now()
				for time.Since(began) < 10*time.Minute {
					asked := time.Now()
					if ticket := w.shared(shop, "jsapi"); !ticket.Value.Equal(first.Value) {
						t.Fatal("another ticket is served")
					}
					if waited := time.Since(asked); waited > ticketPatience {
						t.Fatalf("a caller has waited for %s", waited)
					}
					time.Sleep(time.Second)
				}
				if got := w.weixin.Count(askTicket); got < 9 || got > 2*10 { // a rejected one is repeated with a newer token
					t.Errorf("WeChat was asked %d times in 10 minutes", got)
				}
				time.Sleep(time.Until(first.Expires))
				if err := w.noTicket("jsapi"); problem.Of(err).Errcode == 40001 {
					t.Errorf("a caller is told to fetch another token: %v", err)
				}
				w.weixin.ClearFaults()
				if name != "hanging" && name != "rejecting the token" { // these are still under way, or cool down
					w.isTicket(w.shared(shop, "jsapi"), shop, "jsapi")
				}
			})
		})
	}
}

// A refusal is WeChat's to take back at once.
func TestRefusedTicketIsAskedForAgain(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askTicket, ErrCode: 48001, ErrMsg: "api unauthorized", Times: 3})
		for range 3 {
			var refusal *openapi.Refusal
			if err := w.noTicket("jsapi"); !errors.As(err, &refusal) || refusal.Code != 48001 || !strings.HasPrefix(refusal.Message, "api unauthorized") {
				t.Errorf("%v", err)
			}
		}
		w.isTicket(w.shared(shop, "jsapi"), shop, "jsapi")
		w.calls(askTicket, 4)
	})
}

// A path on which WeChat rejects good tokens renews nothing, and no caller hears 40001.
func TestTicketForWhichWeChatRejectsGoodTokens(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askTicket, ErrCode: 40001})
		for range 20 {
			w.is(w.noTicket("jsapi"), problem.ErrPathRejects)
			time.Sleep(time.Second)
		}
		w.calls(askAuthorizerToken, 0)
		w.calls(askDomainIP, 2) // 10 s after the first
	})
}

// A renewal that fails is not WeChat's answer to the call.
func TestTicketWithoutAToken(t *testing.T) {
	playAuthorized(t, func(w *world) {
		time.Sleep(2 * time.Hour)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 45009})
		w.is(w.noTicket("jsapi"), problem.ErrRefused)
		w.calls(askTicket, 0)
	})
}

// answerTicket answers for WeChat; n counts the calls from 0.
func (w *world) answerTicket(answer func(n int) string) {
	n := 0
	w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.URL.Path != askTicket {
			return next.RoundTrip(r)
		}
		n++
		return jsonAnswer(answer(n - 1)), nil
	})
}

func TestMalformedTicketIsNotKept(t *testing.T) {
	playAuthorized(t, func(w *world) {
		bad := []string{``, `{}`, `{"errcode":0,"errmsg":"ok"}`, `{"ticket":"t"}`, `{"ticket":"t","expires_in":0}`, `{"ticket":"t","expires_in":1000000}`}
		w.answerTicket(func(n int) string {
			if n < len(bad) {
				return bad[n]
			}
			return `{"ticket":"good","expires_in":7200}`
		})
		for _, body := range bad {
			if err := w.noTicket("wx_card"); problem.Of(err) != problem.ErrUnreachable {
				t.Errorf("%s: %v", body, err)
			}
		}
		if got := w.shared(shop, "wx_card").Value.Reveal(); got != "good" {
			t.Errorf("%s is served", got)
		}
	})
}

// The call is that of all who wait: it goes on when its first caller leaves, and ends in time.
func TestCallForATicketOutlivesItsCaller(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askTicket, Latency: 3 * time.Second, Times: 1})
		impatient, leave := context.WithTimeout(w.Context(), time.Second)
		defer leave()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := w.node.SharedTicket(impatient, shop, theClient, "jsapi"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the caller that leaves: %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() { w.isTicket(w.shared(shop, "jsapi"), shop, "jsapi") })
		all.Wait()
		w.shared(shop, "jsapi")
		w.calls(askTicket, 1)

		w.weixin.Inject(sandbox.Fault{Path: askTicket, Never: true})
		began := time.Now()
		if err := w.noTicket("wx_card"); problem.Of(err) != problem.ErrTimeout || time.Since(began) > renewTimeout {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}
