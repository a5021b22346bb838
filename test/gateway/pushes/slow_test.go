// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// takes is an application that needs the time that stands in the message.
func takes(_ url.Values, body string) (int, string) {
	for word := range strings.FieldsFuncSeq(body, func(r rune) bool { return r == '[' || r == ']' }) {
		if d, err := time.ParseDuration(word); err == nil {
			time.Sleep(d)
		}
	}
	return http.StatusOK, passive("after all")
}

// With a real clock, real sockets and WeChat's habits: each message is delivered once
// and answered by the attempt that is in progress when the application is ready. One
// that takes more than 20 seconds gets it a second time, with the same id.
func TestFollowersOfSlowApplications(t *testing.T) {
	w := newDeliveryWorld(t)
	w.shop.AnswerWith(takes)
	var all sync.WaitGroup
	for _, row := range []struct {
		takes    string
		shown    string
		attempts int
		got      int
	}{
		{"3s", sandbox.ShownReply, 1, 1},
		{"7s", sandbox.ShownReply, 2, 1},
		{"12s", sandbox.ShownReply, 3, 1},
		{"18s", sandbox.ShownSilence, 3, 1},
		{"22s", sandbox.ShownSilence, 3, 2},
	} {
		all.Go(func() {
			answer, err := w.Push(t.Context(), w.Text(shopAccount, "follower of "+row.takes, row.takes))
			if err != nil || answer.Shown != row.shown || answer.Attempts != row.attempts {
				t.Errorf("%s: %s at attempt %d, %v; want %s at %d", row.takes, answer.Shown, answer.Attempts, err, row.shown, row.attempts)
			}
		})
	}
	all.Wait()
	got := func(takes string) (ids []string) {
		for _, delivery := range w.shop.Deliveries() {
			if strings.Contains(delivery.Body, "["+takes+"]") {
				ids = append(ids, delivery.Query.Get("event_id"))
			}
		}
		return ids
	}
	w.eventually("the slowest gets it again", func() bool { return len(got("22s")) == 2 })
	if ids := got("22s"); ids[0] != ids[1] {
		t.Errorf("the ids of the slowest are %v", ids)
	}
	for _, takes := range []string{"3s", "7s", "12s", "18s"} {
		if ids := got(takes); len(slices.Compact(ids)) != 1 || len(got(takes)) != 1 {
			t.Errorf("%s got it %d times", takes, len(got(takes)))
		}
	}
}
