// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

const (
	states      = "wechat/" + component + "/states/"
	failingFile = states + "failing/" + authorizer
)

var (
	healthy = vault.Record{Token: secret.New("t"), Refresh: secret.New("r"), Obtained: at(0), Expires: at(120)}

	fullNote = vault.Note{Since: at(1), Slug: "refused", Errcode: 61004, RID: "abc-1-2", Text: "api_authorizer_token: errcode 61004", Remedy: "add the address to the white list"}
)

// failing returns a record in trouble.
func failing(r vault.Record) vault.Record {
	r.Trouble, r.TroubleSince, r.Note = vault.RenewalsFail, at(1), fullNote
	return r
}

func TestStandingFollowsFromTheRecord(t *testing.T) {
	for want, r := range map[vault.Standing]vault.Record{
		vault.Stands:     {},
		vault.Withdrawn:  {State: vault.Unauthorized, Trouble: vault.RenewalsFail},
		vault.NeedsAdmin: {Trouble: vault.NeedsAuthorization},
		vault.Failing:    {Trouble: vault.RenewalsFail},
	} {
		if got := r.Standing(); got != want {
			t.Errorf("%+v: %s, want %s", r, got, want)
		}
	}
	if got := (vault.Record{Trouble: "of a newer release"}).Standing(); got != vault.Failing {
		t.Errorf("a trouble that nobody knows: %s", got)
	}
}

// index returns the standings in whose index an account is.
func index(t *testing.T, v *vault.Vault, s subject.Subject) (in []vault.Standing) {
	t.Helper()
	for _, st := range vault.Noted {
		appids, err := v.ListStanding(t.Context(), s.Component(), st)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(appids, s.Authorizer()) {
			in = append(in, st)
		}
	}
	return in
}

func wantIndex(t *testing.T, v *vault.Vault, want ...vault.Standing) {
	t.Helper()
	if got := index(t, v, account); !slices.Equal(got, want) {
		t.Errorf("the account is in the indexes %v, want %v", got, want)
	}
}

// The index is written when the standing changes, and at no other time.
func TestStandingIsNotedOnChangeAlone(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	var told []vault.Change
	v.Changed = func(c vault.Change) { told = append(told, c) }
	stores, deletes := 0, 0
	step := func(what string, r vault.Record, wantStores, wantDeletes int) vault.Record {
		t.Helper()
		r = mustStore(t, v, account, r)
		gotStores, gotDeletes := memory.Count(vaulttest.Store)-stores, memory.Count(vaulttest.Delete)-deletes
		stores, deletes = memory.Count(vaulttest.Store), memory.Count(vaulttest.Delete)
		if gotStores != wantStores || gotDeletes != wantDeletes {
			t.Errorf("%s: %d stores, %d deletes; want %d, %d", what, gotStores, gotDeletes, wantStores, wantDeletes)
		}
		return r
	}
	r := step("the first record", healthy, 1, 0)
	r = step("a renewal", r, 1, 0)
	r = step("a failure", failing(r), 2, 0)
	wantIndex(t, v, vault.Failing)
	if note, err := v.LoadNote(t.Context(), account, vault.Failing); err != nil || !cmp.Equal(note, fullNote) {
		t.Errorf("note is %+v, %v", note, err)
	}
	for range 3 {
		r = step("the same failure", failing(r), 1, 0)
	}
	r.Trouble = vault.NeedsAuthorization
	r = step("a worse one", r, 2, 1)
	wantIndex(t, v, vault.NeedsAdmin)
	r.State, r.EventTime = vault.Unauthorized, at(4)
	r = step("the account withdraws", r, 2, 1)
	wantIndex(t, v, vault.Withdrawn)
	r = step("a repeated event", r, 1, 0)
	r.State = vault.Authorized
	r = step("it authorises again", r, 1, 1)
	step("a renewal", r, 1, 0)
	wantIndex(t, v)
	want := []vault.Change{
		{Who: account, Before: vault.Stands, After: vault.Stands, New: true},
		{Who: account, Before: vault.Stands, After: vault.Failing},
		{Who: account, Before: vault.Failing, After: vault.NeedsAdmin},
		{Who: account, Before: vault.NeedsAdmin, After: vault.Withdrawn},
		{Who: account, Before: vault.Withdrawn, After: vault.Stands},
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// A writer that knows no reason leaves a note with the time, and a component has none.
func TestNotesThatNobodyHasWritten(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	mustStore(t, v, account, vault.Record{State: vault.Unauthorized, EventTime: at(4)})
	want := vault.Note{Since: at(4), Slug: "unauthorized"}
	if note, err := v.LoadNote(t.Context(), account, vault.Withdrawn); err != nil || !cmp.Equal(note, want) {
		t.Errorf("note is %+v, %v; want %+v", note, err, want)
	}
	mustStore(t, v, subject.Of(component, ""), vault.Record{Trouble: vault.RenewalsFail})
	if files := memory.Files(); len(files) != 3 {
		t.Errorf("files are %v", slices.Sorted(maps.Keys(files)))
	}
	// The reason of a writer whose standing is not the one that is stored is not noted.
	r := mustStore(t, v, account, vault.Record{EventTime: at(5), Generation: 9})
	stale := failing(vault.Record{EventTime: at(4)})
	stale.Generation = r.Generation - 1
	mustStore(t, v, account, stale)
	wantIndex(t, v)
}

func TestNotesAreSealedAndBounded(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	r := failing(healthy)
	r.Note.Text, r.Note.Remedy = strings.Repeat("白", 200), strings.Repeat("a", 300)
	mustStore(t, v, account, r)
	if file := memory.Files()[failingFile]; file == nil || bytes.Contains(file, []byte("61004")) || bytes.Contains(file, []byte("refused")) {
		t.Errorf("the note is %q", file)
	}
	note, err := v.LoadNote(t.Context(), account, vault.Failing)
	if err != nil || note.Text != strings.Repeat("白", 100) || note.Remedy != r.Note.Remedy {
		t.Errorf("%d and %d bytes, %v", len(note.Text), len(note.Remedy), err)
	}
	for _, s := range []subject.Subject{subject.Of(component, ""), subject.Of(component, "../../x"), subject.Of("..", authorizer)} {
		if _, err := v.LoadNote(t.Context(), s, vault.Failing); err == nil || errors.Is(err, vault.ErrNotFound) {
			t.Errorf("%q: %v", s, err)
		}
	}
	if _, err := v.ListStanding(t.Context(), "../x", vault.Failing); err == nil {
		t.Error("a folder elsewhere is listed")
	}
}

// Whichever write fails, or is the last of a process, no account in trouble is missing in
// the index; and what is left over is gone after a repair.
func TestNoAccountInTroubleIsMissing(t *testing.T) {
	broken := errors.New("storage is down")
	steps := map[string]struct{ before, after vault.Record }{
		"an account fails":       {healthy, failing(healthy)},
		"it fails in other ways": {failing(healthy), vault.Record{Trouble: vault.NeedsAuthorization, TroubleSince: at(2)}},
		"it recovers":            {failing(healthy), healthy},
		"it withdraws":           {healthy, vault.Record{State: vault.Unauthorized, EventTime: at(3)}},
		"it authorises again":    {vault.Record{State: vault.Unauthorized, EventTime: at(3)}, healthy},
		"it is new, and fails":   {vault.Record{}, failing(healthy)},
	}
	for name, step := range steps {
		for last := range 8 { // operations that still succeed
			t.Run(fmt.Sprintf("%s, %d operations", name, last), func(t *testing.T) {
				memory := new(vaulttest.Memory)
				v := open(t, memory, key(1))
				if step.before.Standing() != vault.Stands || step.before.Refresh != nil {
					step.before.Generation = mustStore(t, v, account, step.before).Generation
				}
				done := 0
				memory.Intercept(func(context.Context, vaulttest.Op, string) error {
					if done++; done > last {
						return broken
					}
					return nil
				})
				after := step.after
				after.Generation = step.before.Generation
				_, failed := v.Store(t.Context(), account, after)
				memory.Intercept(nil)

				r, err := v.Load(t.Context(), account)
				if err != nil && !errors.Is(err, vault.ErrNotFound) {
					t.Fatal(err)
				}
				in := index(t, v, account)
				if r.Standing() != vault.Stands && !slices.Contains(in, r.Standing()) {
					t.Errorf("the record says %s, the account is in the indexes %v (%v)", r.Standing(), in, failed)
				}
				for _, listed := range in {
					if stands, err := v.Repair(t.Context(), account, r, listed); err != nil || stands != r.Standing() {
						t.Errorf("repair: %s, %v; want %s", stands, err, r.Standing())
					}
				}
				if r.Standing() == vault.Stands {
					wantIndex(t, v)
				} else {
					wantIndex(t, v, r.Standing())
				}
			})
		}
	}
}

// Records of the release before are in no index until they are compared with it.
func TestRepairFindsWhatTheReleaseBeforeHasStored(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	r := mustStore(t, v, account, failing(healthy))
	if err := memory.Delete(t.Context(), failingFile); err != nil {
		t.Fatal(err)
	}
	var told []vault.Change
	v.Changed = func(c vault.Change) { told = append(told, c) }
	for range 2 {
		if st, err := v.Repair(t.Context(), account, r, vault.Stands); err != nil || st != vault.Failing {
			t.Fatalf("%s, %v", st, err)
		}
	}
	want := vault.Note{Since: at(1), Slug: "failing"}
	if note, err := v.LoadNote(t.Context(), account, vault.Failing); err != nil || !cmp.Equal(note, want) {
		t.Errorf("note is %+v, %v; want %+v", note, err, want)
	}
	if len(told) == 0 || told[0] != (vault.Change{Who: account, Before: vault.Stands, After: vault.Failing}) {
		t.Errorf("told is %+v", told)
	}
	locks := memory.Count(vaulttest.Lock)
	if _, err := v.Repair(t.Context(), account, r, vault.Failing); err != nil || memory.Count(vaulttest.Lock) != locks {
		t.Errorf("a repair of nothing takes the lock: %v", err)
	}
}

// Reseal opens all records, and completes the index.
func TestResealCompletesTheIndex(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	mustStore(t, v, account, failing(healthy))
	mustStore(t, v, subject.Of(component, "wx0000000000000010"), healthy)
	if err := memory.Delete(t.Context(), failingFile); err != nil {
		t.Fatal(err)
	}
	mustReseal(t, v)
	wantIndex(t, v, vault.Failing)
	stores, locks := memory.Count(vaulttest.Store), memory.Count(vaulttest.Lock)
	mustReseal(t, v)
	if memory.Count(vaulttest.Store) != stores || memory.Count(vaulttest.Lock) != locks {
		t.Error("the second time, something was locked or stored")
	}
}

// A record that does not open is replaced by one without trouble; the note of before is
// left over, and repaired.
func TestNoteOfARecordThatDoesNotOpen(t *testing.T) {
	memory := new(vaulttest.Memory)
	mustStore(t, open(t, memory, key(1)), account, failing(healthy))
	v := open(t, memory, key(2))
	r := mustStore(t, v, account, healthy)
	wantIndex(t, v, vault.Failing)
	if _, err := v.Repair(t.Context(), account, r, vault.Failing); err != nil {
		t.Fatal(err)
	}
	wantIndex(t, v)
}

// The note of a newer release is left alone, another one that does not open is not.
func TestNotesThatDoNotOpen(t *testing.T) {
	for file, replaced := range map[string]bool{
		`{"schema":99,"key":"0000000000000000","box":"AAAA"}`: false,
		`{"schema":1,"key":"0000000000000000","box":"AAAA"}`:  true,
		`{`: true,
	} {
		memory := new(vaulttest.Memory)
		memory.Put(failingFile, []byte(file))
		v := open(t, memory, key(1))
		mustStore(t, v, account, failing(healthy))
		if got := string(memory.Files()[failingFile]) != file; got != replaced {
			t.Errorf("%s: replaced is %t", file, got)
		}
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	mustStore(t, v, account, failing(healthy))
	for _, err := range []error{v.StoreProfile(t.Context(), account, fullProfile), v.MarkPending(t.Context(), account)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var told []vault.Change
	v.Changed = func(c vault.Change) { told = append(told, c) }
	for last := range 20 { // each time one operation more succeeds: until all is gone, the account is listed
		done := 0
		memory.Intercept(func(context.Context, vaulttest.Op, string) error {
			if done++; done > last {
				return errors.New("storage is down")
			}
			return nil
		})
		err := v.Remove(t.Context(), account)
		memory.Intercept(nil)
		appids, _ := v.List(t.Context(), component)
		if left := len(memory.Files()); (left > 0) != (len(appids) > 0) || err == nil && left > 0 {
			t.Errorf("after %d operations (%v) %d files are left, %v is listed", last, err, left, appids)
		}
	}
	if len(told) == 0 || !told[0].Removed || told[0].Who != account {
		t.Errorf("told is %+v", told)
	}
	if err := v.Remove(t.Context(), subject.Of(component, "")); err == nil {
		t.Error("a component is removed")
	}
}

func TestListShard(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	for _, appid := range []string{authorizer, "wx0000000000000010", "wx0000000000000011"} {
		mustStore(t, v, subject.Of(component, appid), healthy)
	}
	memory.Put("wechat/"+component+"/authorizers/10/.tmp", nil)
	got, err := v.ListShard(t.Context(), component, 0x10)
	if want := []string{"wx0000000000000010", authorizer}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := v.ListShard(t.Context(), "..", 1); err == nil {
		t.Error("a folder elsewhere is listed")
	}
}

// All records are compared twice, a day apart, by whichever node.
func TestIndexPasses(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	now := at(0)
	due := func() bool {
		t.Helper()
		due, err := v.IndexPassDue(t.Context(), component, now)
		if err != nil {
			t.Fatal(err)
		}
		return due
	}
	var passes []time.Duration
	for ; now.Before(at(0).Add(96 * time.Hour)); now = now.Add(time.Hour) {
		if due() {
			passes = append(passes, now.Sub(at(0)))
			if err := v.IndexPassed(t.Context(), component, now); err != nil {
				t.Fatal(err)
			}
		}
	}
	if want := []time.Duration{0, 24 * time.Hour}; !slices.Equal(passes, want) {
		t.Errorf("passes at %v, want %v", passes, want)
	}
	memory.Put(states+"index", []byte("{"))
	if !due() {
		t.Error("a file that is no JSON counts as passes")
	}
	memory.Intercept(func(context.Context, vaulttest.Op, string) error { return errors.New("storage is down") })
	if _, err := v.IndexPassDue(t.Context(), component, now); !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("without storage: %v", err)
	}
}
