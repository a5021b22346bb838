// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Rule 1: cache, then vault, then WeChat.
func TestLiveTokenInMemoryIsServedWithoutStorage(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.storage.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
			t.Errorf("storage: %s %s", op, name)
			return nil
		})
		for range 1000 {
			w.token(shop)
			w.token(platform)
		}
		w.silent()
	})
}

func TestLiveTokenInStorageIsServedWithoutWeChat(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.restart()
		w.token(shop)
		w.token(platform)
		w.silent()
	})
}

func TestServingFromMemoryDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	playAuthorized(t, func(w *world) {
		ctx := w.Context()
		if got := testing.AllocsPerRun(1000, func() { _, _ = w.node.Current(ctx, shop, theClient) }); got != 0 {
			t.Errorf("%v allocations, want none", got)
		}
	})
}

// Rule 2: refresh ahead.
func TestTokenSoonDueIsServedAtOnceAndRenewedOnceBehind(t *testing.T) {
	playAuthorized(t, func(w *world) {
		first := w.token(shop)
		time.Sleep(time.Until(first.Expires) - 7*time.Minute)
		w.soonDue(w.node, platform) // both are; the component is not what is counted here
		w.weixin.ResetCounts()
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, Latency: 3 * time.Second, Times: 1})
		began := time.Now()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if token, err := w.node.Current(w.Context(), shop, theClient); err != nil || token != first {
					t.Errorf("served %p, %v; want the current token %p", token, err, first)
				}
			})
		}
		all.Wait()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("callers waited %v", waited)
		}
		time.Sleep(4 * time.Second)
		if second := w.token(shop); second == first {
			t.Error("the token was not renewed")
		}
		w.calls(askAuthorizerToken, 1)
	})
}

// soonDue calls for a token that is soon due, and waits until it has been renewed
// behind.
func (w *world) soonDue(n *node, who subject.Subject) {
	w.Helper()
	_, err := n.Current(w.Context(), who, theClient)
	w.must(err)
	synctest.Wait()
}

// A node that has nothing in memory, or a token that has ended, finds in the vault one
// that is soon due.
func TestTokenSoonDueThatIsReadFromTheVaultIsRenewedBehind(t *testing.T) {
	for _, held := range []string{"nothing", "a token that has ended"} {
		t.Run(held, func(t *testing.T) {
			playAuthorized(t, func(w *world) {
				other := w.start()
				if held != "nothing" {
					w.tokenFrom(other, shop)
				}
				time.Sleep(2 * time.Hour)
				w.must(w.weixin.PushTicket(w.Context()))
				second := w.token(shop)
				time.Sleep(time.Until(second.Expires) - 7*time.Minute)
				w.weixin.ResetCounts()
				token, err := other.Current(w.Context(), shop, theClient)
				w.must(err)
				if !token.Value.Equal(second.Value) {
					t.Error("the caller did not get the token that is stored")
				}
				synctest.Wait()
				w.calls(askAuthorizerToken, 1)
			})
		})
	}
}

func TestRenewalAheadTakesWhatAnotherNodeHasRenewed(t *testing.T) {
	playAuthorized(t, func(w *world) {
		other := w.start()
		first := w.tokenFrom(other, shop)
		time.Sleep(time.Until(first.Expires) - 7*time.Minute)
		w.soonDue(w.node, shop)
		w.weixin.ResetCounts()
		w.soonDue(other, shop) // served from memory, and looked up behind
		w.tokenFrom(other, shop)
		w.silent()
	})
}

// Many accounts that are due are called for at once: their renewals take turns,
// and none is forgotten.
func TestRenewalsAheadTakeTurns(t *testing.T) {
	playAuthorized(t, func(w *world) {
		all := w.fill(3 * maxAhead)
		call := func() {
			for _, who := range all {
				_, _ = w.node.Current(w.Context(), who, theClient)
			}
		}
		call()
		time.Sleep(23 * time.Hour)
		w.must(w.weixin.PushTicket(w.Context()))
		w.token(platform)
		var mu sync.Mutex
		var asked, most, now int
		count := func(change int) {
			mu.Lock()
			defer mu.Unlock()
			now += change
			asked += max(0, change)
			most = max(most, now)
		}
		w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			if r.URL.Path == askAuthorizerToken {
				count(1)
				defer count(-1)
				time.Sleep(time.Second)
			}
			return next.RoundTrip(r)
		})
		for range 10 {
			call()
			time.Sleep(2 * time.Second)
		}
		if most != maxAhead {
			t.Errorf("%d renewals at a time, want %d", most, maxAhead)
		}
		if asked != len(all) {
			t.Errorf("%d renewals for %d accounts", asked, len(all))
		}
	})
}

func TestRenewalAheadThatFailsIsNotFelt(t *testing.T) {
	playAuthorized(t, func(w *world) {
		first := w.token(shop)
		w.weixin.Inject(sandbox.Fault{Path: "/cgi-bin/component/api_authorizer_token", ErrCode: -1}) // the component's token expires at the same time
		time.Sleep(time.Until(first.Expires) - 7*time.Minute)
		loads := w.storage.Count(vaulttest.Load)
		for time.Until(first.Expires) > 0 {
			if token, err := w.node.Current(w.Context(), shop, theClient); err != nil || token != first {
				t.Fatalf("%v before it expires: %v", time.Until(first.Expires), err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		// 7 min of 10 requests a second: the storage is asked once a second.
		if got := w.storage.Count(vaulttest.Load) - loads; got > 2*7*60+100 {
			t.Errorf("the storage was read %d times", got)
		}
		w.fails(shop, problem.ErrRefused)
	})
}

func TestIdleSubjectsAreNeverRenewed(t *testing.T) {
	playAuthorized(t, func(w *world) {
		time.Sleep(24 * time.Hour)
		w.silent()
	})
}

func TestRenewalAheadBeginsWithinTheLastTwelfthAtDifferentTimes(t *testing.T) {
	playAuthorized(t, func(w *world) {
		record := w.record(shop)
		seen := map[int64]bool{}
		for range 1000 {
			token := w.node.tokenOf(shop, record)
			ahead := record.Expires.Sub(time.Unix(0, token.due.Load()))
			if ahead > 10*time.Minute || ahead < 7*time.Minute+30*time.Second {
				t.Fatalf("renewed %v ahead", ahead)
			}
			seen[int64(ahead)] = true
		}
		if len(seen) < 900 {
			t.Errorf("%d different times of 1000", len(seen))
		}
	})
}

// A record that makes no sense must not take the process down with it.
func TestRecordThatExpiredBeforeItWasObtained(t *testing.T) {
	playAuthorized(t, func(w *world) {
		record := w.record(shop)
		record.Expires = record.Obtained.Add(-time.Hour)
		if w.node.tokenOf(shop, record).live(time.Now()) {
			t.Error("it is alive")
		}
	})
}

func TestCallerWhoGivesUpReturnsAtOnceAndTheRenewalGoesOn(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.KillTokens(theShop)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, Latency: 5 * time.Second, Times: 1})
		refused, err := w.node.Current(w.Context(), shop, theClient)
		w.must(err)
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if token, err := w.node.Replace(ctx, shop, rejection(refused)); token != nil || err != context.DeadlineExceeded {
			t.Errorf("Replace gives %v, %v", token, err)
		}
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(5 * time.Second)
		w.token(shop)
		w.calls(askAuthorizerToken, 1)
	})
}

// Close ends a call that hangs; the bubble fails the test if a goroutine stays.
func TestCloseEndsWorkThatHangs(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.KillTokens(theShop)
		w.weixin.Inject(sandbox.Fault{Never: true})
		refused, err := w.node.Current(w.Context(), shop, theClient)
		w.must(err)
		failed := make(chan error)
		go func() {
			_, err := w.node.Replace(w.Context(), shop, rejection(refused))
			failed <- err
		}()
		synctest.Wait()
		began := time.Now()
		w.node.Close()
		if err := <-failed; err == nil || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if w.logged(zap.ErrorLevel, "renewing token failed") > 0 {
			t.Error("the end of everything was logged as a failure")
		}
	})
}

// Requests of a configuration that is gone may still come in.
func TestClosedTokensServeNobody(t *testing.T) {
	playAuthorized(t, func(w *world) {
		token := w.token(shop)
		w.node.Close()
		w.node.Close()
		if _, err := w.node.Current(w.Context(), shop, theClient); err == nil {
			t.Error("Current serves")
		}
		if _, err := w.node.Replace(w.Context(), shop, rejection(token)); err == nil {
			t.Error("Replace serves")
		}
		if err := w.weixin.Revoke(w.Context(), theShop); err == nil {
			t.Error("a push is acknowledged")
		}
		w.silent()
	})
}

// Current and Close at the same time.
func TestCloseDuringRequests(t *testing.T) {
	for range 20 {
		playAuthorized(t, func(w *world) {
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for range 500 {
						_, _ = w.node.Current(w.Context(), shop, theClient)
					}
				})
			}
			w.node.Close()
			all.Wait()
		})
	}
}
