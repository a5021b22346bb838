// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// audience hears the news of all nodes of a world.
type audience struct {
	world *world
	mu    sync.Mutex
	all   []News
	fail  func() error // what happens to the next ones; nil for nothing
}

// listen makes nodes tell their news.
func (w *world) listen(nodes ...*node) *audience {
	heard := &audience{world: w}
	for _, n := range nodes {
		heard.also(n)
	}
	return heard
}

func (h *audience) also(n *node) {
	n.settings.Load().News = func(ctx context.Context, news News) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.fail != nil {
			if err := h.fail(); err != nil {
				return err
			}
		}
		h.all = append(h.all, news)
		return nil
	}
}

func (h *audience) failing(fail func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = fail
}

// are checks the InfoTypes that were told since the last time.
func (h *audience) are(want ...string) (news []News) {
	h.world.Helper()
	time.Sleep(5 * time.Second) // for storage locks, which are polled
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	var got []string
	for _, n := range h.all {
		got = append(got, n.InfoType)
		if n.Component != theComponent || n.AppID == "" || n.Occurrence == "" || n.Time.IsZero() || n.Reason == "" {
			h.world.Errorf("%+v", n)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		h.world.Fatalf("news (-want +got):\n%s", diff)
	}
	news, h.all = h.all, nil
	return news
}

// call asks all nodes for a token, again and again for a time.
func (w *world) call(nodes []*node, during time.Duration) {
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(10 * time.Second) {
		for _, n := range nodes {
			_, _ = n.Current(w.Context(), shop, theClient)
		}
	}
}

func TestALostRefreshTokenIsToldOnceInACluster(t *testing.T) {
	playAuthorized(t, func(w *world) {
		nodes := []*node{w.node, w.start()}
		heard := w.listen(nodes...)
		var before []News
		for round := range 2 {
			w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 61023})
			time.Sleep(3 * time.Hour)
			w.call(nodes, 2*time.Hour)
			lost := heard.are(InfoNeedsAuthorization)
			nodes[0].Close()
			nodes[0] = w.start() // which has forgotten everything
			heard.also(nodes[0])
			w.call(nodes, time.Hour)
			heard.are()
			w.weixin.ClearFaults()
			w.call(nodes, 10*time.Minute)
			works := heard.are(InfoRecovered)
			w.call(nodes, 10*time.Hour)
			heard.are()
			if lost[0].Remedy == "" || lost[0].AppID != theShop {
				t.Errorf("%+v", lost)
			}
			for _, n := range before {
				if n.Occurrence == lost[0].Occurrence || n.Occurrence == works[0].Occurrence {
					t.Errorf("round %d: %+v has the occurrence of %+v", round, n, before)
				}
			}
			before = append(lost, works...)
		}
	})
}

// An account that needed authorization and that its admin authorizes again works again.
func TestAnAuthorizationEndsTheTrouble(t *testing.T) {
	playAuthorized(t, func(w *world) {
		heard := w.listen(w.node)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 61023})
		time.Sleep(3 * time.Hour)
		w.fails(shop, problem.ErrNeedsAdmin)
		heard.are(InfoNeedsAuthorization)
		w.weixin.ClearFaults()
		_, err := w.node.Exchange(w.Context(), theComponent, secret.New(w.authorize(theShop))) // the callback
		w.must(err)
		heard.are(InfoRecovered)
		w.must(w.weixin.Revoke(w.Context(), theShop))
		w.authorize(theShop)
		w.call([]*node{w.node}, 5*time.Hour)
		heard.are()
	})
}

func TestAnAccountWhoseCallsWereRefusedRecovers(t *testing.T) {
	playAuthorized(t, func(w *world) {
		nodes := []*node{w.node, w.start()}
		heard := w.listen(nodes...)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 45009})
		time.Sleep(3 * time.Hour)
		w.call(nodes, time.Hour)
		heard.are()
		w.weixin.ClearFaults()
		w.call(nodes, 20*time.Hour)
		heard.are(InfoRecovered)
	})
}

// As long as a token lives nobody notices that it cannot be renewed.
func TestARenewalAheadThatFailsIsNoNews(t *testing.T) {
	playAuthorized(t, func(w *world) {
		heard := w.listen(w.node)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 45009, Times: 3})
		w.call([]*node{w.node}, 5*time.Hour)
		if got := w.logged(zap.ErrorLevel, renewalFailing); got == 0 {
			t.Error("no renewal has failed")
		}
		heard.are()
	})
}

// What ails the component is no news of its accounts.
func TestTroubleOfTheComponentIsNoNews(t *testing.T) {
	playAuthorized(t, func(w *world) {
		heard := w.listen(w.node)
		w.weixin.Inject(sandbox.Fault{Path: askComponentToken, ErrCode: 61004})
		time.Sleep(3 * time.Hour)
		w.call([]*node{w.node}, time.Hour)
		w.weixin.ClearFaults()
		w.must(w.weixin.PushTicket(w.Context()))
		w.call([]*node{w.node}, time.Hour)
		w.token(shop)
		heard.are()
	})
}

func TestAnAccountThatIsMetIsToldOnceInACluster(t *testing.T) {
	for name, meet := range map[string]func(w *world, n *node){
		"by a call": func(w *world, n *node) { w.tokenFrom(n, shop) },
		"by a list": func(w *world, n *node) {
			_, err := n.AuthorizerList(w.Context(), theComponent, Itself, 0, 100)
			w.must(err)
		},
		"by an info": func(w *world, n *node) {
			_, err := n.AuthorizerInfo(w.Context(), shop, theClient)
			w.must(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			playAuthorized(t, func(w *world) {
				nodes := []*node{w.start(), w.start()}
				w.node.Close()
				w.node = nodes[0]
				w.must(w.weixin.PushTicket(w.Context()))
				for file := range w.storage.Files() {
					if file != "wechat/"+theComponent+"/ticket.json" {
						w.must(w.storage.Delete(w.Context(), file))
					}
				}
				heard := w.listen(nodes...)
				var meetings sync.WaitGroup
				for _, n := range nodes {
					meetings.Go(func() { meet(w, n) })
				}
				meetings.Wait()
				heard.are(InfoAccountFound)
				for _, n := range nodes {
					meet(w, n)
				}
				w.call(nodes, 5*time.Hour)
				heard.are()
			})
		})
	}
}

// An account of which an event tells is not found by the gateway.
func TestAnAuthorizedAccountIsNotFound(t *testing.T) {
	play(t, func(w *world) {
		heard := w.listen(w.node)
		w.authorize(theShop)
		_, err := w.node.AuthorizerList(w.Context(), theComponent, Itself, 0, 100)
		w.must(err)
		w.call([]*node{w.node}, 5*time.Hour)
		heard.are()
	})
}

// An account that has withdrawn is authorized again, and nobody is told: neither the
// event nor the answer to the exchange arrives.
func TestAnAccountThatComesBackIsFound(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.must(w.weixin.Revoke(w.Context(), theShop))
		heard := w.listen(w.node)
		time.Sleep(time.Minute)
		w.deaf.Store(true)
		code, _ := w.weixin.Authorize(w.Context(), theShop)
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, DropAfter: true, Times: 1})
		if _, err := w.node.Exchange(w.Context(), theComponent, secret.New(code)); err == nil {
			t.Error("the answer was not lost")
		}
		time.Sleep(recheckInterval)
		w.call([]*node{w.node}, time.Hour)
		heard.are(InfoAccountFound)
	})
}

// WeChat knows the account, and nobody has a refresh token that works.
func TestAnAccountThatIsMetAndLost(t *testing.T) {
	for name, lose := range map[string]func(w *world){
		"WeChat tells no refresh token": func(w *world) {
			w.weixin.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
			w.authorize(theShop) // and the code never reaches anybody
		},
		"WeChat tells one that it does not take": func(w *world) {
			w.authorize(theShop)
			w.must(w.storage.Delete(w.Context(), w.file(shop)))
			w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 61023})
			w.restart()
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				lose(w)
				nodes := []*node{w.node, w.start()}
				heard := w.listen(nodes...)
				w.call(nodes, time.Hour)
				heard.are(InfoAccountFound, InfoNeedsAuthorization)
				if record := w.record(shop); record.Trouble != vault.NeedsAuthorization || record.State != vault.Authorized {
					t.Errorf("%+v", record)
				}
			})
		})
	}
}

// file is where the record of an account is stored.
func (w *world) file(who subject.Subject) string {
	w.Helper()
	for name := range w.storage.Files() {
		if strings.HasSuffix(name, who.Authorizer()+".json") {
			return name
		}
	}
	w.Fatal("no record is stored")
	return ""
}

// Whoever tries appids makes no news, and nothing is stored.
func TestAppIDsThatAreTriedAreNoNews(t *testing.T) {
	for _, errcode := range []int{0, 61003, 40013, 61023, 45009, -1} {
		t.Run(fmt.Sprint(errcode), func(t *testing.T) {
			play(t, func(w *world) {
				heard := w.listen(w.node)
				if errcode != 0 {
					w.weixin.Inject(sandbox.Fault{Path: askAuthorizerInfo, ErrCode: errcode})
				}
				for i := range 20 {
					_, err := w.node.Current(w.Context(), subject.Of(theComponent, fmt.Sprintf("wx%016x", i)), theClient)
					if err == nil {
						t.Error("a token of nobody")
					}
				}
				heard.are()
				for file := range w.storage.Files() {
					if !slices.Contains([]string{"wechat/" + theComponent + "/ticket.json", "wechat/" + theComponent + "/component.json"}, file) {
						t.Errorf("%s was stored", file)
					}
				}
			})
		})
	}
}

// A list brings hundreds of accounts that nobody knew: all are told, a few at a time.
func TestManyAccountsThatAreMet(t *testing.T) {
	play(t, func(w *world) {
		const accounts = 300
		for i := range accounts {
			appid := fmt.Sprintf("wx%016x", i)
			w.must(w.weixin.AddAccount(sandbox.Account{AppID: appid}))
			w.authorize(appid)
			w.must(w.storage.Delete(w.Context(), w.file(subject.Of(theComponent, appid))))
		}
		w.restart()
		heard := w.listen(w.node)
		_, err := w.node.AuthorizerList(w.Context(), theComponent, Itself, 0, accounts)
		w.must(err)
		time.Sleep(time.Minute)
		told := make(map[string]bool)
		for _, n := range heard.are(slices.Repeat([]string{InfoAccountFound}, accounts)...) {
			told[n.AppID] = true
		}
		if len(told) != accounts {
			t.Errorf("%d accounts were told of", len(told))
		}
	})
}
