// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// A profile is learnt once when an account authorises, sealed, and then known on every
// node and after a restart without a question.
func TestAProfileIsLearntAtAuthorisation(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		n.Granted(account, time.Now())
		w.questions(1)
		want := vault.Profile{UserName: userName, Name: "示例", Principal: "示例科技有限公司", Kind: "official_account", Functions: []int{1, 2}}
		got := w.stored(n)
		if got.Learned.IsZero() {
			t.Error("nobody knows when it was learnt")
		}
		got.Learned = time.Time{}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		for _, each := range []*node{n, w.start(), w.start()} {
			each.Used(account)
			w.push(each, userName, true, true)
			w.push(each, another, false, true)
		}
		w.questions(0)
	})
}

// What is not known is delivered, and asked about once: by the first push or call of an
// account of an earlier release, and however many there are.
func TestAccountsOfBeforeAreLearntAsTheyAreUsed(t *testing.T) {
	for name, use := range map[string]func(w *world, n *node){
		"by a push":                     func(w *world, n *node) { w.push(n, userName, true, true) },
		"by a push for another account": func(w *world, n *node) { w.push(n, another, true, true) },
		"by a call":                     func(_ *world, n *node) { n.Used(account) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				n := w.start()
				w.set(func() { w.takes = 5 * time.Second })
				for range 100 {
					use(w, n)
				}
				w.questions(1)
				time.Sleep(5 * time.Second)
				w.push(n, another, false, true)
				w.push(n, userName, true, true)
				w.questions(0)
			})
		})
	}
}

// A push that somebody has captured can be sent to the path of any appid. Of appids that
// nobody here has a record of WeChat is asked rarely, and they keep nobody waiting: neither
// an account that is used, nor one that has a record and is only pushed to.
func TestPushesToMadeUpAppids(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		pushedTo := numbered(99_999)
		_, err := n.settings.Vault.Store(w.Context(), pushedTo, vault.Record{EventTime: time.Now()})
		w.must(err)
		w.set(func() { w.fail = &openapi.Refusal{Endpoint: openapi.EndpointAuthorizerInfo, Code: 61003} })
		for round := range 60 {
			for i := range 200 {
				n.Account(w.Context(), component, numbered(200*round+i).Authorizer(), another)
			}
			if round == 1 {
				w.set(func() { w.fail = nil })
				n.Used(account)
				n.Account(w.Context(), component, pushedTo.Authorizer(), another)
				time.Sleep(5 * time.Second)
				w.stored(n)
				if its, _ := n.Account(w.Context(), component, pushedTo.Authorizer(), another); its {
					t.Error("nothing has been learnt of an account that is pushed to")
				}
				w.set(func() { w.fail = &openapi.Refusal{Endpoint: openapi.EndpointAuthorizerInfo, Code: 61003} })
			}
			time.Sleep(time.Minute)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if got, most := len(w.asked), maxStrangers+60+2; got < maxStrangers || got > most {
			t.Errorf("%d questions in an hour, want %d at most", got, most)
		}
	})
}

func TestWhoseMessageItIs(t *testing.T) {
	for name, row := range map[string]struct {
		kind     openapi.AccountKind
		to       string
		its      bool
		official bool
	}{
		"its own":                                {openapi.OfficialAccount, userName, true, true},
		"another's":                              {openapi.OfficialAccount, another, false, true},
		"a name of another form":                 {openapi.OfficialAccount, "v2_1@finder", false, true},
		"no name":                                {openapi.OfficialAccount, "", true, true},
		"a mini program's":                       {openapi.MiniProgram, userName, true, false},
		"another's to a mini program":            {openapi.MiniProgram, another, false, false},
		"a shop's":                               {openapi.Shop, userName, true, false},
		"another's to a shop":                    {openapi.Shop, another, false, false},
		"a shop may have a name of another form": {openapi.Shop, "v2_1@finder", true, false},
		"an assistant may have such a name as well": {openapi.OtherAccount, "v2_1@finder", true, false},
		"another's to an assistant":                 {openapi.OtherAccount, another, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				w.kind = row.kind
				n := w.start()
				n.Granted(account, time.Now())
				w.questions(1)
				w.push(n, row.to, row.its, row.official)
			})
		})
	}
}

// The kind of an account is known where WeChat tells no name of it.
func TestAnAccountWithoutAName(t *testing.T) {
	for kind, official := range map[openapi.AccountKind]bool{
		openapi.OfficialAccount: true, openapi.MiniProgram: false, openapi.Shop: false, openapi.OtherAccount: false,
	} {
		t.Run(string(kind), func(t *testing.T) {
			play(t, func(w *world) {
				n := w.start()
				n.Learned(account, openapi.AuthorizerInfo{Kind: kind}, time.Now())
				synctest.Wait()
				for _, each := range []*node{n, w.start()} {
					w.push(each, userName, true, official)
					w.push(each, "", true, official)
				}
			})
		})
	}
}

// A storage that fails or hangs means that nobody knows: the push is delivered, and waits
// half a second at most. The pushes after it do not wait, and nothing is asked of WeChat.
func TestAStorageThatFails(t *testing.T) {
	for name, hook := range map[string]func(ctx context.Context, op vaulttest.Op, name string) error{
		"fails": func(context.Context, vaulttest.Op, string) error { return errors.New("connection refused") },
		"hangs": func(ctx context.Context, _ vaulttest.Op, _ string) error { <-ctx.Done(); return ctx.Err() },
		"hangs and does not listen": func(context.Context, vaulttest.Op, string) error {
			time.Sleep(time.Minute)
			return errors.New("timeout")
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				first := w.start()
				first.Granted(account, time.Now())
				w.questions(1)
				n := w.start()
				w.storage.Intercept(hook)
				for i, most := range []time.Duration{readTimeout, 0, 0} {
					began := time.Now()
					w.push(n, another, true, true)
					if took := time.Since(began); took > most {
						t.Errorf("push %d waited %v", i, took)
					}
				}
				w.questions(0)
				w.storage.Intercept(nil)
				time.Sleep(2 * time.Minute)
				w.push(n, another, false, true)

				// What memory has known stays known although it is old.
				w.storage.Intercept(hook)
				time.Sleep(2 * memoryTime)
				w.push(n, another, false, true)
				w.questions(0)
				w.storage.Intercept(nil)
			})
		})
	}
}

// Only so many pushes wait for a storage that hangs.
func TestFewPushesWaitForTheStorage(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		w.storage.Intercept(func(ctx context.Context, _ vaulttest.Op, _ string) error { <-ctx.Done(); return ctx.Err() })
		began := time.Now()
		late := make(chan bool, 100)
		for range 100 {
			go func() {
				n.Account(w.Context(), component, appid, userName)
				late <- time.Since(began) > 0
			}()
		}
		waited := 0
		for range 100 {
			if <-late {
				waited++
			}
		}
		if waited != maxReads {
			t.Errorf("%d waited, want %d", waited, maxReads)
		}
		w.storage.Intercept(nil)
	})
}

// A request that WeChat gives up waits for nothing.
func TestAPushThatIsGivenUp(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		w.storage.Intercept(func(ctx context.Context, _ vaulttest.Op, _ string) error { <-ctx.Done(); return ctx.Err() })
		ctx, cancel := context.WithTimeout(w.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		if its, official := n.Account(ctx, component, appid, another); !its || !official {
			t.Error(its, official)
		}
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("it waited %v", took)
		}
		w.storage.Intercept(nil)
	})
}

// A profile that no longer fits what is pushed is looked at again, once a day: should
// WeChat give an account another name, its messages would be lost for a month.
func TestAProfileThatDoesNotFitIsLearntAgain(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		n.Granted(account, time.Now())
		w.questions(1)
		for range 10 {
			w.push(n, another, false, true)
		}
		w.questions(0)
		time.Sleep(25 * time.Hour)
		for range 10 {
			w.push(n, another, false, true)
		}
		w.questions(1)
		w.push(n, another, false, true)
		w.questions(0)
	})
}

// A profile of a newer release is left alone, and nothing is known of its account.
func TestAProfileOfANewerRelease(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		n.Granted(account, time.Now())
		w.questions(1)
		newer := strings.Replace(string(w.storage.Files()[key]), `"schema":1`, `"schema":2`, 1)
		w.storage.Put(key, []byte(newer))
		n = w.start()
		for range 3 {
			n.Used(account)
			w.push(n, another, true, true)
			n.Granted(account, time.Now())
			synctest.Wait()
		}
		w.questions(0)
		n.Learned(account, openapi.AuthorizerInfo{UserName: userName}, time.Now())
		w.questions(0)
		if got := string(w.storage.Files()[key]); got != newer {
			t.Errorf("the file is %s", got)
		}
		if n := w.logs.Len(); n != 0 {
			t.Errorf("%d lines in the log: %v", n, w.logs.All())
		}
	})
}
