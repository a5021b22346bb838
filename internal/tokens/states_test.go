// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// settle waits for the work in the background, and for storage locks, which are polled.
func settle() {
	time.Sleep(5 * time.Second)
	synctest.Wait()
}

// standing is how it is with the shop, which must stand in the index of that and in no
// other, with the note of it.
func (w *world) standing(want vault.Standing) (note vault.Note) {
	w.Helper()
	settle()
	v := w.settings(1).Vault
	if got := w.record(shop).Standing(); got != want {
		w.Fatalf("the account is %s, want %s", got, want)
	}
	for _, st := range vault.Noted {
		appids, err := v.ListStanding(w.Context(), theComponent, st)
		w.must(err)
		if slices.Contains(appids, theShop) != (st == want) {
			w.Errorf("the account is %s; the index of %s has %v", want, st, appids)
		}
	}
	if want == vault.Stands {
		return vault.Note{}
	}
	note, err := v.LoadNote(w.Context(), shop, want)
	w.must(err)
	if note.Since.IsZero() || note.Text == "" || note.Remedy == "" {
		w.Errorf("the note is %+v", note)
	}
	return note
}

// What an account suffers from is noted with its reason, also where no application wants
// to be told, and it is noted once: ten failures cost no more than one.
func TestTroubleIsNotedWithoutAnybodyToTell(t *testing.T) {
	for name, row := range map[string]struct {
		errcode int
		want    vault.Standing
		slug    string
		fails   *problem.Problem
	}{
		"no token can be had":       {45009, vault.Failing, "refused", problem.ErrRefused},
		"the refresh token is lost": {61023, vault.NeedsAdmin, "needs_authorization", problem.ErrNeedsAdmin},
		"the account has withdrawn": {61003, vault.Withdrawn, "not_authorized", problem.ErrUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			playAuthorized(t, func(w *world) {
				w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: row.errcode})
				time.Sleep(3 * time.Hour)
				w.fails(shop, row.fails)
				note := w.standing(row.want)
				if note.Slug != row.slug || note.Errcode != row.errcode || note.RID == "" || !strings.Contains(note.Text, "api_authorizer_token: errcode") {
					t.Errorf("the note is %+v", note)
				}
				stores := w.storage.Count(vaulttest.Store)
				for range 10 {
					w.fails(shop, row.fails)
					time.Sleep(2 * time.Minute)
				}
				if got := w.storage.Count(vaulttest.Store) - stores; got > 0 && row.want != vault.Withdrawn {
					t.Errorf("ten more failures cost %d stores", got)
				}
				if again := w.standing(row.want); again != note {
					t.Errorf("the note was %+v and is %+v", note, again)
				}
			})
		})
	}
}

// Recovery costs two stores, the token's and that of the trouble which is over, and the
// index is empty after it.
func TestRecoveryLeavesTheIndex(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 45009})
		time.Sleep(3 * time.Hour)
		w.fails(shop, problem.ErrRefused)
		w.standing(vault.Failing)
		w.weixin.ClearFaults()
		time.Sleep(time.Minute)
		stores, deletes := w.storage.Count(vaulttest.Store), w.storage.Count(vaulttest.Delete)
		w.token(shop)
		w.standing(vault.Stands)
		if gotStores, gotDeletes := w.storage.Count(vaulttest.Store)-stores, w.storage.Count(vaulttest.Delete)-deletes; gotStores != 2 || gotDeletes != 1 {
			t.Errorf("%d stores, %d deletes; want 2 and 1", gotStores, gotDeletes)
		}
		time.Sleep(3 * time.Hour)
		stores = w.storage.Count(vaulttest.Store)
		w.token(shop)
		settle()
		if got := w.storage.Count(vaulttest.Store) - stores; got > 2 { // the account's token, and the component's
			t.Errorf("a renewal of an account that is well costs %d stores", got)
		}
	})
}

// A withdrawal of which an event tells is noted, and an authorisation ends it.
func TestWithdrawalIsNoted(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.must(w.weixin.Revoke(w.Context(), theShop))
		if note := w.standing(vault.Withdrawn); note.Slug != "not_authorized" || note.Errcode != 0 {
			t.Errorf("the note is %+v", note)
		}
		w.authorize(theShop)
		w.standing(vault.Stands)
	})
}

// While storage fails the trouble is not forgotten: it is noted once storage is back.
func TestTroubleIsNotedWhenStorageIsBack(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 61023})
		time.Sleep(3 * time.Hour)
		w.breakStorage(vaulttest.Store)
		w.fails(shop, problem.ErrNeedsAdmin)
		time.Sleep(time.Minute)
		w.repairStorage()
		time.Sleep(2 * time.Minute)
		w.standing(vault.NeedsAdmin)
	})
}

// Nor is a withdrawal: its record waits in memory with the reason.
func TestWithdrawalIsNotedWhenStorageIsBack(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.breakStorage(vaulttest.Store)
		if err := w.weixin.Revoke(w.Context(), theShop); err == nil {
			t.Error("the push was acknowledged")
		}
		time.Sleep(time.Minute)
		w.repairStorage()
		time.Sleep(2 * time.Minute)
		if note := w.standing(vault.Withdrawn); !strings.Contains(note.Text, "event") {
			t.Errorf("the note is %+v", note)
		}
	})
}

// That an account was met stays in its record until there is somebody to be told of it.
func TestAMeetingStaysNotedWhileNobodyListens(t *testing.T) {
	playAuthorized(t, func(w *world) {
		heard := w.listen(w.node)
		w.must(w.storage.Delete(w.Context(), w.file(shop)))
		w.restart()
		heard.also(w.node)
		heard.failing(func() error { return errDisk })
		w.must(w.weixin.PushTicket(w.Context()))
		w.token(shop)
		settle()
		if w.record(shop).Met.IsZero() {
			t.Fatal("the meeting is not noted")
		}
		w.restart() // of a configuration in which nobody takes news
		w.token(shop)
		time.Sleep(3 * time.Hour)
		w.token(shop)
		settle()
		if w.record(shop).Met.IsZero() {
			t.Error("the meeting is forgotten, and nobody was told")
		}
	})
}

// What ails the component is noted at none of its accounts.
func TestTroubleOfTheComponentIsNotedAtNoAccount(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askComponentToken, ErrCode: 61004})
		time.Sleep(3 * time.Hour)
		w.fails(shop, problem.ErrNoComponent)
		w.standing(vault.Stands)
	})
}

// A note says nothing of what WeChat echoes in its errmsg.
func TestNoteHoldsNoTextOfWeChats(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 45009, ErrMsg: "SECRET-echo of the request"})
		time.Sleep(3 * time.Hour)
		w.fails(shop, problem.ErrRefused)
		note := w.standing(vault.Failing)
		if strings.Contains(note.Text+note.Remedy+note.RID+note.Slug, "SECRET") {
			t.Errorf("the note is %+v", note)
		}
		last, _ := w.node.health.Last(healthKey{shop, renewal})
		if strings.Contains(last.Text+last.Remedy, "SECRET") {
			t.Errorf("the failure is %+v", last)
		}
	})
}
