// SPDX-License-Identifier: Apache-2.0

package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// An application has about 14 seconds for its reply. However long it takes, it gets the
// message once, and the follower never sees trouble.
func TestSlowApplications(t *testing.T) {
	for name, row := range map[string]struct {
		takes   time.Duration
		shown   string
		attempt int
		got     int // deliveries
	}{
		"at once": {0, reply("hi"), 1, 1},
		"3 s":     {3 * time.Second, reply("hi"), 1, 1},
		"7 s":     {7 * time.Second, reply("hi"), 2, 1},
		"12 s":    {12 * time.Second, reply("hi"), 3, 1},
		"14.4 s":  {14400 * time.Millisecond, reply("hi"), 3, 1},
		"18 s":    {18 * time.Second, "success", 3, 1},
		"25 s":    {25 * time.Second, "success", 3, 2}, // the second time from the queue
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.target("shop", answer{row.takes, 200, reply("hi")})
				shown, attempt := w.push(text(1, "hello"), w.node())
				if shown != row.shown || attempt != row.attempt {
					t.Errorf("the follower sees %q at attempt %d, want %q at %d", shown, attempt, row.shown, row.attempt)
				}
				time.Sleep(time.Minute)
				got := w.deliveries()
				if len(got) != row.got {
					t.Fatalf("%d deliveries, want %d: %v", len(got), row.got, got)
				}
				for _, each := range got {
					if each.id == "" || each.id != got[0].id {
						t.Errorf("event_id %q, the first had %q", each.id, got[0].id)
					}
				}
				if n := w.waiting(); n != 0 {
					t.Errorf("%d still waiting", n)
				}
			})
		})
	}
}

// What is answered within three seconds costs the storage nothing; what takes longer,
// a claim and its answer.
func TestStorageIsUsedBySlowDeliveriesOnly(t *testing.T) {
	for name, row := range map[string]struct {
		takes  time.Duration
		stored int
	}{"2.9 s": {2900 * time.Millisecond, 0}, "4 s": {4 * time.Second, 2}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.target("shop", answer{row.takes, 200, reply("hi")})
				w.target("log", answer{row.takes / 2, 200, "success"})
				n := w.node()
				synctest.Wait()
				loads := w.memory.Count(vaulttest.Load)
				if shown, _ := w.push(text(1, "hello"), n); shown != reply("hi") {
					t.Errorf("the follower sees %q", shown)
				}
				synctest.Wait()
				if got, read := w.stored(), w.memory.Count(vaulttest.Load)-loads; got != row.stored || read != 0 {
					t.Errorf("%d writes and %d reads, want %d and none", got, read, row.stored)
				}
			})
		})
	}
}

// Three copies within a second, to one node: one delivery, and all get the reply.
func TestCopiesAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{2 * time.Second, 200, reply("hi")})
		n, plain := w.node(), text(1, "hello")
		var copies sync.WaitGroup
		for i := range 3 {
			copies.Go(func() {
				time.Sleep(time.Duration(i) * 300 * time.Millisecond)
				if _, shown := n.serve(w.request(t.Context(), account, plain)); shown != reply("hi") {
					t.Errorf("copy %d gets %q", i, shown)
				}
			})
		}
		copies.Wait()
		if got := w.deliveries(); len(got) != 1 {
			t.Errorf("%d deliveries", len(got))
		}
	})
}

// Copies five seconds apart, to two nodes: one delivery, and the reply.
func TestCopiesToTwoNodes(t *testing.T) {
	for name, takes := range map[string]time.Duration{"7 s": 7 * time.Second, "12 s": 12 * time.Second, "18 s": 18 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.target("shop", answer{takes, 200, reply("hi")})
				want := reply("hi")
				if takes > 15*time.Second {
					want = "success"
				}
				if shown, _ := w.push(text(1, "hello"), w.node(), w.node()); shown != want {
					t.Errorf("the follower sees %q", shown)
				}
				time.Sleep(2 * time.Minute)
				if got := w.deliveries(); len(got) != 1 {
					t.Errorf("%d deliveries: %v", len(got), got)
				}
				if n := w.waiting(); n != 0 {
					t.Errorf("%d still waiting", n)
				}
			})
		})
	}
}

// A copy after a restart in good order, of a message that took more than three seconds.
func TestCopyAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{4 * time.Second, 200, reply("hi")})
		plain := text(1, "hello")
		first := w.node()
		if shown, _ := w.push(plain, first); shown != reply("hi") {
			t.Fatalf("the follower sees %q", shown)
		}
		first.stop(time.Second)
		second := w.node()
		if _, shown := second.serve(w.request(t.Context(), account, plain)); shown != reply("hi") {
			t.Errorf("the copy gets %q", shown)
		}
		time.Sleep(61 * time.Second)
		if _, shown := second.serve(w.request(t.Context(), account, plain)); shown != "success" {
			t.Errorf("a minute later the copy gets %q", shown)
		}
		if got := w.deliveries(); len(got) != 1 {
			t.Errorf("%d deliveries", len(got))
		}
	})
}

// A captured push that somebody sends later, byte for byte, is delivered to nobody; nor
// under another account, at any time.
func TestCapturedPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{0, 200, reply("hi")})
		n := w.node()
		plain := text(1, "hello")
		original := w.request(t.Context(), account, plain)
		body, err := io.ReadAll(original.Body)
		if err != nil {
			t.Fatal(err)
		}
		again := func(appid string) (int, string) {
			r := httptest.NewRequest(http.MethodPost, "/wechat/messages/"+appid+"?"+original.URL.RawQuery, bytes.NewReader(body))
			return n.serve(r)
		}
		if _, shown := again(account); shown != reply("hi") {
			t.Fatalf("%q", shown)
		}
		if status, shown := again(account2); status != 200 || shown != "success" {
			t.Errorf("under another account %d %q", status, shown)
		}
		for _, later := range []time.Duration{30 * time.Second, 40 * time.Second, 7*time.Minute + 50*time.Second} { // 30 s, 70 s, 9 min
			time.Sleep(later)
			want := "success"
			if later == 30*time.Second {
				want = reply("hi")
			}
			if status, shown := again(account); status != 200 || shown != want {
				t.Errorf("%v later: %d %q", later, status, shown)
			}
		}
		time.Sleep(2 * time.Minute)
		if status, _ := again(account); status != http.StatusForbidden {
			t.Errorf("after 11 minutes: %d", status)
		}
		if got := w.deliveries(); len(got) != 1 {
			t.Errorf("%d deliveries", len(got))
		}
	})
}

// Whatever an application does, the follower sees no trouble; what was not taken
// arrives later.
func TestNothingTheApplicationDoesIsShown(t *testing.T) {
	for name, row := range map[string]struct {
		first answer
		got   int
	}{
		"500":         {answer{0, 500, "oops"}, 2},
		"HTML":        {answer{0, 200, "<html></html>"}, 1},
		"SUCCESS":     {answer{0, 200, "SUCCESS"}, 1},
		"1 MB":        {answer{0, 200, strings.Repeat("a", 1<<20)}, 1},
		"nothing":     {answer{0, 200, ""}, 1},
		"breaks off":  {answer{time.Second, 0, ""}, 2},
		"hangs":       {answer{time.Hour, 200, ""}, 2},
		"answers 204": {answer{0, 204, ""}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.target("shop", row.first, answer{0, 200, "success"})
				if shown, _ := w.push(text(1, "hello"), w.node()); shown != "success" {
					t.Errorf("the follower sees %q", shown)
				}
				time.Sleep(2 * time.Minute)
				if got := w.deliveries(); len(got) != row.got || w.waiting() != 0 {
					t.Errorf("%d deliveries, want %d; %d wait", len(got), row.got, w.waiting())
				}
			})
		})
	}
}

// While the application is down, messages are queued before WeChat is answered. After
// it has come back they arrive in order, and new ones are tried at once meanwhile.
func TestApplicationIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		down := true
		target := w.target("shop", answer{0, 200, "success"})
		up := target.Transport
		target.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			if down {
				return nil, errors.New("connection refused")
			}
			return up.RoundTrip(r)
		})
		n := w.node()
		for i := range 20 {
			if shown, attempt := w.push(text(i, "message"), n); shown != "success" || attempt != 1 {
				t.Errorf("message %d: %q at attempt %d", i, shown, attempt)
			}
			if w.waiting() != i+1 {
				t.Errorf("%d wait after %d messages", w.waiting(), i+1)
			}
			time.Sleep(100 * time.Millisecond)
		}
		n.kill() // nothing is in memory alone
		down = false
		w.node()
		time.Sleep(time.Minute)
		got := w.deliveries()
		if len(got) != 20 {
			t.Fatalf("%d of 20 arrived", len(got))
		}
		for i, each := range got {
			if !strings.Contains(each.text, ">"+strconv.Itoa(i)+"</MsgId>") {
				t.Errorf("number %d is %s", i, each.text)
			}
		}
	})
}

// WeChat is answered 503 only if the storage fails, and only if something was not taken.
func TestStorageFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{5 * time.Second, 200, reply("hi")})
		n := w.node()
		broken := true
		w.memory.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if broken {
				return errors.New("disk full")
			}
			return nil
		})
		if shown, _ := w.push(text(1, "taken"), n); shown != reply("hi") {
			t.Errorf("the follower sees %q", shown)
		}
		w.target("late", answer{0, 500, ""}, answer{0, 200, ""})
		plain := text(2, "not taken")
		if status, _ := n.serve(w.request(t.Context(), account, plain)); status != http.StatusServiceUnavailable {
			t.Errorf("status %d", status)
		}
		broken = false
		if status, shown := n.serve(w.request(t.Context(), account, plain)); status != 200 || shown != reply("hi") {
			t.Errorf("repeated: %d %q", status, shown)
		}
		if w.waiting() != 1 {
			t.Errorf("%d wait", w.waiting())
		}
	})
}

// A reply does not wait for a storage that hangs, nor does silence.
func TestStorageHangs(t *testing.T) {
	for _, body := range []string{reply("hi"), "success"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.target("shop", answer{4 * time.Second, 200, body})
			n := w.node()
			synctest.Wait()
			w.memory.Intercept(func(ctx context.Context, _ vaulttest.Op, _ string) error {
				<-ctx.Done()
				return ctx.Err()
			})
			began := time.Now()
			if shown, attempt := w.push(text(1, "hello"), n); shown != body || attempt != 1 || time.Since(began) != 4*time.Second {
				t.Errorf("%q at attempt %d after %v", shown, attempt, time.Since(began))
			}
			time.Sleep(time.Minute)
			w.memory.Intercept(nil)
		})
	}
}

// The gateway itself goes on to store a message for which WeChat was answered 503. A
// storage that fails for a few seconds shows no follower trouble.
func TestStorageComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{0, 500, ""}, answer{0, 200, "success"})
		n := w.node()
		synctest.Wait()
		w.memory.Intercept(func(context.Context, vaulttest.Op, string) error { return errors.New("disk full") })
		if shown, attempt := w.push(text(1, "hello"), n); shown != "unavailable" || attempt != 3 {
			t.Errorf("%q at attempt %d", shown, attempt)
		}
		if took := time.Since(w.deliveries()[0].at); took < 12*time.Second || took > 15*time.Second {
			t.Errorf("three answers took %v", took)
		}
		time.Sleep(30 * time.Second)
		w.memory.Intercept(nil)
		time.Sleep(time.Minute)
		if got := w.deliveries(); len(got) != 2 || w.waiting() != 0 {
			t.Errorf("%d deliveries, %d wait", len(got), w.waiting())
		}
		w.target("late", answer{0, 500, ""}, answer{0, 200, "success"})
		began := time.Now()
		w.memory.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == vaulttest.Store && time.Since(began) < 3*time.Second {
				return errors.New("disk full")
			}
			return nil
		})
		if shown, attempt := w.push(text(2, "hello"), n); shown != "success" || attempt != 1 {
			t.Errorf("%q at attempt %d", shown, attempt)
		}
	})
}

// Where WeChat does not ask again after it has hung up, messages are answered in time
// from the third on, for an hour.
func TestWeChatDoesNotRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.target("shop", answer{8 * time.Second, 200, reply("hi")})
		n := w.node()
		once := func(id int) (status int, shown string, took time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			began := time.Now()
			status, shown = n.serve(w.request(ctx, account, text(id, "hello")))
			took = time.Since(began)
			time.Sleep(time.Minute)
			return status, shown, took
		}
		for id := range 2 {
			if status, _, took := once(id); status != 0 || took != 5*time.Second {
				t.Errorf("message %d: status %d after %v, want to be held until WeChat hangs up", id, status, took)
			}
		}
		for id := 2; id < 50; id++ {
			if status, shown, took := once(id); status != 200 || shown != "success" || took != replyTimeout {
				t.Errorf("message %d: %d %q after %v", id, status, shown, took)
			}
		}
		if said := w.logs.FilterMessageSnippet("WeChat does not repeat").Len(); said != 1 {
			t.Errorf("said %d times", said)
		}
		time.Sleep(time.Hour)
		if status, _, _ := once(99); status != 0 {
			t.Errorf("after an hour: status %d", status)
		}
		if got := w.deliveries(); len(got) != 51 {
			t.Errorf("%d deliveries of 51 messages", len(got))
		}
	})
}

// A reply that comes too late is dropped, and the log says how long it took and what
// would have been in time.
func TestLateReplyIsSaid(t *testing.T) {
	for name, row := range map[string]struct {
		took   time.Duration
		set    func(*node)
		remedy string
	}{
		"an official account": {16 * time.Second, func(n *node) { n.profiles(true) }, "answer within 14 seconds"},
		"a mini program":      {7 * time.Second, func(n *node) { n.profiles(false) }, "answer within 4.5 seconds, but if the account is no official one"},
		"WeChat does not repeat": {7 * time.Second, func(n *node) {
			for range maxMissed {
				n.Habits.missed(subject.Of(component, account), time.Now())
			}
		}, "answer within 4.5 seconds"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.target("shop", answer{row.took, 200, reply("hi")})
				n := w.node()
				row.set(n)
				w.push(text(1, "hello"), n)
				time.Sleep(2 * time.Minute)
				said := w.logs.FilterMessageSnippet("a reply came too late").All()
				if len(said) != 1 || said[0].ContextMap()["took"] != row.took || !strings.Contains(fmt.Sprint(said[0].ContextMap()["remedy"]), row.remedy) {
					t.Errorf("%v", said)
				}
			})
		})
	}
}
