// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// olderEvent stores an event as the release before does: in the client's folder,
// named after its CreateTime.
func (c *cluster) olderEvent(second int64, account, name string, dead bool) {
	c.t.Helper()
	e := vault.Event{
		EventKey: vault.EventKey{
			Queue: vault.Queue{Component: component, Client: "shop"}, Arrived: 1_700_000_000 + second, AppID: account,
			ID: name + strings.Repeat("0", 32-len(name)), Dead: dead,
		},
		InfoType: "authorized", Body: []byte("<xml>" + name + "</xml>"), Queued: time.Now().Add(time.Duration(second) * time.Millisecond), Due: time.Now(),
	}
	if err := c.vault(1).StoreEvent(c.t.Context(), e); err != nil {
		c.t.Fatal(err)
	}
}

// olderSees returns what a node of the release before finds in its queue: it lists
// the client's folder with all below, and takes what is directly in it and has the
// form of its names.
func (c *cluster) olderSees() (names []string) {
	c.t.Helper()
	folder := "wechat/" + component + "/events/shop"
	keys, err := c.memory.List(c.t.Context(), folder, true)
	if err != nil {
		c.t.Fatal(err)
	}
	form := regexp.MustCompile(`^[0-9]{10}-wx[0-9a-f]{16}-[0-9a-f]{32}\.json$`)
	for _, key := range keys {
		if name := strings.TrimPrefix(key, folder+"/"); form.MatchString(name) {
			names = append(names, name)
		}
	}
	return names
}

func TestQueuesOfTheReleaseBeforeAreTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		second := plainTarget(t, "shop")
		second.Name, second.Place = "audit", 1
		c.add(second)
		c.olderEvent(2, account, "a2", false)
		c.olderEvent(1, account, "a1", false)
		c.olderEvent(3, account, "d1", true)
		var got []string
		node := c.idle()
		node.SetSend(func(_ context.Context, target *delivery.Target, item delivery.Item) delivery.Result {
			got = append(got, fmt.Sprint(target.Name, " ", strings.TrimRight(item.ID, "0"), " ", item.Kind, " ", string(item.Body)))
			return delivery.Result{}
		})
		node.Serve(c.targets)
		time.Sleep(time.Second)
		synctest.Wait()
		if diff := cmp.Diff([]string{"main a1 event <xml>a1</xml>", "main a2 event <xml>a2</xml>"}, got); diff != "" {
			t.Error(diff)
		}
		files := slices.Collect(maps.Keys(c.memory.Files()))
		if len(files) != 1 || !strings.Contains(files[0], "/dead-events/shop/main/") || !strings.Contains(files[0], "-d1") {
			t.Errorf("files: %v", files)
		}
	})
}

// An older node beside a newer one: neither loses what the other queues.
func TestANodeOfTheReleaseBeforeBesideThisOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: fails}
		node := c.scripted(s)
		c.queue(node, account, "a1")
		synctest.Wait()
		if seen := c.olderSees(); seen != nil {
			t.Errorf("the older node takes %v", seen)
		}
		c.olderEvent(0, account2, "b1", false)
		if seen := c.olderSees(); len(seen) != 1 {
			t.Errorf("the older node takes %v", seen)
		}
		// It has the lock of its queue, for it delivers. So nothing is taken away.
		unlock, err := c.vault(1).LockQueue(t.Context(), vault.Queue{Component: component, Client: "shop"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if len(s.of("b")) != 0 || len(c.olderSees()) != 1 {
			t.Error("taken from a node that delivers")
		}
		if err := unlock(); err != nil {
			t.Fatal(err)
		}
		s.become(takes)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(s.of("b")) != 1 || c.waiting() != 0 {
			t.Errorf("%d attempts, %d waiting", len(s.of("b")), c.waiting())
		}
	})
}

func TestQueuesOfTargetsThatAreGoneAreTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: fails}
		node := c.scripted(s)
		c.queue(node, account, "a1")
		c.queue(node, account, "a2")
		time.Sleep(time.Minute)
		node.Close()
		renamed := plainTarget(t, "shop")
		renamed.Name = "primary"
		delete(c.targets, shop)
		c.add(renamed)
		s.become(takes)
		before := len(s.of(""))
		c.scripted(s)
		time.Sleep(time.Minute)
		synctest.Wait()
		got := s.of("")[before:]
		if len(got) != 2 || got[0].name != "a1" || got[1].name != "a2" || c.waiting() != 0 {
			t.Errorf("%v, %d waiting", got, c.waiting())
		}
	})
}

// What another node queues for a target that this node does not know yet is not
// taken from it, until this node has a configuration that is newer.
func TestATargetThatOnlyAnotherNodeKnowsKeepsItsItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		s := &script{answer: fails}
		old := c.scripted(s)
		time.Sleep(5 * time.Minute)
		crm := plainTarget(t, "shop")
		crm.Name = "crm"
		newer := &cluster{t: t, memory: c.memory, log: c.log, targets: maps.Clone(c.targets)}
		newer.add(crm)
		var sent []string
		node := newer.idle()
		node.SetSend(func(_ context.Context, target *delivery.Target, item delivery.Item) delivery.Result {
			sent = append(sent, target.Name)
			return fails(attempt{})
		})
		node.Serve(newer.targets)
		if err := node.Enqueue(t.Context(), item(node, account, "a1"), []*delivery.Target{crm}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(s.of("")) != 0 || len(sent) == 0 || c.count("/events/shop/crm/") != 1 {
			t.Errorf("the older configuration has sent %v", s.of(""))
		}
		node.Close()
		old.Serve(c.targets) // a reload without the target
		s.become(takes)
		time.Sleep(11 * time.Minute)
		if len(s.of("")) != 1 || c.waiting() != 0 {
			t.Errorf("%d attempts after the reload, %d waiting", len(s.of("")), c.waiting())
		}
	})
}

// What does not open is kept aside, and holds up nothing.
func TestAnOlderEventThatDoesNotOpenIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		c.olderEvent(1, account, "a1", false)
		c.olderEvent(1, account, "d1", true)
		for key := range c.memory.Files() {
			c.memory.Put(key, []byte("{"))
		}
		c.olderEvent(2, account, "a2", false)
		s := &script{answer: takes}
		node := c.scripted(s)
		time.Sleep(2 * time.Minute)
		if got := s.of(""); len(got) != 1 || got[0].name != "a2" {
			t.Errorf("%v", got)
		}
		if c.count(".unreadable-") != 1 || c.logs.FilterMessageSnippet("set aside").Len() != 1 {
			t.Errorf("files: %v", slices.Collect(maps.Keys(c.memory.Files())))
		}
		// The dead letter stays where it is, and is listed.
		page, err := node.Events(t.Context(), delivery.Filter{Dead: true})
		if err != nil || len(page.Items) != 1 || !strings.Contains(page.Items[0].Failure, "not a sealed record") {
			t.Errorf("%+v, %v", page, err)
		}
	})
}
