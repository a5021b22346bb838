// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// What an operator has read anew is stored when Save returns, and in force at once;
// applications are told what has changed.
func TestSave(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		n.Granted(account, time.Now())
		w.questions(1)
		time.Sleep(time.Minute)
		info := openapi.AuthorizerInfo{NickName: "新名", UserName: "gh_new", Kind: openapi.OfficialAccount, Functions: []int{1, 2, 3}}
		w.must(n.Save(w.Context(), account, info, time.Now()))
		if got := w.stored(n); got.Name != "新名" || got.UserName != "gh_new" || !got.Learned.Equal(time.Now()) {
			t.Errorf("stored is %+v", got)
		}
		w.news("granted 3")
		w.push(n, "gh_new", true, true)
		w.questions(0)

		w.storage.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == vaulttest.Store {
				return errors.New("storage fails")
			}
			return nil
		})
		if err := n.Save(w.Context(), account, info, time.Now()); !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("storage fails: %v", err)
		}
	})
}

// What an account has granted is known from memory alone. Of an account that memory does
// not know it is looked for in the storage, for the next time.
func TestSets(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		if _, known := n.Sets(account); known {
			t.Error("known before anything is stored")
		}
		info := openapi.AuthorizerInfo{UserName: userName, Kind: openapi.OfficialAccount, Functions: []int{1, 88}}
		w.must(n.Save(w.Context(), account, info, time.Now()))
		if sets, known := n.Sets(account); !known || !sets.Has(88) || sets.Has(2) {
			t.Errorf("granted is %v, %v", sets, known)
		}
		other := w.start()
		if _, known := other.Sets(account); known {
			t.Error("known without a look into the storage")
		}
		synctest.Wait()
		if sets, known := other.Sets(account); !known || !sets.Has(1) {
			t.Errorf("after it was looked for, granted is %v, %v", sets, known)
		}
	})
}

// Of an account that is forgotten nothing is stored any more, also if an answer about it
// still waits to be stored.
func TestForget(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		hold := make(chan struct{})
		w.storage.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == vaulttest.Lock {
				<-hold
			}
			return nil
		})
		info := openapi.AuthorizerInfo{UserName: userName, Kind: openapi.OfficialAccount}
		n.Learned(subject.Of(component, "wxbbbbbbbbbbbbbbbb"), info, time.Now()) // is at it, and waits for the storage
		synctest.Wait()
		n.Learned(account, info, time.Now())
		n.Forget(account)
		close(hold)
		synctest.Wait()
		time.Sleep(time.Minute)
		if _, err := n.settings.Vault.LoadProfile(w.Context(), account); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("a profile of an account that is forgotten: %v", err)
		}
		if n.memory.Get(account) != nil {
			t.Error("memory still knows it")
		}
		n.Learned(account, info, time.Now()) // it has come again
		synctest.Wait()
		w.stored(n)
	})
}
