// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

func TestATargetThatIsDownGetsOneAttemptAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		c.targets[shop].Concurrency = 3
		s := &script{answer: fails}
		node := c.idle()
		node.SetSend(s.send)
		for i := range 100 {
			c.queue(node, numbered(i), fmt.Sprintf("a%03d1", i))
		}
		node.Serve(c.targets)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		all := s.of("a")
		if len(all) < 20 {
			t.Fatalf("%d attempts in ten minutes", len(all))
		}
		for i := 5; i < len(all); i++ { // up to five begin before the third has failed
			if gap := all[i].at.Sub(all[i-1].at); gap < time.Second || gap > 31*time.Second {
				t.Errorf("attempt %d came %v after the one before", i+1, gap)
			}
		}
		s.become(takes)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if c.waiting() != 0 {
			t.Errorf("%d wait after the target has come back", c.waiting())
		}
	})
}

// The first success makes due what failed while the target was down, though its own
// delay has grown to minutes. The success may be that of a direct attempt.
func TestADirectSuccessWakesWhatFailedWhileTheTargetWasDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: fails}
		node := c.scripted(s)
		c.queue(node, account, "a1")
		time.Sleep(30 * time.Minute)
		s.become(takes)
		n := len(s.of("a"))
		if !node.Begin(c.targets[shop]) {
			t.Fatal("a target that is down gets no new message")
		}
		node.Ended(c.targets[shop], delivery.Result{})
		synctest.Wait()
		if len(s.of("a")) != n+1 || c.waiting() != 0 {
			t.Errorf("%d attempts more, %d waiting", len(s.of("a"))-n, c.waiting())
		}
	})
}

// An item that always fails, while others are taken, must not be tried at every
// success, nor make the target count as down, not even with others like it.
func TestItemsThatAlwaysFailAreNotTriedAtEverySuccess(t *testing.T) {
	for _, poison := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(poison), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, nil)
				s := &script{answer: func(a attempt) delivery.Result {
					if strings.HasPrefix(a.name, "bad") {
						return fails(a)
					}
					return takes(a)
				}}
				node := c.scripted(s)
				for i := range poison {
					c.queue(node, numbered(i), fmt.Sprintf("bad%d1", i))
				}
				synctest.Wait()
				longest := time.Duration(0)
				for i := range 1800 { // a message each second, for half an hour
					began := time.Now()
					c.queue(node, numbered(1000+i), fmt.Sprintf("a%04d1", i))
					time.Sleep(time.Second)
					if made := s.of(fmt.Sprintf("a%04d1", i)); len(made) > 0 {
						longest = max(longest, made[0].at.Sub(began))
					}
				}
				synctest.Wait()
				if n := len(s.of("bad")); n > 16*poison {
					t.Errorf("%d attempts for what always fails", n)
				}
				if got := c.waiting(); got != poison {
					t.Errorf("%d waiting, want %d", got, poison)
				}
			})
		})
	}
}

// What the health knows outlives a reload.
func TestAReloadForgetsNothingOfATarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		node := c.idle()
		node.Serve(c.targets)
		hung := delivery.Result{Err: context.DeadlineExceeded, Hung: true}
		for range 3 {
			node.Begin(c.targets[shop])
		}
		for range 3 {
			node.Ended(c.targets[shop], hung)
		}
		synctest.Wait()
		same := *c.targets[shop]
		c.targets = map[vault.Queue]*delivery.Target{shop: &same}
		node.Serve(c.targets)
		if !node.Begin(&same) || node.Begin(&same) {
			t.Error("after a reload, not exactly one probe")
		}
	})
}

func Test410PausesUntilTheURLChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: gone}
		node := c.scripted(s)
		c.queue(node, account, "a1")
		synctest.Wait()
		s.become(takes)
		c.queue(node, account2, "b1")
		node.Serve(c.targets) // a reload that changes nothing
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(s.of("")); n != 1 || c.waiting() != 2 {
			t.Fatalf("%d attempts, %d waiting", n, c.waiting())
		}
		if node.Begin(c.targets[shop]) {
			t.Error("a new message is tried directly")
		}
		alarms := c.logs.FilterMessageSnippet("410").FilterLevelExact(zapcore.ErrorLevel)
		if alarms.Len() != 1 || alarms.All()[0].ContextMap()["remedy"] == nil {
			t.Errorf("alarms: %v", alarms.All())
		}
		moved := *c.targets[shop]
		other := *moved.URL
		other.Path = "/elsewhere"
		moved.URL = &other
		c.targets[shop] = &moved
		node.Serve(c.targets)
		synctest.Wait()
		if c.waiting() != 0 || !node.Begin(&moved) {
			t.Errorf("%d waiting after the URL has changed", c.waiting())
		}
	})
}

func TestAPauseEndsWithAReplayOrATest(t *testing.T) {
	for name, end := range map[string]func(*delivery.Courier) (int, error){
		"replay": func(node *delivery.Courier) (int, error) {
			return node.Replay(context.Background(), delivery.Selection{Client: "shop"})
		},
		"test": func(node *delivery.Courier) (int, error) { return node.Test(context.Background(), "shop", "") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, nil)
				s := &script{answer: gone}
				node := c.scripted(s)
				c.queue(node, account, "a1")
				synctest.Wait()
				s.become(takes)
				if n, err := end(node); n != 1 || err != nil {
					t.Errorf("%d, %v", n, err)
				}
				time.Sleep(3 * time.Second)
				synctest.Wait()
				if c.waiting() != 0 || !node.Begin(c.targets[shop]) {
					t.Error("still paused")
				}
				// Also if nothing waits.
				node.Ended(c.targets[shop], gone(attempt{}))
				if node.Begin(c.targets[shop]) {
					t.Error("not paused")
				}
				if _, err := end(node); err != nil || !node.Begin(c.targets[shop]) {
					t.Errorf("still paused, with an empty queue: %v", err)
				}
			})
		})
	}
}

func TestHungAttemptsLeaveOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		node := c.idle()
		target := c.targets[shop]
		hung := delivery.Result{Err: context.DeadlineExceeded, Hung: true}
		for range 3 {
			if !node.Begin(target) {
				t.Fatal("refused before three have hung")
			}
		}
		for range 3 {
			node.Ended(target, hung)
		}
		if !node.Begin(target) || node.Begin(target) {
			t.Error("not exactly one probe")
		}
		node.Ended(target, hung)
		if !node.Begin(target) || node.Begin(target) {
			t.Error("not exactly one probe after one that has hung")
		}
		node.Ended(target, delivery.Result{Err: errDown}) // it answers
		if first, second := node.Begin(target), node.Begin(target); !first || !second {
			t.Error("still bounded after an answer")
		}
		node.Ended(target, delivery.Result{})
		node.Ended(target, delivery.Result{})
		for range 256 {
			if !node.Begin(target) {
				t.Fatal("refused before 256 are running")
			}
		}
		if node.Begin(target) {
			t.Error("more than 256")
		}
		node.Serve(nil) // what runs is still counted after a reload
		if node.Begin(target) {
			t.Error("forgotten at a reload")
		}
	})
}
