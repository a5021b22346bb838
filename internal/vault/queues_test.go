// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

const flatKey = "wechat/wx0123456789abcdef/events/shop/1700000000-wxfedcba9876543210-0123456789abcdef0123456789abcdef.json"

// flat is an event as the release before stores it.
var flat = vault.Event{
	EventKey: vault.EventKey{Queue: vault.Queue{Component: component, Client: "shop"}, Arrived: 1_700_000_000, AppID: authorizer, ID: eventID},
	InfoType: "authorized", Body: []byte("<xml/>"), Queued: at(0), Due: at(1),
}

func TestQueuesAreFoundWhoeverIsConfigured(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	if queues, err := v.Queues(t.Context(), false); err != nil || len(queues) != 0 {
		t.Errorf("of an empty storage: %v, %v", queues, err)
	}
	for _, name := range [][2]string{{"shop", "main"}, {"shop", "audit"}, {"a-b", "c"}, {"a", "b-c"}} {
		e := event
		e.Client, e.Target = name[0], name[1]
		mustEnqueue(t, v, e)
	}
	mustEnqueue(t, v, flat)
	for _, stray := range []string{"wechat/x/events/shop/main/y", "wechat/" + component + "/events/..x/main/y", "wechat/" + component + "/events/shop/B/y", "wechat/clients/a.json"} {
		memory.Put(stray, []byte("{}"))
	}
	dead := event
	dead.Client = "dead"
	if err := v.BuryEvent(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	for isDead, want := range map[bool][]string{false: {"a/", "a/b-c", "a-b/", "a-b/c", "shop/", "shop/audit", "shop/main"}, true: {"dead/", "dead/main"}} {
		queues, err := v.Queues(t.Context(), isDead)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, q := range queues {
			got = append(got, q.Client+"/"+q.Target)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("dead %v: %s", isDead, diff)
		}
	}
}

// Two queues never have the same lock, though names contain hyphens, and the flat
// one has that of the release before.
func TestEachQueueHasItsOwnLock(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	for _, q := range []vault.Queue{{component, "a", "b-c"}, {component, "a-b", "c"}, {component, "a", ""}, {component, "a-b-c", ""}} {
		unlock, err := v.LockQueue(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
	}
	want := []string{"_a", "_a-b-c", "_a-b_c", "_a_b-c"}
	for i := range want {
		want[i] = "wechat_" + component + "_events" + want[i]
	}
	if diff := cmp.Diff(want, memory.Locked()); diff != "" {
		t.Error(diff)
	}
}

func TestAnEventOfTheReleaseBeforeIsRead(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	mustEnqueue(t, v, flat)
	if memory.Files()[flatKey] == nil {
		t.Fatalf("stored at %v", slices.Collect(maps.Keys(memory.Files())))
	}
	mustEnqueue(t, v, event) // below the flat queue's folder
	keys, err := v.Events(t.Context(), flat.Queue, false)
	if err != nil || len(keys) != 1 || keys[0] != flat.EventKey {
		t.Errorf("%v, %v", keys, err)
	}
	if got, err := v.LoadEvent(t.Context(), flat.EventKey); err != nil || !cmp.Equal(got, flat) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAMovedEventIsStoredBeforeItIsDeleted(t *testing.T) {
	for _, failing := range []vaulttest.Op{"", vaulttest.Store, vaulttest.Delete} {
		memory := new(vaulttest.Memory)
		v := open(t, memory, key(1))
		mustEnqueue(t, v, flat)
		memory.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == failing {
				return errors.New("down")
			}
			return nil
		})
		to := event.EventKey
		_, err := v.MoveEvent(t.Context(), flat.EventKey, to, func(e *vault.Event) { e.Attempts = 7 })
		files := memory.Files()
		if failing != "" {
			if !errors.Is(err, vault.ErrUnavailable) || files[flatKey] == nil {
				t.Errorf("%s: %v, files %v", failing, err, slices.Collect(maps.Keys(files)))
			}
			continue
		}
		want := flat
		want.EventKey, want.Attempts = to, 7
		if got, loading := v.LoadEvent(t.Context(), to); err != nil || loading != nil || !cmp.Equal(got, want) || len(files) != 1 {
			t.Errorf("%+v, %v, %v", got, err, loading)
		}
	}
	v := open(t, new(vaulttest.Memory), key(1))
	if _, err := v.MoveEvent(t.Context(), flat.EventKey, event.EventKey, nil); !errors.Is(err, vault.ErrNotFound) {
		t.Error(err)
	}
}

// Reseal covers what is in all queues, the flat ones and files that were set aside.
func TestResealCoversAllQueues(t *testing.T) {
	memory := new(vaulttest.Memory)
	old := open(t, memory, key(1))
	dead := event
	dead.ID, dead.Dead = strings.Repeat("e", 32), true
	aside := event
	aside.ID = strings.Repeat("a", 32)
	for _, e := range []vault.Event{flat, event, dead, aside} {
		mustEnqueue(t, old, e)
	}
	if err := open(t, memory, key(2)).SetEventAside(t.Context(), aside.EventKey); err != nil {
		t.Fatal(err)
	}
	if done := mustReseal(t, open(t, memory, key(2), key(1))); done.Anew != 4 || done.Unreadable != nil {
		t.Errorf("%+v", done)
	}
	fresh := open(t, memory, key(2))
	for _, e := range []vault.Event{flat, event, dead, aside} {
		if got, err := fresh.LoadEvent(t.Context(), e.EventKey); err != nil || !cmp.Equal(got, e) {
			t.Errorf("%+v, %v", got, err)
		}
	}
}
