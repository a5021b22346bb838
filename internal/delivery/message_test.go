// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
)

const (
	incoming = "<xml><ToUserName><![CDATA[" + userName + "]]></ToUserName><MsgType><![CDATA[text]]></MsgType></xml>"
	outgoing = "<xml><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[好]]></Content></xml>"
)

var message = delivery.Message{AppID: account, ToUserName: userName, OpenID: openID, Plain: []byte(incoming)}

// send delivers the message and returns the reply with what failed.
func send(t testing.TB, app *application, targets ...*delivery.Target) (reply string, failures map[string]error, err error) {
	t.Helper()
	var mu sync.Mutex
	failures = make(map[string]error)
	answer, err := message.Deliver(time.Now().Add(4500*time.Millisecond), app, targets, func(target *delivery.Target, err error) {
		mu.Lock()
		defer mu.Unlock()
		failures[target.Client] = err
	})
	mu.Lock()
	defer mu.Unlock()
	return string(answer), failures, err
}

func names(query map[string][]string) []string {
	var names []string
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestPlainModeIsAsWeChatDefinesIt(t *testing.T) {
	app := answering(http.StatusOK, "success")
	if reply, _, err := send(t, app, plainTarget(t, "shop")); reply != "" || err != nil {
		t.Fatalf("%q, %v", reply, err)
	}
	got := app.all()[0]
	if got.method != http.MethodPost || got.host != "shop.test" || got.path != "/wechat" || got.contentType != "text/xml; charset=utf-8" {
		t.Errorf("%+v", got)
	}
	if got.body != incoming {
		t.Errorf("body %s", got.body)
	}
	q := got.query
	if diff := cmp.Diff([]string{"app", "appid", "nonce", "openid", "signature", "timestamp"}, names(q)); diff != "" {
		t.Error(diff)
	}
	if q.Get("appid") != account || q.Get("openid") != openID || q.Get("app") != "1" {
		t.Errorf("query %v", q)
	}
	if q.Get("signature") != sign(clientToken, q.Get("timestamp"), q.Get("nonce")) {
		t.Error("signature does not fit")
	}
	seconds, _ := strconv.ParseInt(q.Get("timestamp"), 10, 64)
	if time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
		t.Errorf("timestamp %s", q.Get("timestamp"))
	}
}

func TestSafeModeIsThatOfAnOrdinaryAccount(t *testing.T) {
	app := &application{answer: func(*http.Request, received) (int, string, error) {
		return http.StatusOK, sealReply(t, clientToken, clientKey, account, outgoing), nil
	}}
	reply, _, err := send(t, app, safeTarget(t, "shop"))
	if reply != outgoing || err != nil {
		t.Fatalf("%q, %v", reply, err)
	}
	got := app.all()[0]
	want := []string{"app", "appid", "encrypt_type", "msg_signature", "nonce", "openid", "signature", "timestamp"}
	if diff := cmp.Diff(want, names(got.query)); diff != "" {
		t.Error(diff)
	}
	envelope := elements(t, got.body)
	if len(envelope) != 2 || envelope["ToUserName"] != userName {
		t.Errorf("envelope %v", envelope)
	}
	q := got.query
	if q.Get("msg_signature") != sign(clientToken, q.Get("timestamp"), q.Get("nonce"), envelope["Encrypt"]) {
		t.Error("msg_signature does not fit")
	}
	if q.Get("signature") != sign(clientToken, q.Get("timestamp"), q.Get("nonce")) || q.Get("encrypt_type") != "aes" {
		t.Errorf("query %v", q)
	}
	if text, receiveID := unseal(t, clientKey, envelope["Encrypt"]); text != incoming || receiveID != account {
		t.Errorf("%q for %q", text, receiveID)
	}
}

func TestAnswersInPlainMode(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		answer string
		reply  string
		fails  bool
	}{
		"success is no reply":                        {200, "success", "", false},
		"success and a line feed is no reply":        {200, "success\n", "", false},
		"nothing is no reply":                        {200, "", "", false},
		"204 is no reply":                            {204, "", "", false},
		"XML is a reply":                             {200, outgoing, outgoing, false},
		"XML with a declaration is a reply":          {200, "<?xml version=\"1.0\"?>" + outgoing + "\n", "<?xml version=\"1.0\"?>" + outgoing, false},
		"XML of 64 KiB is a reply":                   {200, big(64 << 10), big(64 << 10), false},
		"a byte more fails":                          {200, big(64<<10 + 1), "", true},
		"an error page fails":                        {200, "<html><body>Bad gateway</body></html>", "", true},
		"a word fails":                               {200, "ok", "", true},
		"JSON fails":                                 {200, `{"errcode":0}`, "", true},
		"half a document fails":                      {200, "<xml><Content>", "", true},
		"two documents fail":                         {200, outgoing + outgoing, "", true},
		"text behind the document fails":             {200, outgoing + "success", "", true},
		"a DOCTYPE fails":                            {200, "<!DOCTYPE xml>" + outgoing, "", true},
		"what is not UTF-8 fails":                    {200, "<xml>\xff</xml>", "", true},
		"a redirect fails and is not followed":       {302, "", "", true},
		"an error status fails, whatever comes with": {500, outgoing, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			app := answering(row.status, row.answer)
			reply, failures, err := send(t, app, plainTarget(t, "shop"))
			if reply != row.reply || (err != nil) != row.fails || (failures["shop"] != nil) != row.fails {
				t.Errorf("%.80q, %v, %v", reply, failures, err)
			}
			if row.fails && !errors.Is(err, delivery.ErrUndelivered) {
				t.Error(err)
			}
			if n := len(app.all()); n != 1 {
				t.Errorf("%d requests", n)
			}
			if failure := failures["shop"]; failure != nil && strings.Contains(failure.Error(), "Content") {
				t.Errorf("the error quotes the answer: %v", failure)
			}
		})
	}
}

func big(size int) string {
	return "<xml><Content>" + strings.Repeat("a", size-len("<xml><Content></Content></xml>")) + "</Content></xml>"
}

func TestAnswersInSafeMode(t *testing.T) {
	for name, row := range map[string]struct {
		answer string
		reply  string
		fails  bool
	}{
		"success is never sealed":      {"success", "", false},
		"nothing is never sealed":      {"", "", false},
		"a sealed reply":               {sealReply(t, clientToken, clientKey, account, outgoing), outgoing, false},
		"a reply in clear":             {outgoing, "", true},
		"one signed with other tokens": {sealReply(t, "OTHERtoken", clientKey, account, outgoing), "", true},
		"one of another key":           {sealReply(t, clientToken, strings.ToLower(clientKey), account, outgoing), "", true},
		"one for another account":      {sealReply(t, clientToken, clientKey, account2, outgoing), "", true},
		"one for the component":        {sealReply(t, clientToken, clientKey, component, outgoing), "", true},
		"a sealed error page":          {sealReply(t, clientToken, clientKey, account, "<html></html>"), "", true},
	} {
		t.Run(name, func(t *testing.T) {
			reply, _, err := send(t, answering(200, row.answer), safeTarget(t, "shop"))
			if reply != row.reply || (err != nil) != row.fails {
				t.Errorf("%q, %v", reply, err)
			}
		})
	}
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
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := message.Deliver(time.Now().Add(time.Minute), app, []*delivery.Target{target}, func(*delivery.Target, error) {})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
