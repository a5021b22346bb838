// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
)

const (
	incoming = "<xml><ToUserName><![CDATA[" + userName + "]]></ToUserName><MsgType><![CDATA[text]]></MsgType></xml>"
	outgoing = "<xml><ToUserName><![CDATA[" + openID + "]]></ToUserName><FromUserName><![CDATA[" + userName + "]]></FromUserName>" +
		"<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[好]]></Content></xml>"
)

var message = delivery.Message{AppID: account, ToUserName: userName, OpenID: openID, Plain: []byte(incoming)}

// send delivers the message and returns the reply with what failed.
func send(t testing.TB, app *application, targets ...*delivery.Target) (reply string, failures map[string]error, err error) {
	t.Helper()
	var mu sync.Mutex
	failures = make(map[string]error)
	for _, target := range targets {
		target.Transport = app
	}
	answer, err := message.Deliver(time.Now().Add(4500*time.Millisecond), targets, func(target *delivery.Target, err error) {
		mu.Lock()
		defer mu.Unlock()
		failures[target.Client] = err
	})
	mu.Lock()
	defer mu.Unlock()
	return string(answer), failures, err
}

// perHost answers by the first label of the host, after a while.
func perHost(answers map[string]struct {
	after  time.Duration
	status int
	body   string
}) *application {
	return &application{answer: func(r *http.Request, got received) (int, string, error) {
		a := answers[strings.TrimSuffix(got.host, ".test")]
		select {
		case <-time.After(a.after):
			return a.status, a.body, nil
		case <-r.Context().Done():
			return 0, "", r.Context().Err()
		}
	}}
}

func TestSeveralClients(t *testing.T) {
	type answers = map[string]struct {
		after  time.Duration
		status int
		body   string
	}
	other := strings.ReplaceAll(outgoing, "好", "no")
	for name, row := range map[string]struct {
		answers answers
		reply   string
		fails   bool
		takes   time.Duration
	}{
		"the only reply wins, and nobody waits for a slow one behind it": {
			answers{"a": {0, 200, "success"}, "b": {time.Second, 200, outgoing}, "c": {4 * time.Second, 200, ""}}, outgoing, false, time.Second},
		"of two replies that of the first name wins, though it comes later": {
			answers{"a": {2 * time.Second, 200, outgoing}, "b": {0, 200, other}, "c": {0, 200, ""}}, outgoing, false, 2 * time.Second},
		"a failure does not spoil the reply of another": {
			answers{"a": {0, 500, ""}, "b": {0, 200, outgoing}, "c": {0, 200, "ok"}}, outgoing, false, 0},
		"one taker is enough": {
			answers{"a": {0, 500, ""}, "b": {time.Minute, 200, ""}, "c": {0, 200, "success"}}, "", false, 4500 * time.Millisecond},
		"no taker": {
			answers{"a": {0, 500, ""}, "b": {time.Minute, 200, outgoing}, "c": {0, 404, ""}}, "", true, 4500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				app := perHost(row.answers)
				began := time.Now()
				reply, _, err := send(t, app, plainTarget(t, "a"), plainTarget(t, "b"), plainTarget(t, "c"))
				if reply != row.reply || errors.Is(err, delivery.ErrUndelivered) != row.fails {
					t.Errorf("%q, %v", reply, err)
				}
				if took := time.Since(began); took != row.takes {
					t.Errorf("took %v", took)
				}
				time.Sleep(5 * time.Second) // those who are not waited for end as well
				if n := len(app.all()); n != 3 {
					t.Errorf("%d of 3 clients got it", n)
				}
			})
		})
	}
}

func TestTheSlowAreNotCutOffByTheFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		finished := false
		app := &application{}
		app.answer = func(r *http.Request, got received) (int, string, error) {
			if got.host == "a.test" {
				return 200, outgoing, nil
			}
			select {
			case <-time.After(4 * time.Second):
				finished = true
				return 200, "success", nil
			case <-r.Context().Done():
				return 0, "", r.Context().Err()
			}
		}
		if reply, _, _ := send(t, app, plainTarget(t, "a"), plainTarget(t, "b")); reply != outgoing {
			t.Errorf("%q", reply)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !finished {
			t.Error("the delivery to b was cut off")
		}
	})
}

func BenchmarkDeliver(b *testing.B) {
	for name, target := range map[string]*delivery.Target{"plain": plainTarget(b, "shop"), "safe": safeTarget(b, "shop")} {
		app := transportFunc(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("success"))}, nil
		})
		target.Transport = app
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := message.Deliver(time.Now().Add(time.Minute), []*delivery.Target{target}, func(*delivery.Target, error) {})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
