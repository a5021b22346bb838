// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Tickets with which applications sign are asked for once, are never mixed, and are
// never served beyond their life.

const askTicket = openapi.EndpointSharedTicket

// shared returns what the node serves to theClient, which must live.
func (w *world) shared(who subject.Subject, kind string) *SharedTicket {
	w.Helper()
	ticket, err := w.node.SharedTicket(w.Context(), who, theClient, kind)
	w.must(err)
	if ticket.Left(time.Now()) < 1 {
		w.Fatalf("a ticket that has ended at %s", ticket.Expires)
	}
	return ticket
}

// isTicket checks that WeChat takes a ticket.
func (w *world) isTicket(ticket *SharedTicket, who subject.Subject, kind string) {
	w.Helper()
	if valid := w.weixin.ValidToken(kind, who.Authorizer()); ticket.Value.Reveal() != valid {
		w.Fatalf("%s of %s is %.16s…, at WeChat %.16s…", kind, who, ticket.Value.Reveal(), valid)
	}
}

// noTicket returns why the node serves none.
func (w *world) noTicket(kind string) error {
	w.Helper()
	ticket, err := w.node.SharedTicket(w.Context(), shop, theClient, kind)
	if ticket != nil || err == nil {
		w.Fatalf("a ticket is served, and the error is %v", err)
	}
	return err
}

func TestTwoHundredCallersAreOneCallForATicket(t *testing.T) {
	for name, prepare := range map[string]func(w *world){
		"with a token in memory": func(*world) {},
		"after a restart":        func(w *world) { w.restart() },
		"with a token that WeChat rejects": func(w *world) {
			w.weixin.KillTokens(theShop)
		},
	} {
		t.Run(name, func(t *testing.T) {
			playAuthorized(t, func(w *world) {
				prepare(w)
				w.weixin.Inject(sandbox.Fault{Path: askTicket, Latency: 300 * time.Millisecond})
				var all sync.WaitGroup
				for i := range 200 {
					all.Go(func() {
						time.Sleep(time.Duration(i) * time.Millisecond)
						ticket, err := w.node.SharedTicket(w.Context(), shop, fmt.Sprintf("client%d", i%7), "jsapi")
						w.must(err)
						w.isTicket(ticket, shop, "jsapi")
					})
				}
				all.Wait()
				want := 1
				if strings.Contains(name, "rejects") {
					want = 2 // the second with a new token
				}
				w.calls(askTicket, want)
				w.calls(askAuthorizerToken, want-1)
			})
		})
	}
}

func TestTicketsOfAccountsAndKindsAreNeverMixed(t *testing.T) {
	playAuthorized(t, func(w *world) {
		other := subject.Of(theComponent, "wxbbbbbbbbbbbbbbbb")
		w.must(w.weixin.AddAccount(sandbox.Account{AppID: other.Authorizer()}))
		w.authorize(other.Authorizer())
		w.weixin.Inject(sandbox.Fault{Path: askTicket, Latency: 100 * time.Millisecond})
		var all sync.WaitGroup
		for range 50 {
			for _, who := range []subject.Subject{shop, other} {
				for _, kind := range SharedKinds {
					all.Go(func() { w.isTicket(w.shared(who, kind), who, kind) })
				}
			}
		}
		all.Wait()
		w.calls(askTicket, 4)
		w.must(w.weixin.Revoke(w.Context(), theShop))
		w.is(w.noTicket("jsapi"), problem.ErrUnauthorized)
		w.is(w.noTicket("wx_card"), problem.ErrUnauthorized)
		for _, kind := range SharedKinds {
			w.isTicket(w.shared(other, kind), other, kind)
		}
		w.calls(askTicket, 4)
	})
}

// WeChat answers with the same ticket while it lives: it is asked for once a minute in
// its last half hour, and is never served beyond its end.
func TestSameTicketHasNoNewLife(t *testing.T) {
	playAuthorized(t, func(w *world) {
		began := time.Now()
		first := w.shared(shop, "jsapi")
		if left := first.Left(time.Now()); left != 7200 {
			t.Errorf("it lives for %d s", left)
		}
		for ; time.Since(began) < 90*time.Minute; time.Sleep(time.Second) {
			w.shared(shop, "jsapi")
		}
		w.calls(askTicket, 1)
		for ; time.Since(began) < 2*time.Hour; time.Sleep(time.Second) {
			ticket := w.shared(shop, "jsapi")
			w.isTicket(ticket, shop, "jsapi")
			if want := 7200 - int(time.Since(began).Seconds()); ticket.Left(time.Now()) != want {
				t.Fatalf("after %s it lives for %d s more, want %d", time.Since(began), ticket.Left(time.Now()), want)
			}
		}
		w.calls(askTicket, 1+30)
		second := w.shared(shop, "jsapi")
		w.isTicket(second, shop, "jsapi")
		if second.Value.Equal(first.Value) {
			t.Error("a ticket is served after its end")
		}
	})
}

// A WeChat that states two hours whenever it is asked lengthens no life either.
func TestTicketEndsWhenItWasSaidToEndFirst(t *testing.T) {
	for stated, want := range map[int]int{7200: 600, 900: 600, 60: 60} {
		playAuthorized(t, func(w *world) {
			w.answerTicket(func(int) string { return `{"ticket":"same","expires_in":1200}` })
			w.shared(shop, "jsapi")
			time.Sleep(10 * time.Minute)
			w.answerTicket(func(int) string { return fmt.Sprintf(`{"ticket":"same","expires_in":%d}`, stated) })
			if got := w.shared(shop, "jsapi").Left(time.Now()); got != want {
				t.Errorf("stated %d s more, served for %d, want %d", stated, got, want)
			}
		})
	}
}

// Where WeChat answers with another ticket, SDKs that subtract 1500 s always get some life.
func TestTicketIsRenewedAhead(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{NewSharedTickets: true})
		for range 10 * 60 {
			ticket := w.shared(shop, "jsapi")
			w.isTicket(ticket, shop, "jsapi")
			if left := ticket.Left(time.Now()); left <= 1500 {
				t.Fatalf("a caller gets a ticket for %d s", left)
			}
			time.Sleep(time.Minute)
			w.must(w.weixin.PushTicket(w.Context()))
		}
		w.calls(askTicket, 7) // every 90 minutes
	})
}

// An idle ticket is due for long when somebody comes: all who come at once wait for one call.
func TestAllWhoComeWaitForTheNewerTicket(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{NewSharedTickets: true})
		w.shared(shop, "jsapi")
		time.Sleep(115 * time.Minute)
		w.renewAhead(shop)
		w.weixin.Inject(sandbox.Fault{Path: askTicket, Latency: time.Second})
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				if left := w.shared(shop, "jsapi").Left(time.Now()); left < 7000 {
					t.Errorf("a caller gets a ticket for %d s", left)
				}
			})
		}
		all.Wait()
		w.calls(askTicket, 2)
	})
}

// A ticket is served as long as the account's tokens, on every node.
func TestTicketIsDroppedWithTheTokens(t *testing.T) {
	for name, row := range map[string]struct {
		happens func(w *world)
		want    error // nil: a ticket that was asked for anew
	}{
		"withdrawn here":     {func(w *world) { w.must(w.node.Unauthorized(w.Context(), theComponent, theShop, time.Now())) }, problem.ErrUnauthorized},
		"the event was lost": {func(w *world) { w.deaf.Store(true); _ = w.weixin.Revoke(w.Context(), theShop); w.recheck() }, problem.ErrUnauthorized},
		"another node was told": {func(w *world) {
			w.must(w.start().Unauthorized(w.Context(), theComponent, theShop, time.Now()))
			w.poll()
		}, problem.ErrUnauthorized},
		"authorized anew":           {func(w *world) { w.authorizeAgain() }, nil},
		"authorized elsewhere":      {func(w *world) { here := w.node; w.node = w.start(); w.authorizeAgain(); w.node = here; w.poll() }, nil},
		"a token is renewed":        {func(w *world) { time.Sleep(112 * time.Minute); w.renewAhead(shop) }, errKept},
		"the configuration changes": {func(w *world) { w.node.settings.Store(w.settings(1)) }, errKept},
	} {
		t.Run(name, func(t *testing.T) {
			playAuthorized(t, func(w *world) {
				w.weixin.SetSwitches(sandbox.Switches{NewSharedTickets: true})
				if name == "a token is renewed" {
					time.Sleep(time.Minute) // the ticket outlives the token
				}
				first := w.shared(shop, "jsapi")
				row.happens(w)
				ticket, served := w.node.held.Get(heldKey{shop, "jsapi"}, time.Now())
				switch {
				case errors.Is(row.want, errKept):
					if ticket == nil || !ticket.Value.Equal(first.Value) {
						t.Error("the ticket was dropped")
					}
				case ticket != nil || served:
					t.Error("the ticket is still held")
				case row.want != nil:
					if err := w.noTicket("jsapi"); !errors.Is(err, row.want) {
						t.Errorf("%v", err)
					}
				case w.shared(shop, "jsapi").Value.Equal(first.Value):
					t.Error("the old ticket is served")
				}
			})
		})
	}
}

// errKept stands for an event that drops no ticket.
var errKept = errors.New("kept")

// recheck lets a client meet 61003.
func (w *world) recheck() {
	var refusal *openapi.Refusal
	if err := w.noTicket("wx_card"); !errors.As(err, &refusal) || refusal.Code != 61003 {
		w.Errorf("%v", err)
	}
	synctest.Wait()
}

// poll lets the node read what others have published.
func (w *world) poll() { w.node.notices.poll(w.Context(), theComponent) }

// authorizeAgain lets the account's admin change what it grants.
func (w *world) authorizeAgain() {
	_, err := w.weixin.UpdateAuthorized(w.Context(), theShop)
	w.must(err)
	synctest.Wait()
}

// The account withdraws while WeChat answers: who waits gets no ticket, and none is kept.
func TestWithdrawalDuringTheCallForATicket(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			response, err := next.RoundTrip(r)
			if r.URL.Path == askTicket {
				w.must(w.node.Unauthorized(w.Context(), theComponent, theShop, time.Now()))
			}
			return response, err
		})
		w.is(w.noTicket("jsapi"), problem.ErrUnauthorized)
		if len(w.node.held.of) != 0 {
			t.Error("a ticket is kept")
		}
		w.calls(askTicket, 1)
	})
}

// Another authorization replaces the tokens while WeChat answers: what it has answered for
// the one before is neither kept nor served.
func TestAuthorizationDuringTheCallForATicket(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{NewSharedTickets: true})
		var once sync.Once
		w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			response, err := next.RoundTrip(r)
			if r.URL.Path == askTicket {
				once.Do(func() { w.node.drop(shop) })
			}
			return response, err
		})
		w.isTicket(w.shared(shop, "jsapi"), shop, "jsapi")
		w.calls(askTicket, 2)
	})
}

// The look-ups of a client that tries appids are not felt by another that asks for a ticket.
func TestTicketOfAnUnknownAccountIsRationedPerClient(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.lose(theShop)
		w.restart()
		w.node.health.LookupLimiter(theComponent, "villain").futile.AllowN(time.Now(), maxFutileLookups)
		w.storage.Intercept(func(context.Context, vaulttest.Op, string) error {
			time.Sleep(100 * time.Millisecond)
			return nil
		})
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				_, err := w.node.SharedTicket(w.Context(), shop, "villain", "jsapi")
				w.is(err, problem.ErrRationed)
			})
			all.Go(func() {
				time.Sleep(150 * time.Millisecond)
				ticket, err := w.node.SharedTicket(w.Context(), shop, "honest", "jsapi")
				w.must(err)
				w.isTicket(ticket, shop, "jsapi")
			})
		}
		all.Wait()
		w.calls(askTicket, 1)
	})
}

func TestTicketsInMemoryAreBounded(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.node.held.max = 10
		for i, who := range w.fill(100) {
			w.answerTicket(func(int) string { return fmt.Sprintf(`{"ticket":"t%d","expires_in":7200}`, i) })
			if got := w.shared(who, "jsapi").Value.Reveal(); got != fmt.Sprintf("t%d", i) {
				t.Errorf("%s is served as t%d", got, i)
			}
		}
		if got := len(w.node.held.of); got != 10 {
			t.Errorf("%d tickets are held", got)
		}
		w.node.Run(w.Context()) // sweeps every minute
		time.Sleep(2*time.Hour + time.Minute)
		synctest.Wait()
		w.node.held.mu.Lock()
		defer w.node.held.mu.Unlock()
		if got := len(w.node.held.of); got != 0 {
			t.Errorf("%d tickets are held after their end", got)
		}
	})
}

func TestTicketIsNotLogged(t *testing.T) {
	playAuthorized(t, func(w *world) {
		first := w.shared(shop, "jsapi")
		time.Sleep(100 * time.Minute)
		w.weixin.Inject(sandbox.Fault{Path: askTicket, ErrCode: 45009})
		w.shared(shop, "jsapi")
		w.log.Info("printed", zap.Any("ticket", first))
		if w.logged(zap.DebugLevel, "no newer shared ticket") != 1 {
			t.Error("nothing says why no newer ticket is served")
		}
		if w.logged(zap.DebugLevel, first.Value.Reveal()) != 0 {
			t.Error("the ticket stands in the log")
		}
	})
}
