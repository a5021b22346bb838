// SPDX-License-Identifier: Apache-2.0

package push

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
)

// All targets get a message at the same time; the follower gets the first reply, and
// waits for no other.
func TestFirstReplyWins(t *testing.T) {
	type application struct {
		answer
		off bool
	}
	const never = time.Hour
	for name, row := range map[string]struct {
		applications map[string]application
		shown        string
		takes        time.Duration
		queued       int // when the follower is answered
	}{
		"the first of two replies, not the first by name": {
			map[string]application{"a": {answer{2 * time.Second, 200, reply("a")}, false}, "b": {answer{time.Second, 200, reply("b")}, false}},
			reply("b"), 1025 * time.Millisecond, 1},
		"what others take a moment later need not be queued": {
			map[string]application{"a": {answer{50 * time.Millisecond, 200, reply("a")}, false}, "b": {answer{60 * time.Millisecond, 200, "success"}, false}},
			reply("a"), 60 * time.Millisecond, 0},
		"a hanging one delays no reply": {
			map[string]application{"a": {answer{never, 200, ""}, false}, "b": {answer{0, 200, reply("b")}, false}},
			reply("b"), 25 * time.Millisecond, 1},
		"one that fails spoils no reply": {
			map[string]application{"a": {answer{0, 500, ""}, false}, "b": {answer{500 * time.Millisecond, 200, reply("b")}, false}},
			reply("b"), 500 * time.Millisecond, 1},
		"with reply off it is never the one": {
			map[string]application{"a": {answer{0, 200, reply("a")}, true}, "b": {answer{time.Second, 200, reply("b")}, false}},
			reply("b"), time.Second, 0},
		"silence is certain when all have answered": {
			map[string]application{"a": {answer{time.Second, 200, "success"}, false}, "b": {answer{2 * time.Second, 200, ""}, true}},
			"success", 2 * time.Second, 0},
		"silence does not wait long for one with reply off": {
			map[string]application{"a": {answer{time.Second, 200, "success"}, false}, "b": {answer{never, 200, ""}, true}},
			"success", 3 * time.Second, 1},
		"nobody may reply": {
			map[string]application{"a": {answer{time.Second, 200, reply("a")}, true}},
			"success", time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				for name, app := range row.applications {
					w.target(name, app.answer, answer{0, 200, "success"}).NoReply = app.off
				}
				n, began := w.node(), time.Now()
				_, shown := n.serve(w.request(t.Context(), account, text(1, "hello")))
				if shown != row.shown || time.Since(began) != row.takes {
					t.Errorf("the follower sees %q after %v, want %q after %v", shown, time.Since(began), row.shown, row.takes)
				}
				if queued := w.waiting(); queued != row.queued {
					t.Errorf("%d are queued, want %d", queued, row.queued)
				}
				time.Sleep(10 * time.Minute)
				for name := range row.applications {
					if !slices.ContainsFunc(w.deliveries(), func(got taken) bool { return got.target == name }) {
						t.Errorf("%s got nothing", name)
					}
				}
				if queued := w.waiting(); queued != 0 {
					t.Errorf("%d still wait", queued)
				}
			})
		})
	}
}

// Two applications reply to every message: that is said once a day, with the remedy.
func TestTwoReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("a", answer{0, 200, reply("a")})
		w.target("b", answer{time.Second, 200, reply("b")})
		n := w.node()
		for hour := range 30 {
			w.push(text(hour, "hello"), n)
			time.Sleep(time.Hour)
		}
		said := w.logs.FilterMessageSnippet("two applications reply").All()
		if len(said) != 2 {
			t.Fatalf("said %d times in 30 hours", len(said))
		}
		if fields := said[0].ContextMap(); fields["client"] != "b" || fields["first_client"] != "a" || !strings.Contains(fields["remedy"].(string), "reply off") {
			t.Errorf("%v", fields)
		}
	})
}

// A stop in good order waits for the attempts in progress within the grace period, and
// queues what is not taken then.
func TestStopWaitsForAttempts(t *testing.T) {
	for name, row := range map[string]struct {
		takes, grace time.Duration
		queued       int
	}{"within the grace period": {7 * time.Second, 10 * time.Second, 0}, "beyond it": {15 * time.Second, 10 * time.Second, 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.target("shop", answer{row.takes, 200, "success"}, answer{0, 200, "success"})
				n := w.node()
				go n.serve(w.request(t.Context(), account, text(1, "hello")))
				time.Sleep(time.Second)
				began := time.Now()
				n.stop(row.grace)
				if took, want := time.Since(began), min(row.takes-time.Second, row.grace); took != want {
					t.Errorf("the stop takes %v, want %v", took, want)
				}
				if queued := w.waiting(); queued != row.queued {
					t.Errorf("%d are queued, want %d", queued, row.queued)
				}
				// What still comes then is queued at once.
				if _, shown := n.serve(w.request(t.Context(), account, text(2, "later"))); shown != "success" || w.waiting() != row.queued+1 {
					t.Errorf("%q, %d wait", shown, w.waiting())
				}
			})
		})
	}
}

// A node that is killed leaves a claim without an answer. Whoever meets it after the end
// of the attempt delivers the message.
func TestClaimOfADeadNodeIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{time.Hour, 200, ""}, answer{0, 200, "success"})
		first, plain := w.node(), text(1, "hello")
		go first.serve(w.request(t.Context(), account, plain))
		time.Sleep(4 * time.Second) // it has written its claim
		copied := w.memory.Files()
		first.kill()
		for key := range w.memory.Files() {
			_ = w.memory.Delete(t.Context(), key)
		}
		for key, value := range copied { // what a process leaves that is killed
			w.memory.Put(key, value)
		}
		second := w.node()
		time.Sleep(time.Second)
		if _, shown := second.serve(w.request(t.Context(), account, plain)); shown != "success" {
			t.Errorf("the second attempt gets %q", shown)
		}
		if w.waiting() != 1 {
			t.Errorf("%d wait after success was said", w.waiting())
		}
		time.Sleep(time.Minute)
		if got := w.deliveries(); len(got) != 2 || w.waiting() != 0 {
			t.Errorf("%d deliveries, %d wait: %v", len(got), w.waiting(), got)
		}
	})
}

// Claims are deleted when they are of no use any more, also those of dead nodes.
func TestClaimsAreDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		claims := func(w *world) (n int) {
			for key := range w.memory.Files() {
				if strings.Contains(key, "/messages/") {
					n++
				}
			}
			return n
		}
		w := newWorld(t)
		w.target("shop", answer{6 * time.Second, 200, "success"})
		first, second := w.node(), w.node()
		w.push(text(1, "hello"), first, second)
		if claims(w) != 2 { // the claim and the mark of the second node
			t.Errorf("%d claims", claims(w))
		}
		time.Sleep(21 * time.Minute)
		if claims(w) != 0 {
			t.Errorf("%d claims after 21 minutes", claims(w))
		}
		w.push(text(2, "hello"), first, second)
		first.kill()
		second.kill()
		time.Sleep(35 * time.Minute)
		w.node()
		synctest.Wait()
		if claims(w) != 0 {
			t.Errorf("%d claims of dead nodes", claims(w))
		}
	})
}

// An authorisation event that WeChat pushes again, to another node and signed anew, is
// acknowledged and not queued again; also after a restart.
func TestEventIsHandledOnceInACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{0, 200, "success"})
		first, second := w.node(), w.node()
		plain := fmt.Sprintf("<xml><AppId>%s</AppId><CreateTime>%d</CreateTime><InfoType>notify_3rd_wxa_wxverify</InfoType><appid>%s</appid></xml>",
			component, time.Now().Unix(), account)
		push := func(n *node) {
			t.Helper()
			recorder := httptest.NewRecorder()
			event, err := n.OpenEvent(recorder, w.eventRequest(t.Context(), plain))
			if err == nil {
				err = n.HandleEvent(t.Context(), event)
			}
			if err != nil {
				t.Error(err)
			}
		}
		push(first)
		time.Sleep(5 * time.Second)
		push(second)
		first.kill()
		time.Sleep(5 * time.Second)
		push(w.node())
		time.Sleep(time.Minute)
		if got := w.deliveries(); len(got) != 1 {
			t.Errorf("%d deliveries: %v", len(got), got)
		}
	})
}

// An application that asks at the first attempt to be left alone for a day is left alone
// for an hour with this message, as it is at later attempts.
func TestRetryAfterOfAMessageIsHonouredWithinAnHour(t *testing.T) {
	for asked, want := range map[string]time.Duration{"": time.Second, "600": 10 * time.Minute, "86400": time.Hour} {
		t.Run(asked, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				target := w.target("shop", answer{0, 503, ""}, answer{0, 200, "success"})
				target.RetryFor = 48 * time.Hour
				answering := target.Transport
				target.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
					response, err := answering.RoundTrip(r)
					if err == nil && asked != "" {
						response.Header.Set("Retry-After", asked)
					}
					return response, err
				})
				w.push(text(1, "hello"), w.node())
				time.Sleep(25 * time.Hour)
				got := w.deliveries()
				if len(got) != 2 {
					t.Fatalf("%d deliveries", len(got))
				}
				if waited := got[1].at.Sub(got[0].at); waited < want || waited > want+time.Minute {
					t.Errorf("delivered again after %v, want %v", waited, want)
				}
			})
		})
	}
}

// The attempt that is made at once is the first: operators see that it was made and why
// it has failed, and the time between attempts grows from there.
func TestFailureOfTheDirectAttemptIsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{0, 500, ""}, answer{0, 503, ""}, answer{0, 200, "success"})
		n := w.node()
		w.push(text(1, "hello"), n)
		for i, failure := range []string{"answered with status 500", "answered with status 503"} {
			page, err := n.courier.Events(t.Context(), delivery.Filter{})
			if err != nil || len(page.Items) != 1 {
				t.Fatalf("%d wait, %v", len(page.Items), err)
			}
			if item := page.Items[0]; item.Attempts != i+1 || item.Failure != failure {
				t.Errorf("after %d attempts %d are listed, and the failure %q", i+1, item.Attempts, item.Failure)
			}
			time.Sleep(1450 * time.Millisecond)
		}
		if n := len(w.deliveries()); n != 2 {
			t.Errorf("%d attempts within 2.9 s, want 2: at once and after 1 s, the third 2 s later", n)
		}
		time.Sleep(time.Minute)
		if n := len(w.deliveries()); n != 3 {
			t.Errorf("%d attempts, want 3", n)
		}
	})
}

// Two nodes have queued the same message, each in case the other one ends. When the
// attempt of the first one fails, one of both copies has to stay.
func TestNoNodeTakesBackWhatAnotherReliesOn(t *testing.T) {
	for _, before := range []time.Duration{0, 15 * time.Second} { // then the first node lists the queue between both
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.target("shop", answer{16 * time.Second, 500, ""}, answer{0, 200, "success"})
			first, second, third := w.node(), w.node(), w.node()
			time.Sleep(before)
			if shown, attempt := w.push(text(1, "hello"), first, second, third); shown != "success" || attempt != 3 {
				t.Errorf("%q at attempt %d", shown, attempt)
			}
			time.Sleep(10 * time.Minute)
			if got := w.deliveries(); len(got) != 2 || w.waiting() != 0 {
				t.Errorf("%d deliveries, %d wait: %v", len(got), w.waiting(), got)
			}
		})
	}
}
