// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// mustReseal goes through all parts and returns what was done in all.
func mustReseal(t *testing.T, v *vault.Vault) (sum vault.Resealed) {
	t.Helper()
	for part := range vault.Parts {
		done, err := v.Reseal(t.Context(), component, part)
		if err != nil {
			t.Fatal(err)
		}
		sum.Anew += done.Anew
		sum.Unreadable = append(sum.Unreadable, done.Unreadable...)
	}
	return sum
}

// stock stores one thing of every kind, and returns their keys and how to read
// them all.
func stock(t *testing.T, v *vault.Vault) (keys []string, read func(*vault.Vault) []any) {
	t.Helper()
	other := subject.Of(component, "wxfedcba98765432ff")
	dead := event
	dead.ID = "fedcba9876543210fedcba9876543210"
	mustStore(t, v, account, full)
	mustStore(t, v, other, vault.Record{State: vault.Unauthorized, EventTime: at(3)})
	mustStore(t, v, subject.Of(component, ""), vault.Record{Token: secret.New("c")})
	mustEnqueue(t, v, event)
	claim := vault.ClaimKey{Component: component, ID: eventID, Made: time.Unix(1_700_000_000, 0)}
	test := vault.PublishTestKey{Component: component, ID: eventID, Received: time.Unix(1_700_000_000, 0)}
	_, err := v.StoreTicket(t.Context(), component, vault.Ticket{Value: secret.New("ticket"), CreateTime: at(0)})
	for _, err := range []error{
		err, v.StorePublishTest(t.Context(), test, vault.PublishTest{AppID: authorizer, OpenID: "openid", Code: secret.New("code")}), v.BuryEvent(t.Context(), dead), v.MarkPending(t.Context(), account),
		v.PublishNotice(t.Context(), component, vault.Notice{AppID: authorizer, ID: eventID}),
		v.StoreClaim(t.Context(), claim, vault.Claim{Until: at(20), Answered: at(5), Reply: []byte("reply")}), v.MarkRepeated(t.Context(), claim),
		v.StoreProfile(t.Context(), account, fullProfile),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	dead.Dead = true
	keys = []string{
		authorizerKey, "wechat/" + component + "/authorizers/ff/wxfedcba98765432ff.json", componentKey, ticketKey, eventKey,
		"wechat/" + component + "/dead-events/shop/main/1700000000123456-" + authorizer + "-fedcba9876543210fedcba9876543210.json",
		"wechat/" + component + "/messages/2833333/" + eventID + ".json", profileFile,
		"wechat/" + component + "/publish-test/1700000000-" + eventID + ".json",
		"wechat/" + component + "/states/unauthorized/wxfedcba98765432ff",
	}
	return keys, func(v *vault.Vault) (all []any) {
		t.Helper()
		must := func(read any, err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
			all = append(all, read)
		}
		for _, s := range []subject.Subject{account, other, subject.Of(component, "")} {
			record, err := v.Load(t.Context(), s)
			must(record, err)
		}
		for _, key := range []vault.EventKey{event.EventKey, dead.EventKey} {
			event, err := v.LoadEvent(t.Context(), key)
			must(event, err)
		}
		ticket, err := v.LoadTicket(t.Context(), component)
		must(ticket, err)
		_, found, err := v.FindClaim(t.Context(), component, eventID, claim.Made)
		must(found, err)
		profile, err := v.LoadProfile(t.Context(), account)
		must(profile, err)
		known, err := v.LoadPublishTest(t.Context(), test)
		must(known, err)
		note, err := v.LoadNote(t.Context(), other, vault.Withdrawn)
		must(note, err)
		return all
	}
}

// After it a previous key can go: nothing needs it, and nothing else has changed.
func TestResealLeavesNothingToPreviousKeys(t *testing.T) {
	memory := new(vaulttest.Memory)
	keys, read := stock(t, open(t, memory, key(1)))
	before := read(open(t, memory, key(1)))
	files := memory.Files()

	rotated := open(t, memory, key(2), key(1))
	if done := mustReseal(t, rotated); done.Anew != len(keys) || done.Unreadable != nil {
		t.Errorf("done is %+v, want %d sealed anew", done, len(keys))
	}
	if diff := cmp.Diff(before, read(open(t, memory, key(2))), equalSecrets); diff != "" {
		t.Errorf("under the current key alone (-want +got):\n%s", diff)
	}
	if after := memory.Files(); !cmp.Equal(slices.Sorted(maps.Keys(files)), slices.Sorted(maps.Keys(after))) {
		t.Errorf("files are %v", slices.Sorted(maps.Keys(after)))
	}

	locks, stores := memory.Count(vaulttest.Lock), memory.Count(vaulttest.Store)
	if done := mustReseal(t, rotated); done.Anew != 0 {
		t.Errorf("the second time, %d were sealed anew", done.Anew)
	}
	if memory.Count(vaulttest.Lock) != locks || memory.Count(vaulttest.Store) != stores {
		t.Error("the second time, something was locked or stored")
	}
}

// What no key opens is named, and waits untouched for the key that does.
func TestResealLeavesAloneWhatDoesNotOpen(t *testing.T) {
	memory := new(vaulttest.Memory)
	keys, _ := stock(t, open(t, memory, key(1)))
	files := memory.Files()
	done := mustReseal(t, open(t, memory, key(2), key(3)))
	slices.Sort(done.Unreadable)
	slices.Sort(keys)
	if diff := cmp.Diff(keys, done.Unreadable); diff != "" || done.Anew != 0 {
		t.Errorf("%d sealed anew; unreadable (-want +got):\n%s", done.Anew, diff)
	}
	if !cmp.Equal(files, memory.Files()) {
		t.Error("files have changed")
	}
}

// The previous key was forgotten for a while: an event that did not open was
// taken out of the queue. With the key it goes back there.
func TestResealPutsBackWhatWasSetAside(t *testing.T) {
	memory := new(vaulttest.Memory)
	mustEnqueue(t, open(t, memory, key(1)), event)
	if err := open(t, memory, key(2)).SetEventAside(t.Context(), event.EventKey); err != nil {
		t.Fatal(err)
	}
	if done := mustReseal(t, open(t, memory, key(2))); done.Anew != 0 || done.Unreadable != nil {
		t.Errorf("without the key: %+v", done)
	}
	if done := mustReseal(t, open(t, memory, key(2), key(1))); done.Anew != 1 {
		t.Errorf("with the key: %+v", done)
	}
	got, err := open(t, memory, key(2)).LoadEvent(t.Context(), event.EventKey)
	if diff := cmp.Diff(event, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if files := memory.Files(); len(files) != 1 {
		t.Errorf("files are %v", slices.Sorted(maps.Keys(files)))
	}
}

// What was rebuilt meanwhile is newer than the copy that was kept aside.
func TestResealPutsNothingOverWhatIsNewer(t *testing.T) {
	memory := new(vaulttest.Memory)
	mustStore(t, open(t, memory, key(1)), account, full)
	rebuilt := mustStore(t, open(t, memory, key(2)), account, vault.Record{Refresh: secret.New("newer")})
	files := memory.Files()
	v := open(t, memory, key(2), key(1))
	if done := mustReseal(t, v); done.Anew != 0 || done.Unreadable != nil {
		t.Errorf("done is %+v", done)
	}
	got, err := v.Load(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	wantRecord(t, rebuilt, got)
	if !cmp.Equal(files, memory.Files()) {
		t.Error("files have changed")
	}
}

// A renewal that is under way finishes first; what it stores is not overwritten.
func TestResealWaitsForWhoeverChangesTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := new(vaulttest.Memory)
		mustStore(t, open(t, memory, key(1)), account, full)
		v := open(t, memory, key(2), key(1))
		unlock, err := v.Lock(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan vault.Resealed)
		go func() { ended <- mustReseal(t, v) }()
		synctest.Wait()
		renewed := full
		renewed.Token = secret.New("renewed")
		stands := mustStore(t, v, account, renewed)
		if err := unlock(); err != nil {
			t.Fatal(err)
		}
		if done := <-ended; done.Anew != 0 {
			t.Errorf("done is %+v", done)
		}
		got, err := v.Load(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		wantRecord(t, stands, got)
	})
}

// A failure is told, costs nothing, and leaves the rest for another time.
func TestResealCanBeGoneOnWith(t *testing.T) {
	memory := new(vaulttest.Memory)
	keys, read := stock(t, open(t, memory, key(1)))
	v := open(t, memory, key(2), key(1))
	for _, op := range []vaulttest.Op{vaulttest.List, vaulttest.Load, vaulttest.Lock, vaulttest.Store} {
		files := memory.Files()
		memory.Intercept(func(_ context.Context, o vaulttest.Op, _ string) error {
			if o == op {
				return errors.New("storage fails")
			}
			return nil
		})
		if _, err := v.Reseal(t.Context(), component, 0); !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("%s fails: error is %v, want ErrUnavailable", op, err)
		}
		for key, file := range memory.Files() {
			if !bytes.Equal(file, files[key]) {
				t.Errorf("%s fails: %s has changed", op, key)
			}
		}
	}
	memory.Intercept(nil)
	if done := mustReseal(t, v); done.Anew != len(keys) {
		t.Errorf("done is %+v", done)
	}
	read(open(t, memory, key(2)))
	for _, part := range []int{-1, vault.Parts} {
		if _, err := v.Reseal(t.Context(), component, part); err == nil {
			t.Errorf("there is a part %d", part)
		}
	}
	if _, err := v.Reseal(t.Context(), "../..", 0); err == nil {
		t.Error("a path passes for a component")
	}
}
