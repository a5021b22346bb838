// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// never is how long a push takes that is not answered.
func never(int) (time.Duration, error) { return 24 * time.Hour, nil }

// bubble runs a test with a world under virtual time.
func bubble(t *testing.T, cfg sandbox.Config, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, cfg)) })
}

func TestAMessageIsHungUpOnAfter5SecondsAndPushedThreeTimes(t *testing.T) {
	bubble(t, sandbox.Config{}, func(t *testing.T, w *world) {
		w.receiver.takes = never
		began := time.Now()
		answer, err := w.Push(t.Context(), w.Text(official, "o1", "hi"))
		if !errors.Is(err, context.DeadlineExceeded) || answer.Shown != sandbox.ShownUnavailable {
			t.Errorf("%v, the follower sees %q", err, answer.Shown)
		}
		if took := time.Since(began); took != 15*time.Second || answer.Attempts != 3 || len(answer.Tries) != 3 {
			t.Errorf("%d attempts, %d tries, took %v", answer.Attempts, len(answer.Tries), took)
		}
		signatures := map[string]bool{}
		for i, p := range w.receiver.all() {
			try, offset := answer.Tries[i], time.Duration(i)*5*time.Second
			if p.at.Sub(began) != offset || try.Took != 5*time.Second || !try.HungUp || try.Err == "" || try.Number != i+1 {
				t.Errorf("attempt %d began after %v: %+v", i+1, p.at.Sub(began), try)
			}
			if !p.signed || p.query.Get("timestamp") != strconv.FormatInt(began.Add(offset).Unix(), 10) {
				t.Errorf("attempt %d: signed %v, timestamp %s", i+1, p.signed, p.query.Get("timestamp"))
			}
			if p.plain != w.receiver.all()[0].plain || p.field("CreateTime") != strconv.FormatInt(began.Unix(), 10) {
				t.Errorf("attempt %d says something else: %s", i+1, p.plain)
			}
			signatures[p.query.Get("msg_signature")] = true
		}
		if len(signatures) != 3 {
			t.Errorf("%d different signatures", len(signatures))
		}
	})
}

func TestAnEventIsHungUpOnAndRepeatedAsWell(t *testing.T) {
	bubble(t, sandbox.Config{}, func(t *testing.T, w *world) {
		w.receiver.takes = never
		began := time.Now()
		if err := w.PushEvent(t.Context(), "notify_3rd_wxa_auth", ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if records := w.Pushes(); time.Since(began) != 15*time.Second || len(records) != 3 || !records[0].HungUp {
			t.Errorf("took %v, records %+v", time.Since(began), records)
		}
	})
}

func TestALaterAttemptGetsTheReply(t *testing.T) {
	bubble(t, sandbox.Config{}, func(t *testing.T, w *world) {
		w.receiver.answer = sealedReply(textReply("o1", "at last"))
		w.receiver.takes = func(n int) (time.Duration, error) {
			return map[int]time.Duration{1: 5*time.Second + 1, 2: 2 * time.Second}[n], nil
		}
		answer, err := w.Push(t.Context(), w.Text(official, "o1", "hi"))
		w.must(err)
		if answer.Shown != sandbox.ShownReply || answer.Reply != textReply("o1", "at last") || answer.Attempts != 2 {
			t.Errorf("%+v", answer)
		}
		first, second := answer.Tries[0], answer.Tries[1]
		if !first.HungUp || first.Reply != "" || second.HungUp || second.Took != 2*time.Second || second.Reply != answer.Reply || second.Status != 200 {
			t.Errorf("tries %+v", answer.Tries)
		}
	})
}

func TestPushTimeoutIsShorterOnDemandAndSpeedDoesNotTouchIt(t *testing.T) {
	for _, cfg := range []sandbox.Config{{PushTimeout: time.Second / 2}, {PushTimeout: time.Second / 2, Speed: 60}} {
		bubble(t, cfg, func(t *testing.T, w *world) {
			w.receiver.takes = never
			began := time.Now()
			_, _ = w.Push(t.Context(), w.Text(official, "o1", "hi"))
			if took := time.Since(began); took != 3*cfg.PushTimeout {
				t.Errorf("took %v", took)
			}
		})
	}
	if _, err := sandbox.New(sandbox.Config{PushTimeout: -1}); err == nil {
		t.Error("a negative time-out is taken")
	}
}

func TestWeChatThatDoesNotAskAgain(t *testing.T) {
	bubble(t, sandbox.Config{}, func(t *testing.T, w *world) {
		w.lever("switches", `{"no_repeat_after_timeout":true}`)
		for name, row := range map[string]struct {
			takes    func(int) (time.Duration, error)
			attempts int
		}{
			"hung up on":          {never, 1},
			"a broken connection": {func(int) (time.Duration, error) { return 0, syscall.ECONNRESET }, 3},
		} {
			w.receiver.takes = row.takes
			answer, err := w.Push(t.Context(), w.Text(official, "o1", "hi"))
			if err == nil || answer.Attempts != row.attempts || answer.Shown != sandbox.ShownUnavailable {
				t.Errorf("%s: %d attempts, shown %q, %v", name, answer.Attempts, answer.Shown, err)
			}
		}
		w.receiver.takes = never
		before := len(w.receiver.all())
		if err := w.PushTicket(t.Context()); err == nil || len(w.receiver.all()) != before+1 {
			t.Errorf("an event: %d attempts, %v", len(w.receiver.all())-before, err)
		}
	})
}

// A caller who gives up is not WeChat hanging up.
func TestAPushEndsWithItsContext(t *testing.T) {
	bubble(t, sandbox.Config{}, func(t *testing.T, w *world) {
		w.receiver.takes = never
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		answer, err := w.Push(ctx, w.Text(official, "o1", "hi"))
		if err == nil || answer.Attempts != 1 || answer.Shown != "" || answer.Tries[0].HungUp {
			t.Errorf("%+v, %v", answer, err)
		}
	})
}

func TestOneMessageManyTimes(t *testing.T) {
	bubble(t, sandbox.Config{}, func(t *testing.T, w *world) {
		hello := w.Text(official, "o1", "hi")
		hello.To = []string{"http://a.test/messages/$APPID$", "http://b.test/messages/$APPID$?x=1"}
		w.receiver.takes = func(n int) (time.Duration, error) { return map[int]time.Duration{1: time.Minute}[n], nil }
		answer, err := w.Push(t.Context(), hello)
		w.must(err)
		all := w.receiver.all()
		if a, b := all[0].request.URL, all[1].request.URL; a.Host+a.Path != "a.test/messages/"+official || b.Host != "b.test" || all[1].query.Get("x") != "1" {
			t.Errorf("pushed to %s and %s", a, b)
		}
		first := all[0]

		w.must(w.PushTicket(t.Context())) // and so the message is not the last push
		time.Sleep(9 * time.Minute)
		push := func(p sandbox.Push) pushed {
			t.Helper()
			answer, err := w.Push(t.Context(), p)
			w.must(err)
			if answer.Shown != sandbox.ShownSilence {
				t.Errorf("%+v is not judged as a message", p)
			}
			return w.receiver.last()
		}
		number := answer.Tries[0].Number
		if p := push(sandbox.Push{Replay: true, Number: number, To: []string{"http://c.test"}}); p.body != first.body ||
			p.query.Encode() != first.query.Encode() || p.request.URL.Host != "c.test" {
			t.Errorf("Replay is not the same byte for byte: %s", p.request.URL)
		}
		p := push(sandbox.Push{Again: true, Number: number})
		if p.body == first.body || !p.signed || p.plain != first.plain || p.query.Get("openid") != "o1" ||
			p.request.URL.Host != "gateway.test" || p.query.Get("timestamp") != strconv.FormatInt(time.Now().Unix(), 10) {
			t.Errorf("Again: %s %s", p.request.URL, p.plain)
		}
		if p := push(sandbox.Push{Again: true}); p.plain != first.plain {
			t.Errorf("Again does not mean the last push: %s", p.plain)
		}
		if _, err := w.Push(t.Context(), sandbox.Push{Replay: true, Number: 99}); err == nil {
			t.Error("replayed what never was")
		}
	})
}

func TestAgainIsTheSameMessageAtEveryAttempt(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	_, err := w.Push(t.Context(), w.Text(official, "o1", "hi"))
	w.must(err)
	// Another push comes between each two attempts.
	w.receiver.takes = func(n int) (time.Duration, error) {
		if n%2 == 0 {
			_, _ = w.Push(context.Background(), sandbox.Push{Plain: "<xml/>", Attempts: 1})
			return 0, syscall.ECONNRESET
		}
		return 0, nil
	}
	answer, _ := w.Push(t.Context(), sandbox.Push{Again: true})
	for i, try := range answer.Tries {
		if len(answer.Tries) != 3 || elements(try.Plain)["Content"] != "hi" {
			t.Errorf("attempt %d of %d: %s", i+1, len(answer.Tries), try.Plain)
		}
	}
}

func TestWhatTheHistoryHasForgottenIsNotPushedAgain(t *testing.T) {
	w := newWorld(t, sandbox.Config{History: 1})
	for range 2 {
		w.must(w.PushTicket(t.Context()))
	}
	if _, err := w.Push(t.Context(), sandbox.Push{Again: true, Number: 1}); err == nil {
		t.Error("another push is taken for it")
	}
	_, err := w.Push(t.Context(), sandbox.Push{Again: true, Number: 2})
	w.must(err)
}

// 300 a second, each of which takes 4 s.
func TestPushesDoNotWaitForEachOther(t *testing.T) {
	bubble(t, sandbox.Config{History: 500}, func(t *testing.T, w *world) {
		w.receiver.takes = func(int) (time.Duration, error) { return 4 * time.Second, nil }
		began := time.Now()
		var all sync.WaitGroup
		for i := range 1200 {
			all.Go(func() {
				answer, err := w.Push(t.Context(), w.Text(official, fmt.Sprint("o", i%100), "hi"))
				if err != nil || answer.Tries[0].Took != 4*time.Second {
					t.Errorf("%+v, %v", answer, err)
				}
			})
			if i%300 == 299 {
				time.Sleep(time.Second)
			}
		}
		if w.Pushes(); time.Since(began) != 4*time.Second {
			t.Error("asking for the history waits for pushes")
		}
		all.Wait()
		if took, kept := time.Since(began), len(w.Pushes()); took > 8*time.Second || kept != 500 {
			t.Errorf("took %v, %d kept", took, kept)
		}
	})
}

func TestHistoryKeepsTheBeginningOfALargeAnswer(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	w.receiver.answer = strings.Repeat("a", 100_000)
	answer, err := w.Push(t.Context(), w.Text(official, "o1", "hi"))
	if err == nil || len(answer.Body) != 100_000 || len(answer.Tries[0].Body) != 100_000 {
		t.Errorf("%d bytes, %v", len(answer.Body), err)
	}
	if kept := w.Pushes()[0].Body; len(kept) != 64<<10 {
		t.Errorf("%d bytes kept", len(kept))
	}
}

func TestStatusesOtherThan200AreRepeated(t *testing.T) {
	for _, status := range []int{http.StatusNoContent, http.StatusFound, http.StatusForbidden, http.StatusServiceUnavailable} {
		w := newWorld(t, sandbox.Config{})
		w.receiver.status = status
		answer, err := w.Push(t.Context(), w.Text(official, "o1", "hi"))
		if err == nil || answer.Attempts != 3 || answer.Status != status || answer.Shown != sandbox.ShownUnavailable {
			t.Errorf("status %d: %+v, %v", status, answer, err)
		}
	}
}
