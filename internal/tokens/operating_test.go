// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

var stranger = subject.Of(theComponent, "wx0000000000000000")

// What operators do ends a cool-down: the next call succeeds at once.
func TestOperatorsEndACoolDown(t *testing.T) {
	for name, act := range map[string]func(w *world) error{
		"renew": func(w *world) error { _, err := w.node.Renew(w.Context(), shop); return err },
		"reread": func(w *world) error {
			return w.node.Reread(w.Context(), shop)
		},
	} {
		t.Run(name, func(t *testing.T) {
			playAuthorized(t, func(w *world) {
				w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 45009})
				time.Sleep(3 * time.Hour)
				for range 10 {
					w.fails(shop, problem.ErrRefused)
					time.Sleep(maxCoolDown)
				}
				w.fails(shop, problem.ErrRefused)
				last, until := w.node.Health(shop)
				if !until.After(time.Now()) || last.Time.IsZero() || !strings.Contains(last.Text, "errcode 45009") || last.Remedy == "" {
					t.Errorf("health is %+v until %v", last, until)
				}
				w.weixin.ClearFaults()
				w.fails(shop, problem.ErrRefused)
				w.must(act(w))
				w.token(shop)
				if last, until := w.node.Health(shop); last != (Failure{}) || !until.IsZero() {
					t.Errorf("health is %+v until %v", last, until)
				}
			})
		})
	}
}

// A token that lives is renewed as well, of an account and of the component.
func TestRenewIssuesANewToken(t *testing.T) {
	for who, path := range map[subject.Subject]string{shop: askAuthorizerToken, platform: askComponentToken} {
		t.Run(levelLabel(who), func(t *testing.T) {
			playAuthorized(t, func(w *world) {
				before := w.token(who)
				expires, err := w.node.Renew(w.Context(), who)
				if err != nil || !expires.Equal(time.Now().Add(2*time.Hour)) {
					t.Errorf("%v, %v", expires, err)
				}
				if after := w.token(who); after.Value.Equal(before.Value) {
					t.Error("the token is the same")
				}
				w.calls(path, 1)
			})
		})
	}
}

// Of an appid that an operator has mistyped WeChat is not asked, and nothing is stored.
func TestOperatorsWorkOnWhatIsKnown(t *testing.T) {
	playAuthorized(t, func(w *world) {
		files := len(w.storage.Files())
		_, renewed := w.node.Renew(w.Context(), stranger)
		for what, err := range map[string]error{"renew": renewed, "reread": w.node.Reread(w.Context(), stranger), "forget": w.node.Forget(w.Context(), stranger)} {
			if !errors.Is(err, vault.ErrNotFound) {
				t.Errorf("%s: %v", what, err)
			}
		}
		settle()
		w.silent()
		if got := len(w.storage.Files()); got != files {
			t.Errorf("%d files, before %d", got, files)
		}
	})
}

// An account that has just withdrawn is not asked about for ten minutes, but for an
// operator.
func TestOperatorsBringAnAccountBack(t *testing.T) {
	for name, act := range map[string]func(w *world) error{
		"renew":  func(w *world) error { _, err := w.node.Renew(w.Context(), shop); return err },
		"reread": func(w *world) error { return w.node.Reread(w.Context(), shop) },
	} {
		t.Run(name, func(t *testing.T) {
			playAuthorized(t, func(w *world) {
				other := w.start()
				w.must(w.weixin.Revoke(w.Context(), theShop))
				w.standing(vault.Withdrawn)
				if err := act(w); err == nil {
					t.Error("an account that has withdrawn is back")
				}
				w.standing(vault.Withdrawn)
				w.weixin.Inject(sandbox.Fault{Path: askAuthorizerInfo, ErrCode: -1, Times: 1})
				var refusal *openapi.Refusal
				if err := act(w); !errors.As(err, &refusal) || refusal.Code != -1 {
					t.Errorf("WeChat is busy: %v", err)
				}
				w.fails(shop, problem.ErrUnauthorized)
				w.deaf.Store(true)
				code, _ := w.weixin.Authorize(w.Context(), theShop)
				w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, DropAfter: true, Times: 1})
				if _, err := w.node.Exchange(w.Context(), theComponent, secret.New(code)); err == nil {
					t.Fatal("the answer was not lost")
				}
				w.fails(shop, problem.ErrUnauthorized)
				w.must(act(w))
				w.standing(vault.Stands)
				w.token(shop)
				w.tokenFrom(other, shop)
			})
		})
	}
}

// Reread stores what WeChat says before it returns, and memory holds nothing older.
func TestRereadStoresWhatWeChatSays(t *testing.T) {
	playAuthorized(t, func(w *world) {
		heard := new(hearing)
		w.node.settings.Load().Profiles = heard
		record := w.record(shop)
		record.Refresh = secret.New("refreshtoken@@@lost")
		_, err := w.settings(1).Vault.Store(w.Context(), shop, record)
		w.must(err)
		w.must(w.node.Reread(w.Context(), shop))
		heard.are(w, "saved")
		if got := w.record(shop).Refresh.Reveal(); got != w.weixin.ValidToken(sandbox.KindRefresh, theShop) {
			t.Errorf("the refresh token is %.20s…", got)
		}
		if w.node.memory.Get(shop) != nil {
			t.Error("memory still has the token")
		}
		stores := w.storage.Count(vaulttest.Store)
		w.must(w.node.Reread(w.Context(), shop))
		if got := w.storage.Count(vaulttest.Store) - stores; got != 0 {
			t.Errorf("what is known is stored again, %d times", got)
		}
	})
}

func TestForget(t *testing.T) {
	playAuthorized(t, func(w *world) {
		var told []subject.Subject
		other := w.start()
		other.settings.Load().Heard = func(who subject.Subject) { told = append(told, who) }
		other.notices.poll(w.Context(), theComponent)
		told = nil
		heard := new(hearing)
		w.node.settings.Load().Profiles = heard

		if err := w.node.Forget(w.Context(), shop); !errors.Is(err, ErrAuthorized) {
			t.Errorf("an authorized account: %v", err)
		}
		w.token(shop)
		w.must(w.weixin.Revoke(w.Context(), theShop))
		w.breakStorage(vaulttest.Delete)
		if err := w.node.Forget(w.Context(), shop); !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("storage fails: %v", err)
		}
		w.repairStorage()
		w.standing(vault.Withdrawn)
		w.must(w.node.Forget(w.Context(), shop))
		heard.are(w, "forgotten")
		for file := range w.storage.Files() {
			if strings.Contains(file, theShop) && !strings.Contains(file, "/news/") {
				t.Errorf("%s is left", file)
			}
		}
		other.notices.poll(w.Context(), theComponent)
		if !slices.Contains(told, shop) {
			t.Errorf("the other node has heard of %v", told)
		}
		if err := w.node.Forget(w.Context(), shop); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("the second time: %v", err)
		}
		w.authorize(theShop) // it may come again
		w.token(shop)
	})
}

// A code that may still be exchanged would bring the account back.
func TestForgetLeavesAPendingCode(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.must(w.weixin.Revoke(w.Context(), theShop))
		record := w.record(shop)
		record.Code, record.CodeExpires = secret.New("code"), time.Now().Add(time.Hour)
		_, err := w.settings(1).Vault.Store(w.Context(), shop, record)
		w.must(err)
		if err := w.node.Forget(w.Context(), shop); !errors.Is(err, ErrAuthorized) {
			t.Errorf("%v", err)
		}
	})
}

// A page of the list tells what was not known.
func TestSyncPage(t *testing.T) {
	playAuthorized(t, func(w *world) {
		for i := range 3 {
			appid := fmt.Sprintf("wx%016x", i)
			w.must(w.weixin.AddAccount(sandbox.Account{AppID: appid}))
			w.authorize(appid)
		}
		sync := func(want Synced) {
			t.Helper()
			got, err := w.node.SyncPage(w.Context(), theComponent, 0)
			if err != nil || got != want {
				t.Errorf("%+v, %v; want %+v", got, err, want)
			}
		}
		sync(Synced{Listed: 4, Total: 4})
		w.must(w.storage.Delete(w.Context(), w.file(shop)))
		record := w.record(stranger)
		record.Refresh = secret.New("refreshtoken@@@lost")
		_, err := w.settings(1).Vault.Store(w.Context(), stranger, record)
		w.must(err)
		w.breakStorage(vaulttest.Store)
		if _, err := w.node.SyncPage(w.Context(), theComponent, 0); !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("storage fails: %v", err)
		}
		w.repairStorage()
		sync(Synced{Listed: 4, New: 1, Restored: 1, Total: 4})
		sync(Synced{Listed: 4, Total: 4})
		w.weixin.Inject(sandbox.Fault{Path: "/cgi-bin/component/" + openapi.EndpointAuthorizerList, ErrCode: 45009})
		var refusal *openapi.Refusal
		if _, err := w.node.SyncPage(w.Context(), theComponent, 0); !errors.As(err, &refusal) || refusal.Code != 45009 {
			t.Errorf("WeChat refuses: %v", err)
		}
	})
}

// WeChat is asked for a ticket once a minute, however many operators want one, and the
// other nodes know of it.
func TestRequestTicket(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.ResetCounts()
		w.must(w.node.RequestTicket(w.Context(), theComponent))
		if asked := w.ticket().Asked; !asked.Equal(time.Now()) {
			t.Errorf("asked is %v", asked)
		}
		for range 3 {
			w.node.health.Sweep(time.Now()) // must not forget it
			if err := w.node.RequestTicket(w.Context(), theComponent); !errors.Is(err, ErrAskedLately) {
				t.Errorf("%v", err)
			}
		}
		w.calls(askStartPushTicket, 1)
		time.Sleep(ticketAskInterval)
		w.must(w.node.RequestTicket(w.Context(), theComponent))
		w.calls(askStartPushTicket, 2)
		if err := w.node.RequestTicket(w.Context(), "wx0000000000000000"); !errors.Is(err, problem.ErrNoComponent) {
			t.Errorf("another component: %v", err)
		}
	})
}

// The white list is met by a call with the component's token.
func TestTryComponent(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.must(w.node.TryComponent(w.Context(), theComponent))
		w.weixin.Inject(sandbox.Fault{Path: "/cgi-bin/component/" + openapi.EndpointPreAuthCode, ErrCode: 61004, ErrMsg: "access clientip is not registered requestIP: 192.0.2.1"})
		var refusal *openapi.Refusal
		if err := w.node.TryComponent(w.Context(), theComponent); !errors.As(err, &refusal) || !refusal.IP.IsValid() {
			t.Errorf("%v", err)
		}
	})
}

// The last failure of a component stays when it is over, through all sweeps.
func TestHealthOfAComponent(t *testing.T) {
	play(t, func(w *world) {
		if last, until := w.node.Health(platform); last != (Failure{}) || !until.IsZero() {
			t.Errorf("at the start: %+v until %v", last, until)
		}
		w.weixin.Inject(sandbox.Fault{Path: askComponentToken, ErrCode: 61004, ErrMsg: "SECRET not registered requestIP: 192.0.2.1"})
		w.fails(platform, problem.ErrNoComponent)
		w.weixin.ClearFaults()
		time.Sleep(maxCoolDown)
		w.token(platform)
		w.watch(w.node)
		time.Sleep(3 * time.Hour)
		last, until := w.node.Health(platform)
		if !until.IsZero() || !strings.Contains(last.Text, "errcode 61004") || strings.Contains(last.Text, "SECRET") || !strings.Contains(last.Remedy, "192.0.2.1") {
			t.Errorf("%+v until %v", last, until)
		}
	})
}

func TestUnsavedAreCounted(t *testing.T) {
	playAuthorized(t, func(w *world) {
		if n := w.node.Unsaved(); n != 0 {
			t.Errorf("%d at the start", n)
		}
		w.breakStorage(vaulttest.Store)
		_, err := w.node.Renew(w.Context(), shop)
		w.must(err)
		if n := w.node.Unsaved(); n != 1 || !w.node.IsUnsaved(shop) || w.node.IsUnsaved(platform) {
			t.Errorf("%d while storage fails", n)
		}
		w.repairStorage()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := w.node.Unsaved(); n != 0 || w.node.IsUnsaved(shop) {
			t.Errorf("%d afterwards", n)
		}
	})
}
