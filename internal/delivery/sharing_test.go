// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics/metricstest"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// While the application fails, the storage fails now and then, nodes come and go, and
// a graceful restart breaks deliveries off, every message arrives in the end. Those of
// an account arrive in the order in which they came, but that one which was taken may
// come again.
func TestNothingIsLostAndTheOrderIsKept(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1)) // guarded by mu
				c := newCluster(t, nil)
				var mu sync.Mutex
				draw := func(n int) int {
					mu.Lock()
					defer mu.Unlock()
					return random.IntN(n)
				}
				c.targets[shop].Concurrency = 1 + draw(8)
				chance := func(n int) bool { return draw(n) == 0 }
				var bad atomic.Bool
				bad.Store(true)
				taken := make(map[string][]string) // by account
				s := &script{answer: func(a attempt) delivery.Result {
					time.Sleep(time.Millisecond)
					if bad.Load() && chance(3) {
						return delivery.Result{Err: errDown, Hung: chance(2)}
					}
					mu.Lock()
					defer mu.Unlock()
					taken[a.account] = append(taken[a.account], a.name)
					return delivery.Result{}
				}}
				c.memory.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
					if bad.Load() && strings.Contains(name, "events") && op != vaulttest.Unlock && op != vaulttest.List && chance(40) {
						return errors.New("storage fails")
					}
					return nil
				})
				nodes := []*delivery.Courier{c.scripted(s), c.scripted(s)}
				queued := make(map[string][]string)
				for i := range 200 {
					at := draw(len(nodes))
					if draw(25) == 0 {
						nodes[at].Close()
						nodes[at] = c.scripted(s)
					}
					account := numbered(draw(5))
					m := item(nodes[at], account, fmt.Sprintf("a%03d1", i))
					for nodes[at].Enqueue(t.Context(), m, []*delivery.Target{c.targets[shop]}, time.Time{}) != nil {
						time.Sleep(time.Second)
					}
					queued[account] = append(queued[account], fmt.Sprintf("a%03d1", i))
					if draw(4) == 0 {
						time.Sleep(time.Duration(draw(3000)) * time.Millisecond)
					} else {
						time.Sleep(time.Millisecond)
					}
				}
				bad.Store(false)
				time.Sleep(time.Hour)
				synctest.Wait()
				for account, want := range queued {
					seen := make(map[string]bool)
					var first []string // without those that came again
					for _, name := range taken[account] {
						if !seen[name] {
							seen[name] = true
							first = append(first, name)
						}
					}
					if strings.Join(first, " ") != strings.Join(want, " ") {
						t.Errorf("queued %v\narrived %v", want, taken[account])
					}
				}
				if c.waiting() != 0 || c.dead() != 0 {
					t.Errorf("%d waiting, %d dead", c.waiting(), c.dead())
				}
			})
		})
	}
}

func TestARestartGoesOnWhereTheLastOneEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: fails}
		node := c.scripted(s)
		for i := range 20 {
			c.queue(node, numbered(i%4), fmt.Sprintf("a%03d1", i))
		}
		time.Sleep(time.Hour)
		node.Close()
		before := len(s.of(""))
		s.become(takes)
		c.scripted(s)
		time.Sleep(11 * time.Minute)
		if n := len(s.of("")) - before; n != 20 || c.waiting() != 0 {
			t.Errorf("%d attempts, %d waiting", n, c.waiting())
		}
	})
}

// Two copies that two nodes have queued at the same time are one delivery.
func TestOneMessageQueuedOnTwoNodesIsDeliveredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: fails}
		nodes := []*delivery.Courier{c.scripted(s), c.scripted(s)}
		time.Sleep(time.Second)
		m := item(nodes[0], account, "a1")
		for _, node := range nodes {
			if err := node.Enqueue(t.Context(), m, []*delivery.Target{c.targets[shop]}, time.Time{}); err != nil {
				t.Fatal(err)
			}
			m.Arrived = m.Arrived.Add(time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		s.become(takes)
		time.Sleep(10 * time.Minute)
		taken := 0
		for _, a := range s.of("a") {
			if a.at.Sub(m.Arrived) > 5*time.Second {
				taken++
			}
		}
		if taken != 1 || c.waiting() != 0 {
			t.Errorf("taken %d times, %d waiting", taken, c.waiting())
		}
	})
}

// Two calls at a time for one item store it once, and neither returns before it is
// stored.
func TestOneItemIsStoredOnceByTwoCallsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: fails}
		node := c.scripted(s)
		stores := 0
		c.memory.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
			if op == vaulttest.Store && strings.Contains(name, "/events/") {
				stores++
				time.Sleep(time.Second)
				if stores == 1 {
					return errors.New("storage fails")
				}
			}
			return nil
		})
		m := item(node, account, "a1")
		m.Arrived = time.Now()
		results := make(chan error, 2)
		for range 2 {
			go func() {
				results <- node.Enqueue(t.Context(), m, []*delivery.Target{c.targets[shop]}, time.Now().Add(time.Hour))
			}()
		}
		first, second := <-results, <-results
		if first == nil || second != nil || !strings.Contains(first.Error(), "client shop, target main") || c.waiting() != 1 {
			t.Errorf("%v, %v, %d waiting", first, second, c.waiting())
		}
	})
}

// At most sixteen items are stored in one queue at a time, and one target's slow
// storage costs the other none of its own.
func TestQueuesAreWrittenSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		crm := c.add(plainTarget(t, "crm"))
		s := &script{answer: fails}
		node := c.scripted(s)
		synctest.Wait()
		var mu sync.Mutex
		writing, most := make(map[bool]int), 0
		c.memory.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
			if op != vaulttest.Store || !strings.Contains(name, "/events/") {
				return nil
			}
			isCRM := strings.Contains(name, "/crm/")
			mu.Lock()
			writing[isCRM]++
			most = max(most, writing[isCRM])
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			writing[isCRM]--
			return nil
		})
		began := time.Now()
		var done sync.WaitGroup
		for i := range 160 {
			done.Go(func() {
				m := item(node, numbered(i), fmt.Sprintf("a%03d1", i))
				if err := node.Enqueue(t.Context(), m, []*delivery.Target{c.targets[shop], crm}, time.Now().Add(time.Hour)); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		if took := time.Since(began); most != 16 || took != 100*time.Millisecond {
			t.Errorf("%d at a time, all after %v", most, took)
		}
	})
}

func TestQueuesAreMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: fails}
		node := c.scripted(s)
		value := func(name string, labels ...string) float64 {
			return metricstest.Value(t, "caddy_wechat_"+name, labels...)
		}
		if !metricstest.Exists(t, "caddy_wechat_deliveries_total", "shop", "own", "dropped", "main") || !metricstest.Exists(t, "caddy_wechat_events_waiting", "shop", "main") {
			t.Error("not there from the start")
		}
		queued, taken := value("deliveries_total", "shop", "message", "queued", "main"), value("deliveries_total", "shop", "message", "taken", "main")
		c.queue(node, account, "a1")
		time.Sleep(10 * time.Second)
		c.queue(node, account2, "b1")
		synctest.Wait()
		if n, age := value("events_waiting", "shop", "main"), value("event_oldest_seconds", "shop", "main"); n != 2 || age < 10 || age > 10.1 {
			t.Errorf("%v waiting, the oldest for %v s", n, age)
		}
		time.Sleep(90 * time.Second)
		if age := value("event_oldest_seconds", "shop", "main"); age < 100 || age > 100.1 {
			t.Errorf("the oldest waits for %v s", age)
		}
		s.become(takes)
		time.Sleep(11 * time.Minute)
		queued, taken = value("deliveries_total", "shop", "message", "queued", "main")-queued, value("deliveries_total", "shop", "message", "taken", "main")-taken
		if n, age := value("events_waiting", "shop", "main"), value("event_oldest_seconds", "shop", "main"); n != 0 || age != 0 || queued != 2 || taken != 2 {
			t.Errorf("%v waiting, the oldest for %v s, %v queued, %v taken", n, age, queued, taken)
		}
		node.Serve(nil)
		if metricstest.Exists(t, "caddy_wechat_deliveries_total", "shop", "own", "dropped", "main") || metricstest.Exists(t, "caddy_wechat_events_waiting", "shop", "main") {
			t.Error("a target that is gone is still shown")
		}
	})
}
