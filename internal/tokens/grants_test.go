// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Rule 8: withdrawn authorizations.

func TestUnauthorizedEventDropsTheTokensAtOnce(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.must(w.weixin.Revoke(w.Context(), theShop))
		for range 300 {
			w.fails(shop, problem.ErrUnauthorized)
			time.Sleep(time.Second)
		}
		w.silent()
		if got := w.record(shop); got.State != vault.Unauthorized || got.Refresh != nil || got.Token != nil {
			t.Errorf("record is %v with token %v, refresh %v", got.State, got.Token != nil, got.Refresh != nil)
		}
		w.restart()
		w.fails(shop, problem.ErrUnauthorized)
		w.silent()
	})
}

func TestUnauthorizedEventReachesAnotherNodeAtTheNextRenewal(t *testing.T) {
	playAuthorized(t, func(w *world) {
		other := w.start()
		token := w.tokenFrom(other, shop)
		w.must(w.weixin.Revoke(w.Context(), theShop))
		if _, err := other.Replace(w.Context(), shop, rejection(token)); !errors.Is(err, problem.ErrUnauthorized) {
			t.Errorf("After: %v", err)
		}
		if _, err := other.Current(w.Context(), shop, theClient); !errors.Is(err, problem.ErrUnauthorized) {
			t.Errorf("Current: %v", err)
		}
		w.silent()
	})
}

// The event that finds a lookup half way: it must not put the token back.
func TestUnauthorizedEventDuringALookup(t *testing.T) {
	playAuthorized(t, func(w *world) {
		token := w.node.tokenOf(shop, w.record(shop)) // read, and not yet in memory
		w.must(w.weixin.Revoke(w.Context(), theShop))
		w.node.remember(shop, token)
		w.fails(shop, problem.ErrUnauthorized)
	})
}

func TestUnauthorizedEventIsNotAcknowledgedUnlessStored(t *testing.T) {
	for _, broken := range []vaulttest.Op{vaulttest.Store, vaulttest.Load, vaulttest.Lock} {
		playAuthorized(t, func(w *world) {
			w.breakStorage(broken)
			if err := w.weixin.Revoke(w.Context(), theShop); err == nil {
				t.Errorf("%s fails, and the push is acknowledged", broken)
			}
			if broken == vaulttest.Store {
				w.fails(shop, problem.ErrUnauthorized) // this node knows
			}
			w.repairStorage()
			time.Sleep(time.Minute)
			if broken == vaulttest.Store && w.record(shop).State != vault.Unauthorized {
				t.Error("it was not stored later")
			}
		})
	}
}

func TestAuthorizedEventRevives(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.must(w.weixin.Revoke(w.Context(), theShop))
		w.fails(shop, problem.ErrUnauthorized)
		w.authorize(theShop)
		w.isStored(w.token(shop))
		w.calls(askQueryAuth, 1)
	})
}

func TestWithdrawalThatOnlyTheRefreshTells(t *testing.T) {
	for _, code := range []int{61003, 61023} {
		playAuthorized(t, func(w *world) {
			w.weixin.SetSwitches(sandbox.Switches{RevokedErrCode: code})
			node := w.node
			w.node = nil // no push arrives
			_ = w.weixin.Revoke(w.Context(), theShop)
			w.node = node
			time.Sleep(3 * time.Hour)
			w.fails(shop, problem.ErrUnauthorized)
			if w.record(shop).State != vault.Unauthorized {
				t.Errorf("%d: no tombstone", code)
			}
			w.weixin.ResetCounts()
			time.Sleep(5 * time.Minute)
			w.fails(shop, problem.ErrUnauthorized)
			w.silent()
		})
	}
}

// An account that authorized anew, while its code could not be exchanged yet,
// is not given up because the refresh token of the time before is dead.
func TestWithdrawalDoesNotCostThePendingCode(t *testing.T) {
	playAuthorized(t, func(w *world) {
		node := w.node
		w.node = nil
		_ = w.weixin.Revoke(w.Context(), theShop)
		w.node = node
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, ErrCode: -1})
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 61003})
		w.authorize(theShop)
		refused, err := w.node.Current(w.Context(), shop, theClient)
		w.must(err)
		for range 60 {
			if _, err := w.node.Replace(w.Context(), shop, rejection(refused)); err == nil {
				t.Fatal("a token is served")
			}
			time.Sleep(time.Second)
		}
		w.weixin.ClearFaults()
		time.Sleep(2 * time.Minute)
		w.isStored(w.token(shop))
	})
}

// Events arrive in any order; their CreateTime decides.
func TestOlderEventChangesNothing(t *testing.T) {
	playAuthorized(t, func(w *world) {
		at := w.record(shop).EventTime
		w.must(w.node.Unauthorized(w.Context(), theComponent, theShop, at.Add(-time.Second)))
		w.token(shop)

		w.must(w.weixin.Revoke(w.Context(), theShop))
		w.weixin.ResetCounts()
		older := Grant{theComponent, theShop, secret.New("an old code"), w.record(shop).EventTime.Add(-time.Second)}
		w.must(w.node.Authorized(w.Context(), older))
		synctest.Wait()
		w.fails(shop, problem.ErrUnauthorized)
		w.silent()
		if w.record(shop).Code != nil {
			t.Error("the old code is kept")
		}
	})
}

// The unauthorized event was lost. The first call that WeChat answers with
// 61003 makes the gateway look; a 61003 that means something else costs one
// renewal in ten minutes and harms nobody.
func TestNotAuthorizedOnACallIsLookedInto(t *testing.T) {
	playAuthorized(t, func(w *world) {
		token := w.token(shop)
		w.weixin.ResetCounts()
		for range 100 {
			w.node.Recheck(shop, token)
			time.Sleep(time.Second)
		}
		w.calls(askAuthorizerToken, 1)
		token = w.token(shop)

		receiver := w.node
		w.node = nil // the push fails
		_ = w.weixin.Revoke(w.Context(), theShop)
		w.node = receiver

		time.Sleep(recheckInterval)
		w.node.Recheck(shop, token)
		synctest.Wait()
		w.fails(shop, problem.ErrUnauthorized)
	})
}

// An account that has tokens does not suffer because a new code of its cannot
// be exchanged.
func TestFailingCodeDoesNotHoldUpAnAuthorizedAccount(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, ErrCode: 45009})
		_, err := w.weixin.UpdateAuthorized(w.Context(), theShop)
		w.must(err)
		synctest.Wait()
		for range 3 {
			token := w.token(shop)
			w.weixin.KillTokens(theShop)
			if _, err := w.node.Replace(w.Context(), shop, rejection(token)); err != nil {
				t.Fatalf("renewing: %v", err)
			}
		}
	})
}
