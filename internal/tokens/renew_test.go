// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Rule 3: one refresh per subject.

// crowd lets 1,000 callers on every node meet the death of the same token.
func (w *world) crowd(who subject.Subject, refused *Token, nodes ...*node) {
	w.Helper()
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			token, err := nodes[i%len(nodes)].Replace(w.Context(), who, rejection(refused))
			if err != nil {
				w.Errorf("After: %v", err)
				return
			}
			w.isValid(token, who)
		})
	}
	all.Wait()
}

func TestThousandCallersMeetingAKilledTokenCauseOneRenewal(t *testing.T) {
	for _, latency := range []time.Duration{0, 3 * time.Second} {
		playAuthorized(t, func(w *world) {
			refused := w.token(shop)
			w.weixin.KillTokens(theShop)
			w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, Latency: latency, Times: 1})
			w.crowd(shop, refused, w.node)
			w.calls(askAuthorizerToken, 1)
			w.calls(askComponentToken, 0)
		})
	}
}

func TestThousandCallersMeetingAnExpiredTokenCauseOneRenewal(t *testing.T) {
	playAuthorized(t, func(w *world) {
		time.Sleep(3 * time.Hour)
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() { w.token(shop) })
		}
		all.Wait()
		w.calls(askAuthorizerToken, 1)
		w.calls(askComponentToken, 1)
	})
}

func TestTwoNodesMeetingAKilledTokenCauseOneRenewal(t *testing.T) {
	for _, latency := range []time.Duration{0, 3 * time.Second} {
		for _, who := range []subject.Subject{shop, platform} {
			playAuthorized(t, func(w *world) {
				other := w.start()
				refused := w.token(who)
				w.tokenFrom(other, who)
				w.weixin.KillTokens(appIDOf(who))
				w.weixin.Inject(sandbox.Fault{Latency: latency})
				w.crowd(who, refused, w.node, other)
				if got := w.renewals(); got != 1 {
					t.Errorf("%d renewals, want one", got)
				}
			})
		}
	}
}

// appIDOf is how WeChat names a subject.
func appIDOf(who subject.Subject) string {
	if who.IsComponent() {
		return theComponent
	}
	return who.Authorizer()
}

func TestLateCallerWithAnOldTokenGetsTheNewerWithoutACall(t *testing.T) {
	playAuthorized(t, func(w *world) {
		other := w.start()
		first := w.token(shop)
		firstThere := w.tokenFrom(other, shop)
		w.weixin.KillTokens(theShop)
		second, err := w.node.Replace(w.Context(), shop, rejection(first))
		w.must(err)
		w.weixin.ResetCounts()
		for n, refused := range map[*node]*Token{w.node: first, other: firstThere} {
			if token, err := n.Replace(w.Context(), shop, rejection(refused)); err != nil || !token.Value.Equal(second.Value) {
				t.Errorf("Replace gives %v, %v; want the newer token", token, err)
			}
		}
		w.silent()
	})
}

// A token that is proven dead is served as long as there is no newer one: WeChat may
// be wrong for a while, and whoever is served nothing cannot find out.
func TestNewestTokenIsServedUntilThereIsANewerOne(t *testing.T) {
	playAuthorized(t, func(w *world) {
		first := w.token(shop)
		w.weixin.KillTokens(theShop)
		second, err := w.node.Replace(w.Context(), shop, rejection(first))
		w.must(err)
		w.weixin.KillTokens(theShop)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, Status: http.StatusBadGateway})
		for range 180 {
			if _, err := w.node.Replace(w.Context(), shop, rejection(second)); problem.Of(err) == nil || problem.Of(err).Slug != "rejected" {
				t.Fatalf("Replace: %v", err)
			}
			token, err := w.node.Replace(w.Context(), shop, rejection(first))
			if err != nil || !token.Value.Equal(second.Value) {
				t.Fatalf("a caller that comes late gets %v, %v", token, err)
			}
			if token, err := w.node.Current(w.Context(), shop, theClient); err != nil || !token.Value.Equal(second.Value) {
				t.Fatalf("Current: %v, %v", token, err)
			}
			w.node.health.Sweep(time.Now())
			w.node.doubts.Sweep(time.Now())
			time.Sleep(30 * time.Second)
		}
	})
}

// A storage whose lock is lost while it is held, or held by a dead process,
// delays; it does not stop anything.
func TestLockHeldByADeadProcess(t *testing.T) {
	playAuthorized(t, func(w *world) {
		refused := w.token(shop)
		w.weixin.KillTokens(theShop)
		unlock, err := w.settings(1).Vault.Lock(w.Context(), shop)
		w.must(err)
		time.AfterFunc(11*time.Second, func() { w.must(unlock()) })
		token, err := w.node.Replace(w.Context(), shop, rejection(refused))
		w.must(err)
		w.isValid(token, shop)
	})
}

func TestStorageWhoseLockIgnoresTheContext(t *testing.T) {
	playAuthorized(t, func(w *world) {
		refused := w.token(shop)
		w.weixin.KillTokens(theShop)
		freed := make(chan struct{})
		w.storage.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == vaulttest.Lock {
				<-freed
			}
			return nil
		})
		began := time.Now()
		_, err := w.node.Replace(w.Context(), shop, rejection(refused))
		if !errors.Is(err, vault.ErrUnavailable) || time.Since(began) != renewTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		close(freed)
		synctest.Wait()
		w.repairStorage()
		if token, err := w.node.Replace(w.Context(), shop, rejection(refused)); err != nil {
			t.Errorf("afterwards: %v", err)
		} else {
			w.isValid(token, shop)
		}
	})
}

func TestLockIsNeverLeftBehind(t *testing.T) {
	playAuthorized(t, func(w *world) {
		other := w.start()
		for range 5 {
			refused := w.token(shop)
			w.weixin.KillTokens(theShop)
			w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, Latency: time.Second, Times: 1})
			w.crowd(shop, refused, w.node, other)
			time.Sleep(forcedInterval)
		}
		synctest.Wait()
		for _, who := range []subject.Subject{shop, platform} {
			began := time.Now()
			unlock, err := w.settings(1).Vault.Lock(w.Context(), who)
			if err != nil || time.Since(began) != 0 {
				t.Errorf("%s: locked after %v, %v", who, time.Since(began), err)
				continue
			}
			w.must(unlock())
		}
	})
}

// The lock is lost during a renewal, and the account withdraws meanwhile.
func TestTombstoneWrittenDuringARenewalStands(t *testing.T) {
	playAuthorized(t, func(w *world) {
		other := w.start()
		refused := w.token(shop)
		w.weixin.KillTokens(theShop)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, Latency: 3 * time.Second, Times: 1})
		time.AfterFunc(time.Second, func() {
			w.must(w.storage.Unlock(w.Context(), "wechat_"+theComponent+"_"+theShop))
			w.must(other.Unauthorized(w.Context(), theComponent, theShop, time.Now()))
		})
		if _, err := w.node.Replace(w.Context(), shop, rejection(refused)); !errors.Is(err, problem.ErrUnauthorized) {
			t.Errorf("After: %v", err)
		}
		if got := w.record(shop); got.State != vault.Unauthorized || got.Refresh != nil || got.Token != nil {
			t.Errorf("record is %v with token %v, refresh %v", got.State, got.Token != nil, got.Refresh != nil)
		}
	})
}

// Another process uses the same credentials, see wechatFaults. WeChat's own trouble is
// not taken for that.
func TestRenewalsThatFailAreNotTakenForAnotherProcess(t *testing.T) {
	playAuthorized(t, func(w *world) {
		refused := w.token(shop)
		w.weixin.KillTokens(theShop)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: -1})
		for range 40 * 60 {
			if _, err := w.node.Replace(w.Context(), shop, rejection(refused)); err == nil {
				t.Fatal("replaced")
			}
			time.Sleep(time.Second)
		}
		w.weixin.ClearFaults()
		time.Sleep(80 * time.Second)
		token, err := w.node.Replace(w.Context(), shop, rejection(refused))
		w.must(err)
		w.isValid(token, shop)
		if got := len(w.node.health.of[healthKey{shop, renewal}].forced.renewed); got != 1 {
			t.Errorf("%d renewals counted as forced", got)
		}
	})
}

// A token that WeChat refuses after its time has simply expired.
func TestExpiredTokenIsNotForced(t *testing.T) {
	playAuthorized(t, func(w *world) {
		for range 3 * maxForcedHourly {
			token := w.token(shop)
			w.weixin.ExpireTokens(theShop)
			time.Sleep(time.Until(token.Expires))
			w.must(w.weixin.PushTicket(w.Context()))
			_, err := w.node.Replace(w.Context(), shop, rejection(token))
			w.must(err)
		}
		if got := w.node.health.of[healthKey{shop, renewal}]; got != nil && !got.forced.idle() {
			t.Errorf("renewals counted as forced: %v", got.forced)
		}
	})
}

// The dead component token is renewed on the way to the authorizer's.
func TestDeadComponentTokenDelaysTheAuthorizer(t *testing.T) {
	playAuthorized(t, func(w *world) {
		refused := w.token(shop)
		w.weixin.KillTokens("")
		token, err := w.node.Replace(w.Context(), shop, rejection(refused))
		w.must(err)
		w.isValid(token, shop)
		w.calls(askComponentToken, 1)
		w.calls(askAuthorizerToken, 2)
	})
}

// jsonAnswer is an answer as WeChat gives it.
func jsonAnswer(body string) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}
