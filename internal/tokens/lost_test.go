// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Rule 7: what was lost comes back.

func TestEveryAuthorizerComesBackAfterTheStorageWasEmptied(t *testing.T) {
	play(t, func(w *world) {
		var all []subject.Subject
		for i := range 100 {
			appid := fmt.Sprintf("wx%016x", i)
			w.must(w.weixin.AddAccount(sandbox.Account{AppID: appid}))
			w.authorize(appid)
			all = append(all, subject.Of(theComponent, appid))
		}
		w.weixin.ResetCounts()
		for name := range w.storage.Files() {
			w.must(w.storage.Delete(w.Context(), name))
		}
		w.restart()
		w.must(w.weixin.PushTicket(w.Context()))
		var callers sync.WaitGroup
		for _, who := range all {
			callers.Go(func() { w.token(who) })
		}
		callers.Wait()
		w.calls(askAuthorizerInfo, len(all))
		w.calls(askAuthorizerToken, len(all))
		w.calls(askComponentToken, 1)
	})
}

func TestDeadRefreshTokenIsReplacedByAskingOnce(t *testing.T) {
	playAuthorized(t, func(w *world) {
		_, err := w.weixin.RotateRefreshToken(theShop)
		w.must(err)
		time.Sleep(3 * time.Hour)
		w.isStored(w.token(shop))
		w.calls(askAuthorizerInfo, 1)
	})
}

func TestRefreshTokenLostForGood(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
		w.authorize(theShop) // and the code never reaches anybody
		w.weixin.ResetCounts()
		for range 50 {
			w.fails(shop, problem.ErrNeedsAdmin)
			time.Sleep(time.Second)
		}
		w.calls(askAuthorizerInfo, 1)
	})
}

func TestRefreshTokenThatWeChatItselfDoesNotTake(t *testing.T) {
	playAuthorized(t, func(w *world) {
		_, err := w.weixin.RotateRefreshToken(theShop)
		w.must(err)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 61023})
		time.Sleep(3 * time.Hour)
		w.fails(shop, problem.ErrNeedsAdmin)
		if w.record(shop).Refresh == nil {
			t.Error("the refresh token was thrown away")
		}
	})
}

func TestUnknownAuthorizerIsAskedAboutOnceAMinute(t *testing.T) {
	play(t, func(w *world) {
		for range 600 {
			w.fails(shop, problem.ErrUnauthorized)
			time.Sleep(time.Second)
		}
		w.calls(askAuthorizerInfo, 10)
		if got := w.logged(zap.InfoLevel, "renewing token failed"); got != 1 {
			t.Errorf("%d lines in the log, want one", got)
		}
	})
}

func TestClientThatTriesAppIDs(t *testing.T) {
	crowd := 10_000
	if raceEnabled {
		crowd = 1000
	}
	for name, tries := range map[string]func(try func(i int)){
		"one after another": func(try func(i int)) {
			for i := range 1000 { // each in 50 ms: as good as 10,000
				try(i)
			}
		},
		"all at once": func(try func(i int)) {
			var all sync.WaitGroup
			for i := range crowd {
				all.Go(func() { try(i) })
			}
			all.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				w.weixin.Inject(sandbox.Fault{Path: askAuthorizerInfo, Latency: 50 * time.Millisecond})
				began := time.Now()
				tries(func(i int) {
					_, err := w.node.Current(w.Context(), subject.Of(theComponent, fmt.Sprintf("wx%016x", i)), theClient)
					if !errors.Is(err, problem.ErrUnauthorized) && !errors.Is(err, problem.ErrRationed) {
						t.Errorf("%d: %v", i, err)
					}
				})
				most := maxFutileLookups + maxOpenLookups + int(time.Since(began)/futileLookupInterval)
				if got := w.weixin.Count(askAuthorizerInfo); got < maxFutileLookups || got > most {
					t.Errorf("WeChat was asked %d times, want between %d and %d", got, maxFutileLookups, most)
				}
				if got := w.logged(zap.WarnLevel, ""); got != 1 {
					t.Errorf("%d warnings, want one", got)
				}
				for name := range w.storage.Files() {
					if name != "wechat/"+theComponent+"/ticket.json" && name != "wechat/"+theComponent+"/component.json" {
						t.Fatalf("%s was stored", name)
					}
				}
				time.Sleep(3 * time.Minute)
				w.node.health.Sweep(time.Now())
				if got := len(w.node.health.of); got > 1 {
					t.Errorf("%d subjects are still remembered", got)
				}
			})
		})
	}
}

// 40013 says that an appid is wrong, perhaps our own: not that the account has
// withdrawn. What is known is kept.
func TestInvalidAppIDIsNoWithdrawal(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 61023})
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerInfo, ErrCode: 40013})
		time.Sleep(3 * time.Hour)
		w.fails(shop, problem.ErrRefused)
		if record := w.record(shop); record.State != vault.Authorized || record.Refresh == nil {
			t.Error("the authorization was given up")
		}
	})
}

// What callers are shown is one of the public problems, and says nothing of
// hosts, calls or tokens.
func TestWhatCallersAreTold(t *testing.T) {
	refusal := &openapi.Refusal{Endpoint: openapi.EndpointAuthorizerToken, Code: 45009, RID: "abc-def-012"}
	for want, err := range map[*problem.Problem]error{
		problem.ErrRefused:     refusal,
		problem.ErrNoComponent: &componentError{refusal},
		problem.ErrStorage:     fmt.Errorf("loading: %w", vault.ErrUnavailable),
		problem.ErrNoTicket:    &componentError{problem.ErrNoTicket},
	} {
		if got := problem.Of(publicError(shop, err)); !errors.Is(got, want) {
			t.Errorf("%v is shown as %v", err, got)
		}
	}
	for _, err := range []error{refusal, &componentError{refusal}} {
		if got := RefusalIn(publicError(shop, err)); got != refusal {
			t.Errorf("in %v WeChat has refused %v", err, got)
		}
	}
	if got := RefusalIn(publicError(shop, &componentError{problem.ErrNoTicket})); got != nil {
		t.Errorf("WeChat has refused %v", got)
	}
}

// A component that the reload has taken out of the configuration.
func TestComponentThatIsNoLongerConfigured(t *testing.T) {
	playAuthorized(t, func(w *world) {
		without := w.settings(1)
		without.Components = map[string]secret.Secret{}
		w.node.settings.Store(without)
		time.Sleep(3 * time.Hour)
		w.fails(shop, problem.ErrNoComponent)
		w.silent()
	})
}
