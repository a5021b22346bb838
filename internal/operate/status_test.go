// SPDX-License-Identifier: Apache-2.0

package operate_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/advice"
	"github.com/caddy-wechat/caddy-wechat/internal/census"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// well makes a component that has a ticket and a token.
func (f *office) well() {
	f.t.Helper()
	now := time.Now()
	f.health = metrics.StorageHealth{LastSuccess: now}
	if _, err := f.Vault.StoreTicket(f.t.Context(), component, vault.Ticket{Value: secret.New("TICKET"), CreateTime: now, Received: now}); err != nil {
		f.t.Fatal(err)
	}
	r := vault.Record{Token: secret.New("TOKEN"), Obtained: now, Expires: now.Add(2 * time.Hour)}
	if _, err := f.Vault.Store(f.t.Context(), subject.Of(component, ""), r); err != nil {
		f.t.Fatal(err)
	}
}

func (f *office) status() operate.Status {
	f.t.Helper()
	s, err := f.Status(f.t.Context(), "")
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func TestTheStatusHasThisForm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newOffice(t)
		time.Sleep(time.Until(start))
		f.well()
		f.census.counts = census.Counts{Authorized: 4, Withdrawn: 3}
		f.engine.last[subject.Of(component, "")] = tokens.Failure{Time: start.Add(-time.Hour), Text: "said", Remedy: "do"}
		s, err := f.Status(t.Context(), "")
		want := `{"version":"v1.2.3","node":"node-a","level":0,"components":[{"component":"` + component + `","ticket_received":"2026-11-30T12:00:00Z",` +
			`"token_expires":"2026-11-30T14:00:00Z","last_renewal":"2026-11-30T12:00:00Z","last_failure":{"time":"2026-11-30T11:00:00Z","text":"said","remedy":"do"},` +
			`"accounts":{"authorized":4,"unauthorized":3,"needs_authorization":0,"failing":0,"counted":true},"queues":{"waiting":0,"dead":0}}],` +
			`"storage":{"ok":true},"unstored":0,"warnings":[]}`
		if got := marshal(t, s, err); got != want {
			t.Errorf("the status is\n%s, want\n%s", got, want)
		}
	})
}

// What WeChat refused a while ago is over, as far as anybody knows.
func TestTheStatusForgetsWhatWeChatHasRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newOffice(t)
		time.Sleep(time.Until(start))
		f.well()
		said, _ := advice.Of(advice.Case{Errcode: 61004, Component: component})
		f.Advisor.Note(said.Owner, said, time.Now())
		time.Sleep(10 * time.Minute)
		if s := f.status(); s.Level != operate.LevelWell || len(s.Warnings) != 0 {
			t.Errorf("ten minutes later: %+v", s)
		}
	})
}

// Each thing that is broken makes the level 2, each that an operator should look at 1,
// and each says what to do.
func TestTheLevelSaysHowBadItIs(t *testing.T) {
	is := func(level int, want string, make func(*office)) func(*testing.T) {
		return func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newOffice(t)
				time.Sleep(time.Until(start))
				f.well()
				make(f)
				s := f.status()
				if s.Level != level || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0].Text+": "+s.Warnings[0].Remedy, want) || s.Warnings[0].Remedy == "" || s.Warnings[0].Broken != (level == 2) {
					t.Errorf("level %d, %+v, want %d and %q", s.Level, s.Warnings, level, want)
				}
			})
		}
	}
	enders := func(f *office) { // the token has ended
		time.Sleep(2 * time.Hour)
		if _, err := f.Vault.StoreTicket(f.t.Context(), component, vault.Ticket{Value: secret.New("TICKET2"), CreateTime: time.Now(), Received: time.Now()}); err != nil {
			f.t.Fatal(err)
		}
		f.health.LastSuccess = time.Now()
	}
	t.Run("storage fails for a moment", is(1, "store has failed", func(f *office) {
		time.Sleep(time.Second)
		f.health.LastFailure, f.health.Operation = time.Now(), "store"
	}))
	t.Run("storage fails", is(2, "store has failed", func(f *office) {
		time.Sleep(2 * time.Minute)
		f.health.LastFailure, f.health.Operation = time.Now(), "store"
	}))
	t.Run("no ticket", is(2, "no component_verify_ticket has come yet", func(f *office) {
		if err := f.storage.Delete(f.t.Context(), "wechat/"+component+"/ticket.json"); err != nil {
			f.t.Fatal(err)
		}
	}))
	t.Run("a ticket that does not open", is(2, "does not open", func(f *office) {
		f.storage.Put("wechat/"+component+"/ticket.json", []byte("{"))
	}))
	t.Run("a token that does not open", is(2, "does not open", func(f *office) {
		f.storage.Put("wechat/"+component+"/component.json", []byte("{"))
	}))
	t.Run("old ticket", is(2, "came 25m0s ago", func(*office) { time.Sleep(25 * time.Minute) }))
	t.Run("no token", is(2, "no other can be had: said", func(f *office) {
		enders(f)
		f.engine.last[subject.Of(component, "")] = tokens.Failure{Time: time.Now(), Text: "said", Remedy: "do"}
	}))
	t.Run("unstored", is(1, "5 records", func(f *office) { f.engine.unsaved = 5 }))
	t.Run("needs authorisation", is(1, "authorised again: 3", func(f *office) { f.census.counts.NeedsAdmin = 3 }))
	t.Run("failing", is(1, "no token can be had: 2", func(f *office) { f.census.counts.Failing = 2 }))
	t.Run("white list", is(1, "WeChat refuses calls from 192.0.2.7: it is not on the IP white list of the platform; the last time 9m59s ago: add it", func(f *office) {
		said, _ := advice.Of(advice.Case{Errcode: 61004, Component: component, AppID: number(1), IP: netip.MustParseAddr("192.0.2.7")})
		f.Advisor.Note(said.Owner, said, time.Now())
		time.Sleep(10*time.Minute - time.Second)
	}))
	t.Run("previous token", is(1, "previous token", func(f *office) {
		f.Pushes.Add(pushlog.Push{Time: time.Now(), Component: component, Genuine: true, Previous: true})
	}))
	t.Run("waiting", is(1, "1 of them, the oldest for 11m0s", func(f *office) {
		f.serve("shop/main", 500)
		f.put("shop/main", 0, false)
		time.Sleep(11 * time.Minute)
	}))
	t.Run("dead", is(1, "given up: 1", func(f *office) {
		f.put("shop/main", 0, true)
		f.serve("shop/main", 500)
	}))
	t.Run("gone", is(1, "then caddy wechat events test --client shop", func(f *office) {
		f.serve("shop/main", 410)
		f.put("shop/main", 0, false)
		time.Sleep(time.Minute)
	}))
}

// serve lets the courier deliver to a target, which answers with a status.
func (f *office) serve(target string, status int) {
	f.down[target] = status
	client, name, _ := strings.Cut(target, "/")
	queue := vault.Queue{Component: component, Client: client, Target: name}
	to := f.Settings.Targets[queue]
	to.Timeout, to.RetryFor, to.MaxWaiting, to.Concurrency = time.Second, 24*time.Hour, 1000, 1
	f.Courier.Serve(map[vault.Queue]*delivery.Target{queue: to})
	time.Sleep(time.Second)
}

// A failure that is over, a withdrawal, and a node that has not counted yet are no
// reason to look.
func TestWhatIsWellGivesNoWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newOffice(t)
		time.Sleep(time.Until(start))
		f.health.LastFailure, f.health.Operation = time.Now(), "store"
		f.engine.last[subject.Of(component, "")] = tokens.Failure{Time: time.Now(), Text: "said", Remedy: "do"}
		time.Sleep(time.Second)
		f.well()
		f.health.LastFailure, f.health.Operation = time.Now().Add(-time.Second), "store"
		f.census.counts.Withdrawn = 7
		if s := f.status(); s.Level != 0 || len(s.Warnings) != 0 || s.Storage.LastFailure.Text == "" || !s.Storage.OK {
			t.Errorf("%+v", s)
		}
	})
}

// What is broken stands before what is not.
func TestTheWorstComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newOffice(t)
		time.Sleep(time.Until(start))
		f.well()
		f.engine.unsaved = 1
		f.census.counts.Failing = 1
		time.Sleep(time.Hour)
		s := f.status()
		if len(s.Warnings) != 3 || !s.Warnings[0].Broken || s.Warnings[1].Broken || s.Level != operate.LevelBroken {
			t.Errorf("%+v", s.Warnings)
		}
	})
}

// A storage that hangs, and does not heed that nobody waits, holds up no answer; one that
// fails is said.
func TestTheStatusDoesNotWaitForAStorageThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newOffice(t)
		time.Sleep(time.Until(start))
		f.well()
		over := make(chan struct{})
		f.storage.Intercept(func(context.Context, vaulttest.Op, string) error { <-over; return nil })
		began := time.Now()
		s := f.status()
		if took := time.Since(began); took != 2*time.Second || s.Level != 2 || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0].Text, "storage") {
			t.Errorf("after %v: %+v", took, s)
		}
		close(over)
		synctest.Wait()
		f.storage.Intercept(func(context.Context, vaulttest.Op, string) error { return errors.New("disk full") })
		if s := f.status(); s.Level != 2 || len(s.Warnings) != 1 {
			t.Errorf("%+v", s)
		}
		f.storage.Intercept(nil)
	})
}

// Ready asks nobody, and is true once storage has answered, whatever comes later.
func TestReadyIsWhenStorageHasAnsweredOnce(t *testing.T) {
	f := newOffice(t)
	f.storage.Intercept(func(_ context.Context, op vaulttest.Op, key string) error {
		t.Errorf("%s %s", op, key)
		return nil
	})
	defer f.storage.Intercept(nil)
	f.health = metrics.StorageHealth{}
	_, err := f.Ready(t.Context(), "")
	if told := refused(t, err); told.Status != 503 || told.Remedy == "" {
		t.Errorf("%+v", told)
	}
	if live, err := f.Live(t.Context(), ""); err != nil || live.Status != "ok" {
		t.Errorf("live: %v, %v", live, err)
	}
	f.health = metrics.StorageHealth{LastSuccess: time.Now(), LastFailure: time.Now()}
	ready, err := f.Ready(t.Context(), "")
	if got := marshal(t, ready, err); got != `{"status":"ok"}` {
		t.Errorf("ready: %s", got)
	}
}
