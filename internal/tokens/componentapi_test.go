// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// What a client is told of an authorisation that it knows by a gateway code.

// update lets the admin grant other permission sets, and returns them.
func (w *world) update() (functions []int) {
	w.Helper()
	functions = []int{1, 2, 99}
	w.must(w.weixin.AddAccount(sandbox.Account{AppID: theShop, FuncInfo: functions}))
	_, err := w.weixin.UpdateAuthorized(w.Context(), theShop)
	w.must(err)
	return functions
}

// tells checks what Keeper.Authorization says of the shop, and how long it takes.
func (w *world) tells(functions []int, tokens bool, after time.Duration) {
	w.Helper()
	began := time.Now()
	got, err := w.node.Authorization(w.Context(), shop, theClient)
	w.must(err)
	if got.Authorizer != theShop || got.Tokens != tokens || !slices.Equal(got.Functions, functions) || got.Answer != nil {
		w.Errorf("told %+v, want %v and tokens: %v", got, functions, tokens)
	}
	if took := time.Since(began); took != after {
		w.Errorf("told after %v, want %v", took, after)
	}
}

// refuses checks that Keeper.Authorization fails with this.
func (w *world) refuses(want *problem.Problem) {
	w.Helper()
	if got, err := w.node.Authorization(w.Context(), shop, theClient); err == nil || problem.Of(err).Slug != want.Slug {
		w.Errorf("told %+v, %v; want an error answered as %s", got, err, want.Slug)
	}
}

// While WeChat's own code is being exchanged, it is waited for: nobody is told what the
// account had granted before.
func TestAuthorizationWaitsForTheExchange(t *testing.T) {
	const latency = 3 * time.Second
	t.Run("of a new account", func(t *testing.T) {
		play(t, func(w *world) {
			w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, Latency: latency})
			w.authorize(theShop)
			w.tells([]int{1, 2, 3, 4, 7, 11, 15}, true, latency)
			w.calls(askQueryAuth, 1)
			w.calls(askAuthorizerInfo, 0)
		})
	})
	t.Run("of other permission sets", func(t *testing.T) {
		playAuthorized(t, func(w *world) {
			w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, Latency: latency})
			w.tells(w.update(), true, latency)
			w.tells([]int{1, 2, 99}, true, 0)
			w.calls(askQueryAuth, 1)
		})
	})
}

// An account that changes what it grants works all the time. So does what a client is told
// of it, whatever keeps WeChat's code from being exchanged, until it is exchanged.
func TestAuthorizationWhileTheExchangeOfAnUpdateFails(t *testing.T) {
	before := []int{1, 2, 3, 4, 7, 11, 15}
	for name, fault := range map[string]sandbox.Fault{
		"busy": {ErrCode: -1}, "quota": {ErrCode: 45009}, "outage": {Reset: true}, "not JSON": {HTML: true},
		"refused": {ErrCode: 48001}, "component refused": {ErrCode: 61011},
	} {
		t.Run(name, func(t *testing.T) {
			playAuthorized(t, func(w *world) {
				fault.Path = askQueryAuth
				w.weixin.Inject(fault)
				after := w.update()
				for range 10 { // also while the exchange cools down
					w.tells(before, true, 0)
				}
				time.Sleep(5 * time.Minute)
				w.tells(before, true, 0)
				w.weixin.ClearFaults()
				time.Sleep(2 * maxCoolDown)
				w.tells(after, true, 0)
			})
		})
	}
	t.Run("the component has no token", func(t *testing.T) {
		playAuthorized(t, func(w *world) {
			time.Sleep(3 * time.Hour)
			w.weixin.Inject(sandbox.Fault{Path: askComponentToken, ErrCode: -1})
			w.update()
			synctest.Wait()
			w.tells(before, true, 0)
		})
	})
}

// Where there is nothing else, the failure is told, and what is found later.
func TestAuthorizationWhileTheFirstExchangeFails(t *testing.T) {
	t.Run("a new account", func(t *testing.T) {
		play(t, func(w *world) {
			w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, ErrCode: -1})
			w.authorize(theShop)
			want := func() {
				t.Helper()
				if got, err := w.node.Authorization(w.Context(), shop, theClient); err == nil || errors.Is(err, problem.ErrUnauthorized) || errors.Is(err, problem.ErrNeedsAdmin) {
					t.Errorf("told %+v, %v", got, err)
				}
			}
			want()
			want() // while it cools down
			w.weixin.ClearFaults()
			time.Sleep(2 * maxCoolDown)
			w.tells([]int{1, 2, 3, 4, 7, 11, 15}, true, 0)
		})
	})
	// Calls are served then, because WeChat tells the refresh token in another way. An
	// answer without tokens would say that the account has granted no API.
	t.Run("until the code is dead", func(t *testing.T) {
		play(t, func(w *world) {
			w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, DropAfter: true})
			w.authorize(theShop)
			time.Sleep(codeLifetime)
			w.tells([]int{1, 2, 3, 4, 7, 11, 15}, true, 0)
			w.token(shop)
		})
	})
}

// An account without any permission set has no tokens, and is authorized. If it is about
// to grant some, and WeChat fails, nobody is told that it has none.
func TestAuthorizationOfAnAccountWithoutAnyPermission(t *testing.T) {
	play(t, func(w *world) {
		w.must(w.weixin.AddAccount(sandbox.Account{AppID: theShop, FuncInfo: []int{}}))
		w.authorize(theShop)
		w.weixin.ResetCounts()
		w.tells(nil, false, 0)
		w.silent()
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, ErrCode: -1})
		after := w.update()
		if got, err := w.node.Authorization(w.Context(), shop, theClient); err == nil {
			t.Errorf("told %+v", got)
		}
		w.weixin.ClearFaults()
		time.Sleep(2 * maxCoolDown)
		w.tells(after, true, 0)
	})
}

// An account that has withdrawn has granted nothing, also if that happens while its code
// is being exchanged.
func TestAuthorizationOfAnAccountThatHasWithdrawn(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		playAuthorized(t, func(w *world) {
			w.must(w.weixin.Revoke(w.Context(), theShop))
			w.refuses(problem.ErrUnauthorized)
			w.restart()
			w.refuses(problem.ErrUnauthorized)
		})
	})
	t.Run("meanwhile", func(t *testing.T) {
		playAuthorized(t, func(w *world) {
			w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				answer, err := next.RoundTrip(r)
				if r.URL.Path == askQueryAuth { // the answer is on its way
					time.Sleep(3 * time.Second)
					if err := w.weixin.Revoke(w.Context(), theShop); err != nil {
						t.Error(err)
					}
				}
				return answer, err
			})
			w.update()
			w.refuses(problem.ErrUnauthorized)
			w.calls(askQueryAuth, 1)
		})
	})
}

// Of an account of which nothing is stored, WeChat is asked. A storage that fails says
// nothing of the account.
func TestAuthorizationWithoutARecord(t *testing.T) {
	const record = "wechat/" + theComponent + "/authorizers/aa/" + theShop + ".json"
	playAuthorized(t, func(w *world) {
		w.must(w.storage.Delete(w.Context(), record))
		w.restart()
		w.tells([]int{1, 2, 3, 4, 7, 11, 15}, true, 0)
		w.calls(askAuthorizerInfo, 1)
		w.calls(askQueryAuth, 0)
		w.restart()
		w.breakStorage(vaulttest.Load)
		w.refuses(problem.ErrStorage)
		w.repairStorage()
	})
	play(t, func(w *world) { w.refuses(problem.ErrUnauthorized) })
}
