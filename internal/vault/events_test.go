// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

const (
	eventID   = "0123456789abcdef0123456789abcdef"
	queueKey  = "wechat/wx0123456789abcdef/events/shop/main/"
	eventKey  = queueKey + "1700000000123456-wxfedcba9876543210-0123456789abcdef0123456789abcdef.json"
	buriedKey = "wechat/wx0123456789abcdef/dead-events/shop/main/1700000000123456-wxfedcba9876543210-0123456789abcdef0123456789abcdef.json"
)

var (
	queue = vault.Queue{Component: component, Client: "shop", Target: "main"}

	event = vault.Event{
		EventKey: vault.EventKey{Queue: queue, Arrived: 1_700_000_000_123_456, AppID: authorizer, ID: eventID},
		Kind:     "message", InfoType: "authorized", ToUserName: "gh_1", OpenID: "o1", CodeIn: "auth_code", Body: []byte("<xml/>"),
		Queued: at(0), Attempts: 3, Due: at(1), NotBefore: at(1), Failure: "answered with status 500", Died: at(2),
	}
)

func mustEnqueue(t *testing.T, v *vault.Vault, e vault.Event) {
	t.Helper()
	if err := v.Enqueue(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

func mustEvents(t *testing.T, v *vault.Vault, dead bool) []vault.EventKey {
	t.Helper()
	keys, err := v.Events(t.Context(), queue, dead)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestAnEventComesBackAsItWasQueued(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	mustEnqueue(t, v, event)
	if keys := slices.Collect(maps.Keys(memory.Files())); len(keys) != 1 || keys[0] != eventKey {
		t.Errorf("stored at %v", keys)
	}
	got, err := v.LoadEvent(t.Context(), event.EventKey)
	if diff := cmp.Diff(event, got); err != nil || diff != "" {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
}

func TestEventsAreListedInTheOrderOfArrival(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	if keys := mustEvents(t, v, false); len(keys) != 0 {
		t.Errorf("of an empty storage: %v", keys)
	}
	for _, arrived := range []int64{1_700_000_000_000_000, 5, 4_000_000_000_000_000, 0} {
		e := event
		e.Arrived = arrived
		mustEnqueue(t, v, e)
	}
	for _, stray := range []string{"x.json", "1700000000123456-wxfedcba9876543210-0123456789abcdef0123456789abcdef.json.tmp",
		"1700000000-wxfedcba9876543210-0123456789abcdef0123456789abcdef.json", "sub/" + strings.TrimPrefix(eventKey, queueKey)} {
		memory.Put(queueKey+stray, []byte("{}"))
	}
	for _, elsewhere := range []string{"/shop/main/", "/shop/"} { // a flat name in a target's folder, and the other way round
		name := strings.TrimPrefix(eventKey, queueKey)
		if elsewhere == "/shop/main/" {
			name = name[:10] + name[16:]
		}
		memory.Put("wechat/wx0123456789abcdef/events"+elsewhere+name, []byte("{}"))
	}
	memory.Put(strings.Replace(eventKey, "/shop/", "/shop2/", 1), []byte("{}"))
	var arrived []int64
	for _, key := range mustEvents(t, v, false) {
		arrived = append(arrived, key.Arrived)
	}
	if diff := cmp.Diff([]int64{0, 5, 1_700_000_000_000_000, 4_000_000_000_000_000}, arrived); diff != "" {
		t.Error(diff)
	}
}

func TestABuriedEventMovesToTheDead(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	mustEnqueue(t, v, event)
	if err := v.BuryEvent(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	if keys := slices.Collect(maps.Keys(memory.Files())); len(keys) != 1 || keys[0] != buriedKey {
		t.Errorf("stored at %v", keys)
	}
	dead := mustEvents(t, v, true)
	if len(dead) != 1 || len(mustEvents(t, v, false)) != 0 {
		t.Fatalf("dead %v", dead)
	}
	want := event
	want.Dead = true
	got, err := v.LoadEvent(t.Context(), dead[0])
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
}

func TestNothingIsLostWhenBuryingFails(t *testing.T) {
	for _, failing := range []vaulttest.Op{vaulttest.Store, vaulttest.Delete} {
		memory := new(vaulttest.Memory)
		v := open(t, memory, key(1))
		mustEnqueue(t, v, event)
		memory.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == failing {
				return errors.New("down")
			}
			return nil
		})
		if err := v.BuryEvent(t.Context(), event); !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("%s: %v", failing, err)
		}
		if memory.Files()[eventKey] == nil {
			t.Errorf("%s: the event is gone", failing)
		}
	}
}

func TestRemovingAnEventThatIsNotThereIsNoError(t *testing.T) {
	v := open(t, new(vaulttest.Memory), key(1))
	if err := v.RemoveEvent(t.Context(), event.EventKey); err != nil {
		t.Error(err)
	}
}

func TestAnEventMovedToAnotherClientDoesNotOpen(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	mustEnqueue(t, v, event)
	elsewhere := event.EventKey
	elsewhere.Client = "shop2"
	memory.Put(strings.Replace(eventKey, "/shop/", "/shop2/", 1), memory.Files()[eventKey])
	var unreadable *vault.Unreadable
	if _, err := v.LoadEvent(t.Context(), elsewhere); !errors.As(err, &unreadable) {
		t.Error(err)
	}
	if err := v.SetEventAside(t.Context(), elsewhere); err != nil {
		t.Error(err)
	}
	keys := slices.Sorted(maps.Keys(memory.Files()))
	if len(keys) != 2 || !strings.Contains(keys[1], "/shop2/") || !strings.Contains(keys[1], ".unreadable-") {
		t.Errorf("%v", keys)
	}
}

func TestNamesThatAreNoEventsNeverReachTheStorage(t *testing.T) {
	for name, change := range map[string]func(*vault.EventKey){
		"component": func(k *vault.EventKey) { k.Component = "../x" },
		"client":    func(k *vault.EventKey) { k.Client = "../x" },
		"no client": func(k *vault.EventKey) { k.Client = "" },
		"appid":     func(k *vault.EventKey) { k.AppID = "wx/../../x" },
		"no appid":  func(k *vault.EventKey) { k.AppID = "" },
		"id":        func(k *vault.EventKey) { k.ID = "../x" },
		"long id":   func(k *vault.EventKey) { k.ID += "0" },
		"target":    func(k *vault.EventKey) { k.Target = "../x" },
		"arrival":   func(k *vault.EventKey) { k.Arrived = -1 },
		"seconds":   func(k *vault.EventKey) { k.Target = "" }, // not those of a flat queue
	} {
		memory := new(vaulttest.Memory)
		v := open(t, memory, key(1))
		bad := event
		change(&bad.EventKey)
		_, loading := v.LoadEvent(t.Context(), bad.EventKey)
		for _, err := range []error{v.Enqueue(t.Context(), bad), v.StoreEvent(t.Context(), bad),
			v.RemoveEvent(t.Context(), bad.EventKey), v.BuryEvent(t.Context(), bad), loading} {
			if err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
		if n := memory.Count(vaulttest.Store) + memory.Count(vaulttest.Load) + memory.Count(vaulttest.Delete); n != 0 {
			t.Errorf("%s: %d storage operations", name, n)
		}
	}
}

func TestAQueueIsLockedForOneCallerAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := open(t, new(vaulttest.Memory), key(1))
		unlock, err := v.LockQueue(t.Context(), queue)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := v.LockQueue(ctx, queue); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		other, err := v.LockQueue(t.Context(), vault.Queue{Component: component, Client: "shop"})
		if err != nil {
			t.Error(err)
		}
		if err := errors.Join(unlock(), other()); err != nil {
			t.Error(err)
		}
		if _, err := v.LockQueue(t.Context(), vault.Queue{Component: component, Client: "../x"}); err == nil {
			t.Error("a path is no client")
		}
	})
}
