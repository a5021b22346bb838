// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// News that is lost, or overtaken by other news.

// The account has authorized again, in the browser; that event is lost, and the
// unauthorized one of the time before comes late. WeChat knows better.
func TestTombstoneOfAnAccountThatIsBackIsLookedInto(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.deaf.Store(true)
		_ = w.weixin.Revoke(w.Context(), theShop)
		revoked := time.Now()
		time.Sleep(time.Minute)
		code, _ := w.weixin.Authorize(w.Context(), theShop)
		w.deaf.Store(false)
		_, err := w.node.Exchange(w.Context(), theComponent, secret.New(code))
		w.must(err)
		w.must(w.node.Unauthorized(w.Context(), theComponent, theShop, revoked))
		w.fails(shop, problem.ErrUnauthorized)
		time.Sleep(recheckInterval)
		w.isStored(w.token(shop))
	})
}

// The answer to the exchange is lost and so is the event: nobody knows whose
// the code was. The account has a refresh token all the same.
func TestTombstoneOfAnAccountWhoseNewsWasAllLostIsLookedInto(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.must(w.weixin.Revoke(w.Context(), theShop))
		time.Sleep(time.Minute)
		w.deaf.Store(true)
		code, _ := w.weixin.Authorize(w.Context(), theShop)
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, DropAfter: true, Times: 1})
		if _, err := w.node.Exchange(w.Context(), theComponent, secret.New(code)); err == nil {
			t.Error("the answer was not lost")
		}
		time.Sleep(recheckInterval)
		w.isStored(w.token(shop))
	})
}

// An account that stays away costs a question in ten minutes, not one a call.
func TestTombstoneIsLookedIntoEveryTenMinutes(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.must(w.weixin.Revoke(w.Context(), theShop))
		for range 3600 {
			w.fails(shop, problem.ErrUnauthorized)
			time.Sleep(time.Second)
		}
		w.calls(askAuthorizerInfo, 5)
		w.calls(askAuthorizerToken, 0)
	})
}

// The browser brings the code to one node, then the event to another, which
// stores it and cannot exchange it. The first knows that it is spent, and must
// not look at the record again and again without a pause.
func TestSpentCodeThatAnotherNodeHasStored(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
		code := secret.New(w.authorize(theShop))
		_, err := w.node.Exchange(w.Context(), theComponent, code)
		w.must(err)
		other := w.start()
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, ErrCode: -1})
		w.must(other.Authorized(w.Context(), Grant{theComponent, theShop, code, time.Now()}))
		var loads atomic.Int64
		w.storage.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == vaulttest.Load && loads.Add(1) > 1000 {
				return errors.New("too many") // or a loop would not end
			}
			return nil
		})
		w.node.authorization.resumePending(w.Context(), theComponent)
		time.Sleep(time.Minute)
		if got := loads.Load(); got > 100 {
			t.Errorf("the storage was read %d times in a minute", got)
		}
		if w.record(shop).Code != nil {
			t.Error("the code is still pending")
		}
	})
}

// The code is spent, its answer was lost, and that cannot be written down: no
// call of an application may ask WeChat about it once more.
func TestSpentCodeThatCannotBeCleared(t *testing.T) {
	play(t, func(w *world) {
		w.token(platform)
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, DropAfter: true, Times: 1})
		w.authorize(theShop)
		w.breakStorage(vaulttest.Store)
		w.weixin.ResetCounts()
		for range 300 {
			if _, err := w.node.Current(w.Context(), shop, theClient); err == nil {
				t.Fatal("a token is served")
			}
			time.Sleep(time.Second)
		}
		if got := w.weixin.Count(askQueryAuth); got > 2 {
			t.Errorf("WeChat was asked %d times about a spent code", got)
		}
		w.repairStorage()
		time.Sleep(2 * time.Minute)
		w.isStored(w.token(shop))
	})
}

// The account withdraws while the renewal that brought its token still releases its
// lock. Who asks now joins that renewal, and is not given the token.
func TestTokenThatIsRevokedBeforeItsRenewalReturns(t *testing.T) {
	playAuthorized(t, func(w *world) {
		time.Sleep(3 * time.Hour)
		w.must(w.weixin.PushTicket(w.Context()))
		w.token(platform)
		w.storage.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == vaulttest.Unlock {
				time.Sleep(3 * time.Second)
			}
			return nil
		})
		go func() { _, _ = w.node.Current(w.Context(), shop, theClient) }()
		time.Sleep(time.Second)
		first := w.token(shop)
		w.node.revoke(shop, first)
		if token, err := w.node.Current(w.Context(), shop, theClient); err != nil || token.Value.Equal(first.Value) {
			t.Errorf("Current gives %v, %v; the first was revoked a moment ago", token, err)
		}
		synctest.Wait()
	})
}

// The account withdraws while the answer to the exchange of its code is on the
// way. The event is the later news.
func TestWithdrawalOvertakesTheExchange(t *testing.T) {
	play(t, func(w *world) {
		w.token(platform)
		w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			answer, err := next.RoundTrip(r)
			if r.URL.Path == askQueryAuth {
				time.Sleep(5 * time.Second)
			}
			return answer, err
		})
		w.authorize(theShop)
		time.Sleep(2 * time.Second)
		w.must(w.weixin.Revoke(w.Context(), theShop))
		time.Sleep(10 * time.Second)
		w.fails(shop, problem.ErrUnauthorized)
		if got := w.record(shop); got.State != vault.Unauthorized || got.Token != nil || got.Refresh != nil {
			t.Errorf("record is %v with token %v, refresh %v", got.State, got.Token != nil, got.Refresh != nil)
		}
	})
}

// A code that was left in the record, and is long dead, is no sign of a new
// authorization: the withdrawal counts.
func TestDeadCodeDoesNotHideAWithdrawal(t *testing.T) {
	playAuthorized(t, func(w *world) {
		v, record := w.node.settings.Load().Vault, w.record(shop)
		record.Code, record.CodeExpires = secret.New("a code"), time.Now().Add(codeLifetime)
		_, err := v.Store(w.Context(), shop, record)
		w.must(err)
		w.deaf.Store(true)
		_ = w.weixin.Revoke(w.Context(), theShop)
		w.deaf.Store(false)
		time.Sleep(3 * time.Hour)
		w.must(w.weixin.PushTicket(w.Context()))
		w.fails(shop, problem.ErrUnauthorized)
		if w.record(shop).State != vault.Unauthorized {
			t.Error("no tombstone")
		}
	})
}

// A node that does not know the seal key cannot know that there is no code.
func TestPendingCodeInARecordThatDoesNotOpenIsExchangedOnceItDoes(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, Never: true, Times: 1})
		w.authorize(theShop)
		w.restart()
		w.node.settings.Store(w.settings(2))
		w.node.authorization.resumePending(w.Context(), theComponent)
		time.Sleep(5 * time.Minute)
		w.isMarked(theShop)
		w.node.settings.Store(w.settings(1))
		time.Sleep(2 * time.Minute)
		w.isMarked()
		if record := w.record(shop); record.Code != nil || record.Refresh == nil {
			t.Error("the code was not exchanged")
		}
	})
}

// The mark of a code that a node is about to store is not that of a code which
// another node has done with.
func TestMarkOfACodeThatIsBeingStoredIsNotTakenAway(t *testing.T) {
	play(t, func(w *world) {
		other := w.start()
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, Never: true})
		var locks atomic.Int64
		w.storage.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
			if op == vaulttest.Lock && strings.HasSuffix(name, theShop) && locks.Add(1) == 1 {
				time.Sleep(2 * time.Second)
			}
			return nil
		})
		go func() { _, _ = w.weixin.Authorize(w.Context(), theShop) }()
		time.Sleep(time.Second)
		other.authorization.startExchange(shop)
		time.Sleep(10 * time.Second)
		w.isMarked(theShop)
	})
}

// While one node exchanges a code another one looks for codes that nobody is
// at. WeChat would refuse it the code, and the token would be renewed for nothing.
func TestPendingCodeIsLeftToTheNodeThatIsAtIt(t *testing.T) {
	play(t, func(w *world) {
		other := w.start()
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, Latency: 2 * time.Second})
		w.authorize(theShop)
		other.authorization.resumePending(w.Context(), theComponent)
		time.Sleep(time.Minute)
		w.calls(askQueryAuth, 1)
		w.isMarked()
	})
}

// isMarked checks whose codes are marked as pending.
func (w *world) isMarked(want ...string) {
	w.Helper()
	marked, err := w.settings(1).Vault.Pending(w.Context(), theComponent)
	if !slices.Equal(marked, want) || err != nil {
		w.Errorf("marked as pending: %q, %v; want %q", marked, err, want)
	}
}
