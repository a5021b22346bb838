// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// news checks the news since the last time, by their reasons.
func (w *world) news(want ...string) (told []tokens.News) {
	w.Helper()
	time.Sleep(5 * time.Second)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var got []string
	for _, n := range w.told {
		got = append(got, n.Reason)
		if n.Component != component || n.AppID != appid || n.InfoType != "gateway_permissions_changed" || n.Occurrence == "" || n.Time.IsZero() {
			w.Errorf("%+v", n)
		}
	}
	for i := range want {
		want[i] = "the permission sets that the account has granted are others than before: " + want[i]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("news (-want +got):\n%s", diff)
	}
	told, w.told = w.told, nil
	return told
}

// Other permission sets are news, once in a cluster, and different ones each time.
func TestPermissionsChanged(t *testing.T) {
	play(t, func(w *world) {
		nodes := []*node{w.start(), w.start()}
		grant := func(functions ...int) {
			w.set(func() { w.functions = functions })
			time.Sleep(time.Minute)
			for _, n := range nodes {
				n.Granted(account, time.Now())
			}
		}
		grant(1, 2)
		w.news()
		grant(2, 1, 1)
		w.news()
		grant(2, 3, 7)
		first := w.news("granted 3, 7; withdrawn 1")
		grant(1, 2)
		w.news("granted 1; withdrawn 3, 7")
		grant(2, 3, 7)
		second := w.news("granted 3, 7; withdrawn 1")
		grant()
		w.news("withdrawn 2, 3, 7")
		if first[0].Occurrence == second[0].Occurrence {
			t.Error("the second time is taken for a repetition of the first")
		}
	})
}

// News that cannot be queued, or a profile that cannot be stored, is tried again without
// another question to WeChat. What is told again has the same id.
func TestNewsAreNotLost(t *testing.T) {
	for name, broken := range map[string]bool{"queueing fails": true, "storing fails": false} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				n := w.start()
				n.Granted(account, time.Now())
				w.questions(1)
				if broken {
					w.set(func() { w.refuse = errors.New("disk full") })
				} else {
					w.storage.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
						if op == vaulttest.Store && name == key {
							return errors.New("disk full")
						}
						return nil
					})
				}
				w.set(func() { w.functions = []int{1, 2, 3} })
				n.Granted(account, time.Now())
				time.Sleep(20 * time.Second)
				w.set(func() { w.refuse = nil })
				w.storage.Intercept(nil)
				time.Sleep(time.Minute)
				w.questions(1)
				w.mu.Lock()
				defer w.mu.Unlock()
				ids := make(map[string]bool)
				for _, each := range w.told {
					ids[each.Occurrence] = true
				}
				if len(w.told) < 2 || len(ids) != 1 {
					t.Errorf("told %d times with %d ids", len(w.told), len(ids))
				}
				if got := w.stored(n).Functions; !slices.Equal(got, []int{1, 2, 3}) {
					t.Errorf("stored are %v", got)
				}
			})
		})
	}
}

// A profile is renewed after thirty days, when its account is used, once in a cluster;
// that of an account that nobody uses is not.
func TestProfilesAreRenewed(t *testing.T) {
	play(t, func(w *world) {
		nodes := []*node{w.start(), w.start()}
		nodes[0].Granted(account, time.Now())
		w.questions(1)
		for range 29 * 24 {
			for _, n := range nodes {
				n.Used(account)
			}
			time.Sleep(time.Hour)
		}
		w.questions(0)
		time.Sleep(40 * 24 * time.Hour)
		w.questions(0)
		for _, n := range nodes {
			w.push(n, userName, true, true)
			w.questions(map[*node]int{nodes[0]: 1}[n])
		}
	})
}

// If the process dies between an authorisation and the question, whoever uses the account
// next finds that the profile is older than the event.
func TestAnEventIsNotForgottenByACrash(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		n.Granted(account, time.Now())
		w.questions(1)
		time.Sleep(time.Hour)
		_, err := n.settings.Vault.Store(w.Context(), account, vault.Record{EventTime: time.Now()})
		w.must(err)
		n = w.start()
		n.Used(account)
		w.questions(1)
		n.Used(account)
		w.questions(0)
	})
}

// Of an account that has withdrawn WeChat tells nothing. Its profile stays.
func TestAnAccountThatHasWithdrawn(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		n.Granted(account, time.Now())
		w.questions(1)
		time.Sleep(time.Hour)
		_, err := n.settings.Vault.Store(w.Context(), account, vault.Record{EventTime: time.Now(), State: vault.Unauthorized})
		w.must(err)
		n = w.start()
		for range 3 {
			n.Used(account)
			w.push(n, another, false, true)
		}
		w.questions(0)
		w.stored(n)
	})
}

// Another node that uses the account at once does not ask as well.
func TestAnAccountThatTwoNodesMeet(t *testing.T) {
	play(t, func(w *world) {
		nodes := []*node{w.start(), w.start()}
		w.set(func() { w.takes = 500 * time.Millisecond })
		nodes[0].Granted(account, time.Now())
		nodes[1].Used(account)
		w.push(nodes[1], another, true, true)
		w.questions(1)
		w.push(nodes[1], another, false, true)
	})
}

// Somebody else's account is asked about once an hour at most.
func TestAnAccountOfNobodyHere(t *testing.T) {
	for name, code := range map[string]int{"not authorized": 61003, "no appid": 40013} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				n := w.start()
				w.fail = &openapi.Refusal{Endpoint: openapi.EndpointAuthorizerInfo, Code: code}
				for range 50 {
					w.push(n, another, true, true)
					n.Used(account)
					time.Sleep(time.Minute)
				}
				w.questions(1)
				time.Sleep(15 * time.Minute)
				w.push(n, another, true, true)
				w.questions(1)
				if files := w.storage.Files(); len(files) != 0 {
					t.Errorf("stored are %d files", len(files))
				}
			})
		})
	}
}

// What others ask WeChat saves a question, but is not written at each of their calls.
func TestAnswersToOthers(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		told := func(functions ...int) {
			n.Learned(account, openapi.AuthorizerInfo{UserName: userName, Kind: openapi.MiniProgram, Functions: functions}, time.Now())
		}
		told(1)
		synctest.Wait()
		w.push(n, another, false, false)
		writes := w.storage.Count(vaulttest.Store)
		for range 50 {
			time.Sleep(time.Minute)
			told(1)
		}
		synctest.Wait()
		if got := w.storage.Count(vaulttest.Store); got != writes {
			t.Errorf("%d writes", got-writes)
		}
		time.Sleep(11 * time.Minute)
		told(1, 2)
		w.news("granted 2")
		w.questions(0)
	})
}

// An answer that comes late does not replace a newer one.
func TestAnOldAnswer(t *testing.T) {
	play(t, func(w *world) {
		n, other := w.start(), w.start()
		old := time.Now()
		time.Sleep(time.Minute)
		n.Granted(account, time.Now())
		w.questions(1)
		other.Learned(account, openapi.AuthorizerInfo{UserName: userName, Functions: []int{9}}, old)
		w.news()
		if got := w.stored(n).Functions; !slices.Equal(got, []int{1, 2}) {
			t.Errorf("stored are %v", got)
		}
	})
}
