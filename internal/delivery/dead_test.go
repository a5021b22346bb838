// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics/metricstest"
)

func TestWhatIsTooOldDiesWhileTheTargetIsPausedOrDown(t *testing.T) {
	for name, answer := range map[string]func(attempt) delivery.Result{"paused": gone, "down": fails} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, nil)
				c.targets[shop].RetryFor = time.Hour
				s := &script{answer: answer}
				node := c.scripted(s)
				for i := range 500 {
					c.queue(node, numbered(i), fmt.Sprintf("a%03d1", i))
				}
				time.Sleep(59 * time.Minute)
				synctest.Wait()
				if c.waiting() != 500 || c.dead() != 0 {
					t.Fatalf("too early: %d waiting, %d dead", c.waiting(), c.dead())
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if c.waiting() != 0 || c.dead() != 500 {
					t.Errorf("%d waiting, %d dead", c.waiting(), c.dead())
				}
				if n := metricstest.Value(t, "caddy_wechat_events_dead", "shop", "main"); n != 500 {
					t.Errorf("shown are %v dead", n)
				}
			})
		})
	}
}

func TestAFullQueueMakesDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		c.targets[shop].MaxWaiting = 5
		s := &script{answer: fails}
		node := c.scripted(s)
		before := metricstest.Value(t, "caddy_wechat_deliveries_total", "shop", "message", "dead", "main")
		for i := range 8 {
			c.queue(node, numbered(i), fmt.Sprintf("a%03d1", i))
		}
		synctest.Wait()
		if c.waiting() != 5 || c.dead() != 3 {
			t.Errorf("%d waiting, %d dead", c.waiting(), c.dead())
		}
		page, err := node.Events(t.Context(), delivery.Filter{Dead: true})
		if err != nil || len(page.Items) != 3 || page.Items[0].Failure != "the queue was full" {
			t.Errorf("%+v, %v", page, err)
		}
		if n := metricstest.Value(t, "caddy_wechat_deliveries_total", "shop", "message", "dead", "main") - before; n != 3 {
			t.Errorf("%v counted", n)
		}
		// At most ten times as many dead letters are kept.
		for i := range 100 {
			c.queue(node, numbered(i), fmt.Sprintf("b%03d1", i))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if c.dead() != 50 {
			t.Errorf("%d dead letters", c.dead())
		}
		if page, err = node.Events(t.Context(), delivery.Filter{Dead: true, Limit: 1}); err != nil || !strings.HasPrefix(page.Items[0].EventID, "b050") {
			t.Errorf("the oldest is %+v, %v", page.Items, err)
		}
		if dropped := c.logs.FilterMessageSnippet("dead letter deleted").Len(); dropped != 53 {
			t.Errorf("%d deletions are logged", dropped)
		}
	})
}

func TestDeadLettersAreKeptThirtyDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: gone}
		node := c.scripted(s)
		c.queue(node, account, "a1")
		time.Sleep(73 * time.Hour)
		if c.dead() != 1 {
			t.Fatalf("%d dead", c.dead())
		}
		before := metricstest.Value(t, "caddy_wechat_deliveries_total", "shop", "message", "dropped", "main")
		time.Sleep(30*24*time.Hour - 2*time.Hour)
		if c.dead() != 1 {
			t.Error("deleted before the end of 30 days")
		}
		time.Sleep(2 * time.Hour)
		if n := metricstest.Value(t, "caddy_wechat_deliveries_total", "shop", "message", "dropped", "main") - before; c.dead() != 0 || n != 1 {
			t.Errorf("%d dead after 30 days, %v counted as dropped", c.dead(), n)
		}
	})
}
