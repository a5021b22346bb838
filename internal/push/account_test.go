// SPDX-License-Identifier: Apache-2.0

package push

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics/metricstest"
)

// profiles makes a node know that userName is the name of account, which is an official
// one or not, and that account2 has another name.
func (n *node) profiles(official bool) {
	n.Account = func(_ context.Context, _, appid, toUserName string) (bool, bool) {
		return (appid == account) == (toUserName == userName), official
	}
}

// A captured push that is sent to another account's path is acknowledged, warned of, counted
// and delivered to nobody: whether or not it came to its own path, before or after.
func TestAPushToAnotherAccountsPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{0, 200, reply("hi")})
		n := w.node()
		n.profiles(true)
		counted := func() float64 { return metricstest.Value(t, "caddy_wechat_pushes_total", "misdirected", "message") }
		before := counted()
		captured := w.request(t.Context(), account, text(1, "hello"))
		body, err := io.ReadAll(captured.Body)
		if err != nil {
			t.Fatal(err)
		}
		send := func(appid, body string) (int, string) {
			return n.serve(httptest.NewRequest(http.MethodPost, "/wechat/messages/"+appid+"?"+captured.URL.RawQuery, strings.NewReader(body)))
		}
		// The name in the envelope is not signed, and counts for nothing.
		forged := string(bytes.ReplaceAll(body, []byte(userName), []byte("gh_ba9876543210")))
		for _, each := range []string{string(body), forged, string(body)} {
			if status, shown := send(account2, each); status != 200 || shown != "success" {
				t.Errorf("%d %q", status, shown)
			}
		}
		if got := w.deliveries(); len(got) != 0 {
			t.Fatalf("delivered: %v", got)
		}
		if status, shown := send(account, string(body)); status != 200 || shown != reply("hi") {
			t.Errorf("in its own path: %d %q", status, shown)
		}
		if _, shown := send(account2, string(body)); shown != "success" {
			t.Errorf("afterwards: %q", shown)
		}
		time.Sleep(time.Minute)
		if got := w.deliveries(); len(got) != 1 || w.waiting() != 0 {
			t.Errorf("%d deliveries, %d wait", len(got), w.waiting())
		}
		warnings := w.logs.FilterMessage("a message of another account was pushed to the path of this one, nobody gets it")
		if warnings.Len() != 4 || warnings.FilterFieldKey("remedy").FilterField(zap.String("authorizer", account2)).FilterField(zap.String("to_user_name", userName)).Len() != 4 {
			t.Errorf("warnings: %v", warnings.All())
		}
		if got := counted() - before; got != 4 {
			t.Errorf("%v counted", got)
		}
	})
}

// A message that no target wants is acknowledged without looking for its account: a captured
// push may be sent to any path.
func TestNobodyAsksForTheAccountOfAMessageThatNobodyWants(t *testing.T) {
	for name, wanted := range map[string]bool{"no target": false, "a target": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if wanted {
					w.target("shop", answer{0, 200, "success"})
				}
				n := w.node()
				asked := false
				n.Account = func(context.Context, string, string, string) (bool, bool) {
					asked = true
					return false, true
				}
				if status, shown := n.serve(w.request(t.Context(), account2, text(1, "hello"))); status != 200 || shown != "success" || asked != wanted {
					t.Errorf("%d %q, asked: %v", status, shown, asked)
				}
			})
		})
	}
}

// A message that names no account is delivered: nobody knows whose it is.
func TestAMessageWithoutAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{0, 200, "success"})
		n := w.node()
		n.Account = func(_ context.Context, _, _, toUserName string) (bool, bool) { return toUserName == "", true }
		plain := strings.Replace(text(1, "hello"), "<ToUserName><![CDATA["+userName+"]]></ToUserName>", "", 1)
		if _, shown := n.serve(w.request(t.Context(), account, plain)); shown != "success" || len(w.deliveries()) != 1 {
			t.Errorf("%q, %d deliveries", shown, len(w.deliveries()))
		}
	})
}

// Of another account than an official one, a message is acknowledged as soon as the
// application has taken it, or it is queued, and at the latest by 4.5 s: never does WeChat
// have to ask again. What the application does not take in time it gets once.
func TestOtherAccountsAreAcknowledgedInTime(t *testing.T) {
	for name, row := range map[string]struct {
		first answer
		after time.Duration
		shown string
		got   int
	}{
		"taken at once": {answer{0, 200, "success"}, 0, "success", 1},
		"taken in 2 s":  {answer{2 * time.Second, 200, "success"}, 2 * time.Second, "success", 1},
		"refused":       {answer{time.Second, 500, ""}, time.Second, "success", 2},
		"breaks off":    {answer{time.Second, 0, ""}, time.Second, "success", 2},
		"takes 7 s":     {answer{7 * time.Second, 200, "success"}, replyTimeout, "success", 1},
		"hangs":         {answer{time.Hour, 200, "success"}, replyTimeout, "success", 2},
		"a reply":       {answer{2 * time.Second, 200, reply("hi")}, 2 * time.Second, reply("hi"), 1}, // transfer_customer_service
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.target("shop", row.first, answer{0, 200, "success"})
				n := w.node()
				n.profiles(false)
				began := time.Now()
				shown, attempt := w.push(text(1, "hello"), n)
				if took := time.Since(began); took < row.after || took > row.after+settleTime || attempt != 1 || shown != row.shown {
					t.Errorf("answered %q at attempt %d after %v, want %q after %v", shown, attempt, took, row.shown, row.after)
				}
				time.Sleep(2 * time.Minute)
				if got := w.deliveries(); len(got) != row.got || w.waiting() != 0 {
					t.Errorf("%d deliveries, want %d; %d wait", len(got), row.got, w.waiting())
				}
			})
		})
	}
}

// settleTime is what a reply waits for the other applications.
const settleTime = 30 * time.Millisecond
