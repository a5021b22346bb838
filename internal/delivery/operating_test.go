// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// all returns all items, page by page.
func all(t *testing.T, node *delivery.Courier, f delivery.Filter) (items []delivery.Waiting) {
	t.Helper()
	for {
		page, err := node.Events(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if f.Limit > 0 && len(page.Items) > f.Limit {
			t.Fatalf("%d items on a page of %d", len(page.Items), f.Limit)
		}
		items = append(items, page.Items...)
		if f.Cursor = page.Next; f.Cursor == "" {
			return items
		}
	}
}

func TestWhatWaitsIsListedInPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		crm := c.add(plainTarget(t, "crm"))
		second := plainTarget(t, "shop")
		second.Name = "second"
		c.add(second)
		s := &script{answer: fails}
		node := c.scripted(s)
		for i := range 7 {
			m := item(node, account, fmt.Sprintf("a%03d1", i))
			if err := node.Enqueue(t.Context(), m, []*delivery.Target{second, crm, c.targets[shop]}, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		c.olderEventOf("gone", "d1") // a client that is not configured
		synctest.Wait()
		var want []string
		for _, name := range []string{"crm main", "gone ", "shop main", "shop second"} {
			for i := range 7 {
				if name == "gone " {
					want = append(want, name+" d1")
					break
				}
				want = append(want, fmt.Sprintf("%s a%03d1", name, i))
			}
		}
		for _, limit := range []int{1, 3, 7, 0} {
			var got []string
			for _, i := range all(t, node, delivery.Filter{Limit: limit}) {
				got = append(got, i.Client+" "+i.Target+" "+strings.TrimRight(i.EventID, "0"))
			}
			if strings.Join(got, ",") != strings.Join(want, ",") {
				t.Errorf("in pages of %d: %v", limit, got)
			}
		}
		for f, want := range map[delivery.Filter]int{{Client: "shop"}: 14, {Client: "shop", Target: "main"}: 7, {Target: "main"}: 14, {Client: "x"}: 0, {Dead: true}: 0} {
			if got := all(t, node, f); len(got) != want {
				t.Errorf("%+v: %d items, want %d", f, len(got), want)
			}
		}
		page, err := node.Events(t.Context(), delivery.Filter{Client: "shop", Limit: 1})
		first := page.Items[0]
		if err != nil || first.Kind != delivery.KindMessage || first.Attempts != 1 || first.Failure != errDown.Error() ||
			first.Component != component || first.AppID != account || first.Due.Before(time.Now()) || first.Queued.IsZero() {
			t.Errorf("%+v, %v", first, err)
		}
		if strings.Contains(fmt.Sprintf("%+v", all(t, node, delivery.Filter{})), "<xml>") {
			t.Error("a body is shown")
		}
		for _, bad := range []string{"x", "!", "c2hvcA", page.Next + "x", "Li4vLi4vLi4"} {
			if _, err := node.Events(t.Context(), delivery.Filter{Cursor: bad}); !errors.Is(err, delivery.ErrBadCursor) {
				t.Errorf("cursor %q: %v", bad, err)
			}
		}
	})
}

// olderEventOf stores an event of the release before for another client.
func (c *cluster) olderEventOf(client, name string) {
	c.t.Helper()
	key := vault.EventKey{
		Queue: vault.Queue{Component: component, Client: client}, Arrived: 1, AppID: account, ID: name + strings.Repeat("0", 32-len(name)),
	}
	if err := c.vault(1).StoreEvent(c.t.Context(), vault.Event{EventKey: key, Body: []byte("<xml>b</xml>")}); err != nil {
		c.t.Fatal(err)
	}
}

// A page reads only what is on it, however long the queue is.
func TestAPageReadsWhatIsOnIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		node := c.idle()
		for i := range 300 {
			c.queue(node, numbered(i), fmt.Sprintf("a%03d1", i))
		}
		cursor := ""
		for range 3 {
			before := c.memory.Count(vaulttest.Load)
			page, err := node.Events(t.Context(), delivery.Filter{Cursor: cursor, Limit: 20})
			if err != nil {
				t.Fatal(err)
			}
			if n := c.memory.Count(vaulttest.Load) - before; n != 20 {
				t.Errorf("%d files were read for a page of 20", n)
			}
			cursor = page.Next
		}
	})
}

func TestDeadLettersAreReplayedWithAWholeNewTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		c.targets[shop].RetryFor = time.Hour
		s := &script{answer: fails}
		node := c.scripted(s)
		c.queue(node, account, "a1")
		c.queue(node, account, "a2")
		c.queue(node, account2, "b1")
		time.Sleep(2 * time.Hour)
		if c.dead() != 3 {
			t.Fatalf("%d dead", c.dead())
		}
		// They fail again, and are tried for another hour.
		n, err := node.Replay(t.Context(), delivery.Selection{Client: "shop"})
		if n != 3 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		time.Sleep(50 * time.Minute)
		if c.dead() != 0 || c.waiting() != 3 {
			t.Errorf("%d dead, %d waiting after 50 minutes", c.dead(), c.waiting())
		}
		time.Sleep(30 * time.Minute)
		if c.dead() != 3 {
			t.Errorf("%d dead after 80 minutes", c.dead())
		}
		s.become(takes)
		before := len(s.of(""))
		if n, err := node.Replay(t.Context(), delivery.Selection{EventID: "b1" + strings.Repeat("0", 30)}); n != 1 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		time.Sleep(3 * time.Second)
		if n, err := node.Replay(t.Context(), delivery.Selection{All: true}); n != 2 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		time.Sleep(time.Minute)
		if got := len(s.of("")) - before; got != 3 || c.dead() != 0 || c.waiting() != 0 {
			t.Errorf("%d attempts, %d dead, %d waiting", got, c.dead(), c.waiting())
		}
		if a := s.of("a"); a[len(a)-2].name != "a1" {
			t.Error("not in the order of arrival")
		}
	})
}

func TestAReplayMakesWhatWaitsDueAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: func(a attempt) delivery.Result { return delivery.Result{Err: errDown, RetryAfter: time.Hour} }}
		node := c.scripted(s)
		c.queue(node, account, "a1")
		synctest.Wait()
		s.become(takes)
		if n, err := node.Replay(t.Context(), delivery.Selection{Since: time.Now().Add(time.Second)}); n != 0 || err != nil {
			t.Errorf("none has come since: %d, %v", n, err)
		}
		if n, err := node.Replay(t.Context(), delivery.Selection{Since: time.Now().Add(-time.Second), State: delivery.StateWaiting}); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		time.Sleep(3 * time.Second)
		if c.waiting() != 0 {
			t.Error("not tried at once")
		}
	})
}

// No more dead letters come back than may wait: else the next message would become
// one.
func TestAReplayDoesNotFillTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		c.targets[shop].MaxWaiting = 5
		s := &script{answer: fails}
		node := c.scripted(s)
		for i := range 12 {
			c.queue(node, numbered(i), fmt.Sprintf("a%03d1", i))
		}
		synctest.Wait()
		if n, err := node.Replay(t.Context(), delivery.Selection{All: true, State: delivery.StateDead}); n != 0 || err != nil || c.dead() != 7 {
			t.Errorf("%d, %v, %d dead", n, err, c.dead())
		}
		if n, err := node.Discard(t.Context(), delivery.Selection{All: true, State: delivery.StateWaiting}); n != 5 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := node.Replay(t.Context(), delivery.Selection{All: true, State: delivery.StateDead}); n != 5 || err != nil || c.dead() != 2 {
			t.Errorf("%d, %v, %d dead", n, err, c.dead())
		}
		var left []any // each time
		for _, entry := range c.logs.FilterMessageSnippet("not all dead letters are replayed").All() {
			left = append(left, entry.ContextMap()["left"])
		}
		if want := []any{int64(7), int64(2)}; !slices.Equal(left, want) {
			t.Errorf("left over are %v, want %v", left, want)
		}
	})
}

func TestWhatIsDiscardedIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		c.targets[shop].MaxWaiting = 3
		s := &script{answer: fails}
		node := c.scripted(s)
		for i := range 5 {
			c.queue(node, numbered(i), fmt.Sprintf("a%03d1", i))
		}
		synctest.Wait()
		for _, act := range []func(context.Context, delivery.Selection) (int, error){node.Replay, node.Discard} {
			for _, nothing := range []delivery.Selection{{}, {State: delivery.StateDead}} {
				if n, err := act(t.Context(), nothing); n != 0 || !errors.Is(err, delivery.ErrNothingNamed) {
					t.Errorf("%d, %v", n, err)
				}
			}
		}
		if n, err := node.Discard(t.Context(), delivery.Selection{EventID: "a0011" + strings.Repeat("0", 27)}); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := node.Discard(t.Context(), delivery.Selection{Client: "shop"}); n != 4 || err != nil || c.dead() != 0 || c.waiting() != 0 {
			t.Errorf("%d, %v, %d dead, %d waiting", n, err, c.dead(), c.waiting())
		}
		before := len(s.of(""))
		time.Sleep(time.Hour)
		if n := len(s.of("")); n != before {
			t.Errorf("%d attempts for what was discarded", n-before)
		}
	})
}

// An operator waits for the lock of a queue no longer than his context.
func TestAnOperatorWaitsForTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: func(attempt) delivery.Result {
			time.Sleep(20 * time.Second)
			return delivery.Result{}
		}}
		node := c.scripted(s)
		for i := range 200 { // a pass of a minute and more
			c.queue(node, numbered(i), fmt.Sprintf("a%03d1", i))
		}
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := node.Discard(ctx, delivery.Selection{All: true}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		began := time.Now()
		n, err := node.Discard(t.Context(), delivery.Selection{All: true})
		if took := time.Since(began); err != nil || n < 150 || took > 40*time.Second || c.waiting() != 0 {
			t.Errorf("%d discarded after %v, %v; %d waiting", n, took, err, c.waiting())
		}
	})
}

// The lock is not taken from another node that delivers, however short the time of
// the operator is.
func TestAnOperatorBreaksNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		node := c.idle()
		c.queue(node, account, "a1")
		unlock, err := c.vault(1).LockQueue(t.Context(), shop)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := node.Discard(ctx, delivery.Selection{All: true}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := unlock(); err != nil || c.waiting() != 1 {
			t.Errorf("%v, %d waiting", err, c.waiting())
		}
	})
}

func TestATestSaysWhatTheApplicationAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		second := plainTarget(t, "shop")
		second.Name, second.Place = "second", 1
		c.add(second)
		var got []delivery.Item
		node := c.idle()
		node.SetSend(func(_ context.Context, target *delivery.Target, item delivery.Item) delivery.Result {
			if target.Name == "second" {
				return delivery.Result{Err: errDown}
			}
			got = append(got, item)
			return delivery.Result{}
		})
		node.Serve(c.targets)
		n, err := node.Test(t.Context(), "shop", "")
		if n != 1 || err == nil || err.Error() != "client shop, target second: answered with status 502" {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := node.Test(t.Context(), "shop", "main"); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if _, err := node.Test(t.Context(), "shop", "x"); !errors.Is(err, delivery.ErrNoTarget) {
			t.Error(err)
		}
		if len(got) != 2 || got[0].Kind != delivery.KindOwn || got[0].InfoType != "gateway_test" || got[0].AppID != component || got[0].ID == got[1].ID {
			t.Fatalf("%+v", got)
		}
		if body := elements(t, string(got[0].Body)); body["InfoType"] != "gateway_test" || !strings.Contains(body["Description"], "test") {
			t.Errorf("%s", got[0].Body)
		}
		if c.waiting() != 0 || c.dead() != 0 {
			t.Error("something is stored")
		}
	})
}
