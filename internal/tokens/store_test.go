// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Rule 4: stored before handed out.
func TestTokenIsStoredBeforeItIsHandedOut(t *testing.T) {
	playAuthorized(t, func(w *world) {
		refused := w.token(shop)
		w.weixin.KillTokens(theShop)
		w.storage.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
			if op == vaulttest.Store && strings.Contains(name, theShop) {
				time.Sleep(3 * time.Second)
				if token := w.node.memory.Get(shop); token.replaces(refused, time.Now()) {
					t.Error("the token is in memory before it is stored")
				}
			}
			return nil
		})
		began := time.Now()
		token, err := w.node.Replace(w.Context(), shop, rejection(refused))
		w.must(err)
		if waited := time.Since(began); waited != 3*time.Second {
			t.Errorf("handed out after %v", waited)
		}
		if !w.record(shop).Token.Equal(token.Value) {
			t.Error("another token is stored")
		}
	})
}

func TestTokenThatCannotBeStoredIsServedAndStoredLater(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{RotateRefreshTokens: true})
		refused := w.token(shop)
		w.weixin.KillTokens(theShop)
		w.breakStorage(vaulttest.Store)
		token, err := w.node.Replace(w.Context(), shop, rejection(refused))
		w.must(err)
		w.isValid(token, shop)
		if w.logged(zap.ErrorLevel, "storing token failed") != 1 {
			t.Error("no alarm was raised")
		}
		time.Sleep(10 * time.Minute)
		w.token(shop)
		if w.record(shop).Token.Equal(token.Value) {
			t.Error("it is stored")
		}
		w.node.settings.Store(w.settings(1)) // a reload
		w.repairStorage()
		time.Sleep(time.Minute)
		w.isStored(token)
		if w.logged(zap.InfoLevel, "storage is back") != 1 {
			t.Error("nobody was told")
		}
	})
}

// isStored checks that the record holds token and the refresh token that works.
func (w *world) isStored(token *Token) {
	w.Helper()
	record := w.record(shop)
	if record.Refresh.Reveal() != w.weixin.ValidToken(sandbox.KindRefresh, theShop) {
		w.Error("another refresh token is stored")
	}
	if !record.Token.Equal(token.Value) {
		w.Error("another token is stored")
	}
}

// The newest refresh token is in memory only; renewing goes on with it, though
// the one in the storage is dead.
func TestRefreshTokenSurvivesAStorageThatIsFull(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{RotateRefreshTokens: true})
		w.breakStorage(vaulttest.Store)
		for range 5 {
			time.Sleep(2 * time.Hour)
			w.token(shop)
		}
		w.calls(askAuthorizerToken, 5)
		w.calls(askAuthorizerInfo, 0)
		token := w.token(shop)
		w.repairStorage()
		time.Sleep(time.Minute)
		w.isStored(token)
	})
}

func TestWhatIsNotStoredYetIsStoredWhenTheGatewayEnds(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{RotateRefreshTokens: true})
		refused := w.token(shop)
		w.weixin.KillTokens(theShop)
		w.breakStorage(vaulttest.Store)
		token, err := w.node.Replace(w.Context(), shop, rejection(refused))
		w.must(err)
		w.repairStorage()
		w.node.Close()
		w.isStored(token)
	})
}

// The answer is there, the gateway ends while it is being stored.
func TestTokenIsStoredThoughTheGatewayEnds(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{RotateRefreshTokens: true})
		refused := w.token(shop)
		w.weixin.KillTokens(theShop)
		w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			answer, err := next.RoundTrip(r)
			if err == nil && r.URL.Path == askAuthorizerToken {
				body, _ := io.ReadAll(answer.Body)
				answer.Body = io.NopCloser(bytes.NewReader(body))
				w.node.cancel()
			}
			return answer, err
		})
		token, err := w.node.Replace(w.Context(), shop, rejection(refused))
		w.must(err)
		w.isStored(token)
	})
}

// An event changes the record while the newest one is in memory only.
func TestEventDuringAStorageFailureLosesNothing(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{RotateRefreshTokens: true})
		refused := w.token(shop)
		w.weixin.KillTokens(theShop)
		w.breakStorage(vaulttest.Store)
		token, err := w.node.Replace(w.Context(), shop, rejection(refused))
		w.must(err)
		w.repairStorage() // but storing is not tried yet
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, Latency: time.Minute, Times: 1})
		at := time.Now().Truncate(time.Second).UTC()
		w.must(w.node.Authorized(w.Context(), Grant{theComponent, theShop, secret.New("a code"), at}))
		w.isStored(token)
		if record, _ := w.node.records.load(w.Context(), shop); !record.EventTime.Equal(at) || record.Code == nil {
			t.Error("this node does not see the event")
		}
		time.Sleep(time.Hour)
		if got := w.record(shop).EventTime; !got.Equal(at) {
			t.Errorf("event time is %v, want %v", got, at)
		}
	})
}

// Storage cannot even be read while an account that had withdrawn authorizes
// again: the tombstone must not win over the new tokens.
func TestNewAuthorizationOutlivesTheTombstoneThatCouldNotBeRead(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.must(w.weixin.Revoke(w.Context(), theShop))
		time.Sleep(time.Minute)
		w.weixin.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
		w.breakStorage(vaulttest.Lock, vaulttest.Load, vaulttest.Store)
		appid, err := w.node.Exchange(w.Context(), theComponent, secret.New(w.authorize(theShop)))
		if err != nil || appid != theShop {
			t.Fatalf("Exchange: %q, %v", appid, err)
		}
		token := w.token(shop)
		w.repairStorage()
		time.Sleep(time.Minute)
		w.isStored(token)
		if w.record(shop).State != vault.Authorized {
			t.Error("the tombstone stands")
		}
	})
}

// Rule 5: generations.
func TestRefreshTokenIsNotOverwrittenByNone(t *testing.T) {
	playAuthorized(t, func(w *world) {
		refresh := w.record(shop).Refresh
		without := regexp.MustCompile(`"authorizer_refresh_token":"[^"]*"`)
		w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			answer, err := next.RoundTrip(r)
			if err != nil || r.URL.Path != askAuthorizerToken {
				return answer, err
			}
			body, err := io.ReadAll(answer.Body)
			return jsonAnswer(without.ReplaceAllString(string(body), `"authorizer_refresh_token":""`)), err
		})
		for range 3 {
			time.Sleep(2 * time.Hour)
			w.token(shop)
			if !w.record(shop).Refresh.Equal(refresh) {
				t.Fatal("the refresh token is lost")
			}
		}
	})
}

func TestNewRefreshTokenReplacesTheOldOne(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{RotateRefreshTokens: true})
		for range 3 {
			time.Sleep(2 * time.Hour)
			w.isStored(w.token(shop))
		}
	})
}

func TestEveryRenewalRaisesTheGeneration(t *testing.T) {
	playAuthorized(t, func(w *world) {
		generation := w.record(shop).Generation
		for range 3 {
			time.Sleep(2 * time.Hour)
			w.token(shop)
			if next := w.record(shop).Generation; next != generation+1 {
				t.Fatalf("generation %d follows %d", next, generation)
			}
			generation++
		}
	})
}

func TestUnreadableRecordIsNotReportedAtEveryRequest(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.restart()
		w.node.settings.Store(w.settings(2))
		w.weixin.Inject(sandbox.Fault{ErrCode: -1})
		for range 1000 {
			_, _ = w.node.Current(w.Context(), shop, theClient)
		}
		if got := w.logged(zap.ErrorLevel, "does not open"); got != 2 {
			t.Errorf("%d lines", got)
		}
	})
}

// Two nodes make records from nothing at the same time, with storage that is
// slow: what is stored in the end works.
func TestTwoNodesWithSlowStorage(t *testing.T) {
	playAuthorized(t, func(w *world) {
		other := w.start()
		w.storage.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			time.Sleep(200 * time.Millisecond)
			return nil
		})
		for _, who := range []subject.Subject{shop, platform} {
			refused := w.token(who)
			w.weixin.ResetCounts()
			w.weixin.KillTokens(appIDOf(who))
			w.crowd(who, refused, w.node, other)
			if got := w.renewals(); got != 1 {
				t.Errorf("%s: %d renewals, want one", who, got)
			}
		}
		synctest.Wait()
	})
}
