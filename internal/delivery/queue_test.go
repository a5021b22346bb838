// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
)

// script is an application that needs no requests. It notes each attempt.
type script struct {
	mu       sync.Mutex
	attempts []attempt
	answer   func(a attempt) delivery.Result // called without mu
}

// attempt is one attempt to deliver the item with this name.
type attempt struct {
	name, account string
	at            time.Time
	number        int // of all attempts, from 1
}

func (s *script) send(_ context.Context, _ *delivery.Target, item delivery.Item) delivery.Result {
	s.mu.Lock()
	a := attempt{strings.TrimRight(item.ID, "0"), item.AppID, time.Now(), len(s.attempts) + 1}
	s.attempts = append(s.attempts, a)
	answer := s.answer
	s.mu.Unlock()
	return answer(a)
}

// become changes the answer from now on.
func (s *script) become(answer func(attempt) delivery.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// of returns the attempts so far whose name begins so.
func (s *script) of(prefix string) (found []attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.attempts {
		if strings.HasPrefix(a.name, prefix) {
			found = append(found, a)
		}
	}
	return found
}

var errDown = errors.New("answered with status 502")

func takes(attempt) delivery.Result { return delivery.Result{} }
func fails(attempt) delivery.Result { return delivery.Result{Err: errDown} }
func gone(attempt) delivery.Result {
	return delivery.Result{Err: errors.New("answered with status 410"), Gone: true}
}

// scripted starts a node whose attempts are made by s.
func (c *cluster) scripted(s *script) *delivery.Courier {
	c.t.Helper()
	node := c.idle()
	node.SetSend(s.send)
	node.Serve(c.targets)
	return node
}

// item is a message. Its name is the beginning of its ID: letters from a to f and
// digits, not ending in 0.
func item(node *delivery.Courier, account, name string) delivery.Item {
	return delivery.Item{
		Kind: delivery.KindMessage, Component: component, AppID: account, ID: name + strings.Repeat("0", 32-len(name)),
		ToUserName: userName, OpenID: openID, Arrived: node.Arrival(), Body: []byte("<xml><a>" + name + "</a></xml>"),
	}
}

// queue queues a message for the target shop/main.
func (c *cluster) queue(node *delivery.Courier, account, name string) delivery.Item {
	c.t.Helper()
	m := item(node, account, name)
	if err := node.Enqueue(c.t.Context(), m, []*delivery.Target{c.targets[shop]}, time.Time{}); err != nil {
		c.t.Fatal(err)
	}
	return m
}

func numbered(n int) string { return fmt.Sprintf("wx%016x", n) }

// dead returns how many dead letters are stored.
func (c *cluster) dead() int { return c.count("/dead-events/") }

func (c *cluster) count(folder string) (n int) {
	for key := range c.memory.Files() {
		if strings.Contains(key, folder) {
			n++
		}
	}
	return n
}

func TestAMessageIsTheSameAfterTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, answering(200, ""))
		var got delivery.Item
		node := c.idle()
		node.SetSend(func(_ context.Context, _ *delivery.Target, item delivery.Item) delivery.Result {
			got = item
			return delivery.Result{}
		})
		node.Serve(c.targets)
		want := c.queue(node, account, "a1")
		synctest.Wait()
		if diff := cmp.Diff(want, got, cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAccountsAreServedInParallelAndEachInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		c.targets[shop].Concurrency = 5
		running, most := make(map[string]int), 0
		var mu sync.Mutex
		s := &script{answer: func(a attempt) delivery.Result {
			mu.Lock()
			running[a.account]++
			sum := 0
			for account, n := range running {
				if sum += n; n > 1 {
					t.Errorf("%d attempts for %s at a time", n, account)
				}
			}
			most = max(most, sum)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			running[a.account]--
			return delivery.Result{}
		}}
		node := c.idle()
		node.SetSend(s.send)
		for i := range 80 {
			c.queue(node, numbered(i%8), fmt.Sprintf("a%03d1", i))
		}
		node.Serve(c.targets)
		time.Sleep(17 * time.Second) // 80 in fives
		synctest.Wait()
		if most != 5 || c.waiting() != 0 {
			t.Errorf("%d at a time, %d waiting", most, c.waiting())
		}
		for i := range 8 {
			var got []string
			for _, a := range s.of("a") {
				if a.account == numbered(i) {
					got = append(got, a.name)
				}
			}
			if len(got) != 10 || !slices.IsSorted(got) {
				t.Errorf("account %d: %v", i, got)
			}
		}
	})
}

// A failing account is tried again when it is due, though another one's attempt
// hangs for longer.
func TestAnAttemptThatHangsDelaysNoOtherAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: func(a attempt) delivery.Result {
			switch {
			case a.name == "a1":
				time.Sleep(25 * time.Second)
			case a.number == 2:
				return delivery.Result{Err: errDown}
			}
			return delivery.Result{}
		}}
		node := c.scripted(s)
		c.queue(node, account, "a1")
		synctest.Wait()
		c.queue(node, account2, "b1")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if b := s.of("b"); len(b) != 2 || c.waiting() != 1 {
			t.Errorf("%d attempts, %d waiting", len(b), c.waiting())
		}
	})
}

// Each delay is within a quarter of the usual one, never less than a second nor more
// than ten minutes, and two that fail together do not stay together.
func TestDelaysHaveJitterWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: fails}
		node := c.scripted(s)
		c.queue(node, account, "a1")
		time.Sleep(3 * time.Hour)
		seen := make(map[time.Duration]bool)
		all := s.of("a")
		for n := 1; n < len(all); n++ {
			usual := min(4*time.Second/3<<min(n-1, 20), 8*time.Minute)
			delay := all[n].at.Sub(all[n-1].at)
			if delay < usual*3/4 || delay > usual*5/4+time.Microsecond || delay < time.Second || delay > 10*time.Minute {
				t.Errorf("delay %d is %v, usual are %v", n, delay, usual)
			}
			seen[delay] = true
		}
		if len(all) < 20 || len(seen) != len(all)-1 {
			t.Errorf("%d attempts, %d different delays", len(all), len(seen))
		}
	})
}

func TestRetryAfterIsHonouredWithinAnHour(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{5 * time.Minute: 5 * time.Minute, 48 * time.Hour: time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, nil)
			s := &script{answer: func(a attempt) delivery.Result {
				if a.name == "a1" && a.number == 1 {
					return delivery.Result{Err: errors.New("answered with status 429"), RetryAfter: asked}
				}
				return delivery.Result{Err: errDown}
			}}
			node := c.scripted(s)
			c.queue(node, account, "a1")
			synctest.Wait()
			// The target goes down and comes back, which makes due what has failed: but
			// not this, on this node or another.
			c.queue(node, numbered(1), "b1")
			c.queue(node, numbered(2), "b2")
			c.queue(node, numbered(3), "b3")
			c.scripted(s)
			synctest.Wait()
			s.become(takes)
			time.Sleep(want - time.Second)
			synctest.Wait()
			if n := len(s.of("a")); n != 1 {
				t.Errorf("%d attempts within %v", n, want)
			}
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if n := len(s.of("a")); n != 2 || c.waiting() != 0 {
				t.Errorf("%d attempts, %d waiting", n, c.waiting())
			}
		})
	}
}

func TestAWithdrawnItemIsNotDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: takes}
		node := c.scripted(s)
		m := item(node, account, "a1")
		if err := node.Enqueue(t.Context(), m, []*delivery.Target{c.targets[shop]}, time.Now().Add(20*time.Second)); err != nil {
			t.Fatal(err)
		}
		c.queue(node, account, "a2")
		time.Sleep(10 * time.Second)
		if n := len(s.of("a")); n != 0 || c.waiting() != 2 {
			t.Fatalf("%d attempts before it is due, %d waiting", n, c.waiting())
		}
		if err := node.Withdraw(t.Context(), m, c.targets[shop]); err != nil {
			t.Fatal(err)
		}
		if err := node.Withdraw(t.Context(), m, c.targets[shop]); err != nil {
			t.Errorf("again: %v", err)
		}
		time.Sleep(time.Minute)
		if got := s.of(""); len(got) != 1 || got[0].name != "a2" || c.waiting() != 0 {
			t.Errorf("%v, %d waiting", got, c.waiting())
		}
	})
}

// Nor is it stored again if it was being tried, and that failed.
func TestAnItemWithdrawnWhileItIsTriedIsNotStoredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: func(a attempt) delivery.Result {
			time.Sleep(5 * time.Second)
			return fails(a)
		}}
		node := c.scripted(s)
		m := c.queue(node, account, "a1")
		time.Sleep(time.Second)
		if err := node.Withdraw(t.Context(), m, c.targets[shop]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if n := len(s.of("a")); n != 1 || c.waiting() != 0 {
			t.Errorf("%d attempts, %d waiting", n, c.waiting())
		}
	})
}
