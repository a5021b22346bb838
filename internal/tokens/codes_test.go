// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// One authorization, told twice.

// told brings the same code as a push and as a callback.
func (w *world) told(t *testing.T, push, callback func(bring func())) {
	t.Helper()
	w.weixin.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
	code, err := w.weixin.Authorize(w.Context(), theShop)
	w.must(err)
	var all sync.WaitGroup
	push(func() {
		all.Go(func() { w.must(w.weixin.PushAuthorized(w.Context(), theShop)) })
		synctest.Wait()
	})
	callback(func() {
		all.Go(func() {
			if appid, err := w.node.Exchange(w.Context(), theComponent, secret.New(code)); appid != theShop || err != nil {
				t.Errorf("Exchange: %q, %v", appid, err)
			}
		})
	})
	all.Wait()
	synctest.Wait()
	w.isStored(w.token(shop))
	w.calls(askQueryAuth, 1)
	if record := w.record(shop); record.State != vault.Authorized || record.Code != nil {
		t.Errorf("record is %v, code pending: %v", record.State, record.Code != nil)
	}
}

func TestCodeFromPushAndCallback(t *testing.T) {
	once := func(bring func()) { bring() }
	later := func(bring func()) { time.Sleep(time.Minute); bring() }
	twice := func(bring func()) { bring(); time.Sleep(time.Minute); bring() }
	for name, order := range map[string]struct{ push, callback func(bring func()) }{
		"at once":             {once, once},
		"push first":          {once, later},
		"both twice":          {twice, twice},
		"push twice":          {twice, once},
		"callback twice":      {once, twice},
		"callback ten times":  {once, func(bring func()) { twice(bring); twice(bring); twice(bring) }},
		"callback, no push":   {func(func()) {}, once},
		"push, no callback":   {once, func(func()) {}},
		"callback twice only": {func(func()) {}, twice},
	} {
		for _, latency := range []time.Duration{0, 3 * time.Second} {
			t.Run(name, func(t *testing.T) {
				play(t, func(w *world) {
					w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, Latency: latency})
					w.told(t, order.push, order.callback)
				})
			})
		}
	}
	t.Run("callback first", func(t *testing.T) {
		play(t, func(w *world) {
			code := ""
			w.weixin.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
			code = w.authorize(theShop)
			_, err := w.node.Exchange(w.Context(), theComponent, secret.New(code))
			w.must(err)
			time.Sleep(time.Minute)
			w.must(w.weixin.PushAuthorized(w.Context(), theShop))
			synctest.Wait()
			w.calls(askQueryAuth, 1)
			w.isStored(w.token(shop))
			if w.record(shop).EventTime.IsZero() {
				t.Error("the event's time is not noted")
			}
		})
	})
}

func TestPushAndCallbackWithDifferentCodes(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{DifferentCodes: true})
		code := w.authorize(theShop)
		appid, err := w.node.Exchange(w.Context(), theComponent, secret.New(code))
		if err != nil || appid != theShop {
			t.Errorf("Exchange: %q, %v", appid, err)
		}
		w.isStored(w.token(shop))
	})
}

// The callback's exchange, then a late unauthorized event of the time before,
// then the authorized event with the code that is spent: it still revives.
func TestAuthorizedEventWithASpentCodeRevives(t *testing.T) {
	playAuthorized(t, func(w *world) {
		node := w.node
		w.node = nil
		_ = w.weixin.Revoke(w.Context(), theShop)
		revoked := time.Now()
		w.node = node
		time.Sleep(time.Minute)
		w.weixin.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
		_, err := w.node.Exchange(w.Context(), theComponent, secret.New(w.authorize(theShop)))
		w.must(err)
		w.must(w.node.Unauthorized(w.Context(), theComponent, theShop, revoked))
		w.fails(shop, problem.ErrUnauthorized)
		w.must(w.weixin.PushAuthorized(w.Context(), theShop))
		w.isStored(w.token(shop))
		w.calls(askQueryAuth, 1)

		w.must(w.weixin.Revoke(w.Context(), theShop)) // and a repeat that is older does not
		time.Sleep(time.Second)
		w.must(w.node.Authorized(w.Context(), Grant{theComponent, theShop, secret.New("c"), revoked}))
		w.fails(shop, problem.ErrUnauthorized)
	})
}

// The pushed code is stored, then the process dies before it is exchanged.
func TestCrashBeforeThePushedCodeIsExchanged(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, Never: true, Times: 1})
		w.authorize(theShop)
		w.restart()
		w.weixin.ResetCounts()
		w.isStored(w.token(shop))
		w.calls(askQueryAuth, 1)
		w.calls(askAuthorizerInfo, 0)
	})
}

// The code is spent, then the process dies before the tokens are stored.
func TestCrashBeforeTheTokensAreStored(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, DropAfter: true, Times: 1})
		w.authorize(theShop)
		w.restart()
		w.weixin.ResetCounts()
		w.isStored(w.token(shop))
		w.calls(askQueryAuth, 1)
		w.calls(askAuthorizerInfo, 1)
		if w.record(shop).Code != nil {
			t.Error("the code is still pending")
		}
	})
}

func TestAnswerToTheExchangeIsLost(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, DropAfter: true, Times: 1})
		code := w.authorize(theShop)
		time.Sleep(2 * time.Second) // it is tried again behind
		w.isStored(w.token(shop))
		w.calls(askAuthorizerInfo, 1)
		if appid, err := w.node.Exchange(w.Context(), theComponent, secret.New(code)); appid != theShop || err != nil {
			t.Errorf("the callback: %q, %v", appid, err)
		}
		w.calls(askQueryAuth, 2)
	})
}

func TestCodeThatWasSpentElsewhere(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, ErrCode: 61009})
		code, err := w.weixin.UpdateAuthorized(w.Context(), theShop)
		w.must(err)
		synctest.Wait()
		w.token(shop)
		if appid, err := w.node.Exchange(w.Context(), theComponent, secret.New(code)); appid != theShop || err != nil {
			t.Errorf("the callback: %q, %v", appid, err)
		}
		w.calls(askQueryAuth, 1)
		w.calls(askAuthorizerInfo, 0)
		if w.record(shop).Code != nil {
			t.Error("the code is still pending")
		}
		if _, err := w.node.Exchange(w.Context(), theComponent, secret.New("a forged code")); err == nil {
			t.Error("a code that nobody announced is taken")
		}
	})
}

// Two nodes know of the code: the push came to one, a request to the other.
func TestTwoNodesExchangeTheSameCode(t *testing.T) {
	for range 20 { // who is first is left to chance
		play(t, func(w *world) {
			other := w.start()
			w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, Latency: time.Second})
			w.authorize(theShop)
			token, err := other.Current(w.Context(), shop, theClient)
			w.must(err)
			w.isValid(token, shop)
			time.Sleep(time.Second)
			w.isStored(w.token(shop))
		})
	}
}

// The answer comes late: another node has found the code spent, recovered, and
// renewed. The older token does not overwrite the newer one.
func TestLateExchangeDoesNotOverwriteANewerToken(t *testing.T) {
	play(t, func(w *world) {
		other := w.start()
		w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			answer, err := next.RoundTrip(r)
			if r.URL.Path == askQueryAuth && w.weixin.Count(askQueryAuth) == 1 {
				time.Sleep(5 * time.Second)
			}
			return answer, err
		})
		w.authorize(theShop)
		time.Sleep(time.Second)
		newest := w.tokenFrom(other, shop)
		time.Sleep(10 * time.Second)
		w.isStored(newest)
		w.token(shop)
	})
}

// Two codes are about at a time, as after a change of the permission sets.
func TestExchangeOfOneCodeKeepsTheOtherPending(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{DifferentCodes: true})
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, ErrCode: -1, Times: 1})
		code := w.authorize(theShop) // the pushed one cannot be exchanged yet
		pending := w.record(shop).Code
		_, err := w.node.Exchange(w.Context(), theComponent, secret.New(code))
		w.must(err)
		if !w.record(shop).Code.Equal(pending) {
			t.Error("the pushed code is lost")
		}
		time.Sleep(2 * time.Second)
		w.isStored(w.token(shop))
		w.calls(askQueryAuth, 3)
	})
}

func TestCallbackThatWeChatRefuses(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, ErrCode: 61011})
		_, err := w.node.Exchange(w.Context(), theComponent, secret.New(w.authorize(theShop)))
		if !errors.Is(err, problem.ErrNoComponent) {
			t.Errorf("Exchange: %v", err)
		}
		if w.logged(zap.ErrorLevel, "exchanging authorization_code failed") != 1 ||
			w.logged(zap.ErrorLevel, "not that of a third-party platform") != 1 {
			t.Error("the log names neither failure nor remedy")
		}
	})
}

// An account that grants no permission set has no tokens.
func TestAccountWithoutAnyPermission(t *testing.T) {
	play(t, func(w *world) {
		w.must(w.weixin.AddAccount(sandbox.Account{AppID: theShop, FuncInfo: []int{}}))
		code := w.authorize(theShop)
		if appid, err := w.node.Exchange(w.Context(), theComponent, secret.New(code)); appid != theShop || err != nil {
			t.Errorf("the callback: %q, %v", appid, err)
		}
		w.fails(shop, problem.ErrNeedsAdmin)
	})
}

func TestCallerOfExchangeWhoGivesUp(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, Latency: 5 * time.Second})
		code := w.authorize(theShop)
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if _, err := w.node.Exchange(ctx, theComponent, secret.New(code)); err == nil {
			t.Error("it waited")
		}
		time.Sleep(5 * time.Second)
		w.isStored(w.token(shop))
	})
}

func TestPushIsNotAcknowledgedUnlessTheCodeIsStored(t *testing.T) {
	play(t, func(w *world) {
		w.breakStorage(vaulttest.Store)
		if _, err := w.weixin.Authorize(w.Context(), theShop); err == nil {
			t.Error("the push is acknowledged")
		}
		w.calls(askQueryAuth, 0)
		w.repairStorage()
		w.must(w.weixin.PushAuthorized(w.Context(), theShop))
		w.isStored(w.token(shop))
	})
}

// An update of the permission sets must not wait for the next renewal, when
// its code is dead, only because WeChat was busy for a moment: the account has
// a refresh token, so nobody else would notice.
func TestPermissionUpdateIsExchangedAgainUntilItSucceeds(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, ErrCode: -1, Times: 3})
		_, err := w.weixin.UpdateAuthorized(w.Context(), theShop)
		w.must(err)
		time.Sleep(5 * time.Minute)
		if record, err := w.node.records.load(w.Context(), shop); err != nil || record.Code != nil {
			t.Errorf("the code is still pending: %v", err)
		}
	})
}

// Meanwhile the account's refresh token works, and so do its calls.
func TestFaultOfTheExchangeOfAnUpdateCostsNoCalls(t *testing.T) {
	expired(t, func(w *world) {
		tr := &trial{world: w, node: w.node, who: shop}
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, ErrCode: -1})
		_, err := w.weixin.UpdateAuthorized(w.Context(), theShop)
		w.must(err)
		tr.isTold(tr.ask(8*time.Minute), served)
		w.weixin.ClearFaults()
		time.Sleep(2 * coolDown)
		if w.record(shop).Code != nil {
			t.Error("the code is still pending")
		}
	})
}

// The account of a pushed code may be idle: nobody calls for it before the code
// is dead. Whoever starts next exchanges it all the same, and the mark goes.
func TestPendingCodeOfAnIdleAccountIsExchangedAfterACrash(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, Never: true, Times: 1})
		w.authorize(theShop)
		w.restart()
		w.weixin.ResetCounts()
		ctx, cancel := context.WithCancel(w.Context())
		done := make(chan struct{})
		go func() {
			w.node.watch(ctx)
			close(done)
		}()
		time.Sleep(2 * time.Minute)
		cancel()
		<-done
		w.calls(askQueryAuth, 1)
		if record := w.record(shop); record.Code != nil || record.Refresh == nil {
			t.Error("the code of the idle account was not exchanged")
		}
		if marked, err := w.node.Keeper.settings().Vault.Pending(w.Context(), theComponent); len(marked) != 0 || err != nil {
			t.Errorf("still marked: %v, %v", marked, err)
		}
	})
}

// Two platforms in one gateway: a code of the one must not pass as an
// authorisation of the other.
func TestCodeOfAnotherComponentIsNotKnown(t *testing.T) {
	c := newCodes()
	c.MarkSpent(codeID("wx134c8103faa5a59e", secret.New("code")), theShop, nil)
	if _, known := c.Announced(codeID("wxffffffffffffffff", secret.New("code"))); known {
		t.Error("the code is known under another component")
	}
}
