// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
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

// Rule 9: tickets.

// ticket is what is stored.
func (w *world) ticket() vault.Ticket {
	w.Helper()
	ticket, err := w.settings(1).Vault.LoadTicket(w.Context(), theComponent)
	w.must(err)
	return ticket
}

// watch lets the nodes watch the tickets, as Run does.
func (w *world) watch(nodes ...*node) {
	for _, n := range nodes {
		n.background(func() { n.watch(w.Context()) })
	}
	synctest.Wait()
}

// playEmpty is play without a ticket, and WeChat does not reach the gateway.
func playEmpty(t *testing.T, test func(w *world)) {
	play(t, func(w *world) {
		w.must(w.storage.Delete(w.Context(), "wechat/"+theComponent+"/ticket.json"))
		w.restart()
		w.weixin.ResetCounts()
		test(w)
	})
}

func TestTicketIsStoredBeforeThePushIsAcknowledged(t *testing.T) {
	play(t, func(w *world) {
		if got := w.ticket().Value.Reveal(); got != w.weixin.ValidToken(sandbox.KindTicket, "") {
			t.Error("another ticket is stored")
		}
		w.storage.Intercept(func(context.Context, vaulttest.Op, string) error { return context.DeadlineExceeded })
		if err := w.weixin.PushTicket(w.Context()); err == nil {
			t.Error("a ticket that could not be stored is acknowledged")
		}
	})
}

func TestOlderTicketNeverReplacesANewerOne(t *testing.T) {
	play(t, func(w *world) {
		newest := w.ticket()
		for _, age := range []time.Duration{0, time.Second, 10 * time.Minute} {
			w.must(w.node.Ticket(w.Context(), theComponent, secret.New("ticket@@@old"), newest.CreateTime.Add(-age)))
		}
		if !w.ticket().Value.Equal(newest.Value) {
			t.Error("it did")
		}
		w.token(platform)
	})
}

func TestNoTicketAtTheStartAsksForOne(t *testing.T) {
	playEmpty(t, func(w *world) {
		w.fails(platform, problem.ErrNoTicket)
		w.calls(askComponentToken, 0)
		w.watch(w.node)
		w.calls(askStartPushTicket, 1)
		time.Sleep(2 * time.Second)
		w.token(platform) // the sandbox has pushed one
	})
}

func TestAskingForTicketsAtMostEveryTenMinutes(t *testing.T) {
	playEmpty(t, func(w *world) {
		other := w.start()
		w.node = nil // no push arrives
		w.watch(other)
		for range 3600 {
			_, _ = other.Current(w.Context(), platform, theClient)
			time.Sleep(time.Second)
		}
		if got := w.weixin.Count(askStartPushTicket); got < 6 || got > 7 {
			t.Errorf("%d calls in an hour, want 6", got)
		}
		if got := w.logged(zap.WarnLevel, "asked WeChat to push again"); got < 6 || got > 7 {
			t.Errorf("%d warnings", got)
		}
	})
}

func TestOnlyOneOfTwoNodesAsks(t *testing.T) {
	playEmpty(t, func(w *world) {
		one, other := w.start(), w.start()
		w.node = nil
		w.weixin.Inject(sandbox.Fault{Path: askStartPushTicket, Latency: 3 * time.Second})
		w.watch(one, other)
		for range 300 {
			_, _ = one.Current(w.Context(), platform, theClient)
			_, _ = other.Current(w.Context(), platform, theClient)
			time.Sleep(time.Second)
		}
		w.calls(askStartPushTicket, 1)
	})
}

func TestRestartDoesNotAskAgain(t *testing.T) {
	playEmpty(t, func(w *world) {
		w.weixin.Inject(sandbox.Fault{Path: askStartPushTicket, Never: true})
		for range 5 {
			w.watch(w.node)
			w.restart()
		}
		w.calls(askStartPushTicket, 1)
	})
}

func TestNoTicketForTwentyFiveMinutesAsksForOne(t *testing.T) {
	play(t, func(w *world) {
		w.watch(w.node)
		time.Sleep(24 * time.Minute)
		w.calls(askStartPushTicket, 0)
		time.Sleep(2 * time.Minute)
		w.calls(askStartPushTicket, 1) // upon which one is pushed
		time.Sleep(23 * time.Minute)
		w.calls(askStartPushTicket, 1)
	})
}

func TestTicketsThatComeAreNotAskedFor(t *testing.T) {
	play(t, func(w *world) {
		w.watch(w.node)
		for range 100 {
			time.Sleep(10 * time.Minute)
			w.must(w.weixin.PushTicket(w.Context()))
		}
		w.calls(askStartPushTicket, 0)
	})
}

// The ticket is stored while the component's lock is held: WeChat pushes it
// before it answers api_start_push_ticket.
func TestTicketThatArrivesDuringTheQuestion(t *testing.T) {
	playEmpty(t, func(w *world) {
		began := time.Now()
		w.fails(platform, problem.ErrNoTicket)
		if waited := time.Since(began); waited != 0 || w.ticket().Value == nil {
			t.Errorf("ticket %v after %v", w.ticket().Value != nil, waited)
		}
		time.Sleep(2 * time.Second)
		w.token(platform)
	})
}

// A gateway that starts with a full disk cannot note that it asks, so it does
// not ask. It does not say so at every call.
func TestFaultOfTheStorageAtTheFirstStartIsSaidOnce(t *testing.T) {
	playEmpty(t, func(w *world) {
		tr := &trial{world: w, node: w.node, who: platform}
		w.storage.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == vaulttest.Store {
				return errors.New("disk full")
			}
			return nil
		})
		tr.begin()
		w.watch(w.node)
		tr.isTold(tr.ask(9*time.Minute), "no_ticket")
		for message, lines := range tr.said() {
			if len(lines) != 1 {
				t.Errorf("%d lines %q, want one", len(lines), message)
			}
		}
		w.calls(askStartPushTicket, 0)
		w.repairStorage()
		tr.heals(coolDown)
	})
}

func TestRefusedQuestionForTicketsNamesTheRemedy(t *testing.T) {
	playEmpty(t, func(w *world) {
		w.weixin.RotateAppSecret("")
		w.watch(w.node)
		if w.logged(zap.ErrorLevel, "check app_secret") != 1 {
			t.Error("nobody is told")
		}
	})
}

func TestStorageThatIsDownIsNotALackOfTickets(t *testing.T) {
	playEmpty(t, func(w *world) {
		w.storage.Intercept(func(context.Context, vaulttest.Op, string) error { return context.DeadlineExceeded })
		w.watch(w.node)
		w.fails(platform, problem.ErrStorage)
		time.Sleep(time.Hour)
		w.silent()
	})
}

func TestPreAuthCode(t *testing.T) {
	play(t, func(w *world) {
		w.token(platform)
		w.weixin.KillTokens(theComponent)
		code, err := w.node.PreAuthCode(w.Context(), theComponent)
		if err != nil || code.Value == nil || code.Lifetime != 30*time.Minute {
			t.Errorf("PreAuthCode: lifetime %v, %v", code.Lifetime, err)
		}
		w.weixin.Inject(sandbox.Fault{Path: "/cgi-bin/component/api_create_preauthcode", ErrCode: 45009})
		if _, err := w.node.PreAuthCode(w.Context(), theComponent); problem.Of(err).Slug != problem.ErrNoComponent.Slug {
			t.Errorf("PreAuthCode: %v", err)
		}
	})
}

// The first ticket, and the first after a gap, are worth a line; the others are not. Lines
// about a component have no empty field of an account.
func TestTicketsThatComeAgainAreSaid(t *testing.T) {
	const first, again = "the first component_verify_ticket has come", "component_verify_ticket comes again"
	play(t, func(w *world) {
		said := func(wantFirst, wantAgain int) {
			t.Helper()
			if gotFirst, gotAgain := w.logs.FilterMessage(first).Len(), w.logs.FilterMessage(again).Len(); gotFirst != wantFirst || gotAgain != wantAgain {
				t.Errorf("said %d and %d times, want %d and %d", gotFirst, gotAgain, wantFirst, wantAgain)
			}
		}
		said(1, 0)
		for range 6 {
			time.Sleep(10 * time.Minute)
			w.must(w.weixin.PushTicket(w.Context()))
		}
		said(1, 0)
		old := w.ticket()
		time.Sleep(time.Hour)
		w.must(w.node.Ticket(w.Context(), theComponent, old.Value, old.CreateTime)) // WeChat repeats a push
		said(1, 0)
		w.node = w.start() // another node of the cluster
		w.must(w.weixin.PushTicket(w.Context()))
		said(1, 1)
		if gap := w.logs.FilterMessage(again).All()[0].ContextMap()["gap"]; gap != time.Hour {
			t.Errorf("gap is %v", gap)
		}
		w.token(platform)
		for _, entry := range w.logs.All() {
			if value, has := entry.ContextMap()["authorizer"]; has && value == "" {
				t.Errorf("%s: the field authorizer is empty", entry.Message)
			}
		}
	})
}
