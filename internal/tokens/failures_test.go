// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Rule 6: failures.

func TestLiveTokenIsServedWhileWeChatIsDown(t *testing.T) {
	for _, f := range wechatFaults {
		if !slices.Contains([]string{"timeout", "unreachable", "refused"}, f.told.authorizer) || f.happen != nil {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			playAuthorized(t, func(w *world) {
				first := w.token(shop)
				w.weixin.Inject(f.fault)
				time.Sleep(time.Until(first.Expires) - time.Minute)
				w.node.memory.Drop(shop) // so that it must be found again
				if token, err := w.node.Current(w.Context(), shop, theClient); err != nil || !token.Value.Equal(first.Value) {
					t.Errorf("Current: %v", err)
				}
				if _, err := w.node.Replace(w.Context(), shop, rejection(first)); err == nil {
					t.Error("Replace serves the token that was rejected")
				}
				if token, err := w.node.Current(w.Context(), shop, theClient); err != nil || !token.Value.Equal(first.Value) {
					t.Errorf("Current, after the rejection: %v", err)
				}
				w.weixin.ClearFaults()
				time.Sleep(80 * time.Second)
				w.token(shop)
			})
		})
	}
}

func TestCoolDownGrowsFromASecondToAMinute(t *testing.T) {
	for _, who := range []subject.Subject{shop, platform} {
		playAuthorized(t, func(w *world) {
			time.Sleep(3 * time.Hour)
			w.must(w.weixin.PushTicket(w.Context()))
			path := askComponentToken
			if who == shop {
				w.token(platform)
				path = askAuthorizerToken
			}
			w.weixin.Inject(sandbox.Fault{Path: path, ErrCode: -1})
			var at []time.Time
			for pause, end := 50*time.Millisecond, time.Now().Add(time.Hour); time.Now().Before(end); time.Sleep(pause) {
				before := w.weixin.Count(path)
				if _, err := w.node.Current(w.Context(), who, theClient); err == nil {
					t.Fatal("a token is served")
				}
				if w.weixin.Count(path) > before {
					at = append(at, time.Now())
				}
				if len(at) > 1 {
					pause = time.Second
				}
			}
			if len(at) < 40 || len(at) > 90 {
				t.Errorf("%d attempts in an hour, want about 65", len(at))
			}
			if first := at[1].Sub(at[0]); first < 750*time.Millisecond || first > 1400*time.Millisecond {
				t.Errorf("the first pause is %v", first)
			}
			if last := at[len(at)-1].Sub(at[len(at)-2]); last < 45*time.Second || last > 77*time.Second {
				t.Errorf("the last pause is %v", last)
			}
			if got := w.logged(zap.ErrorLevel, "renewing token failed"); got != 1 {
				t.Errorf("%d lines in the log, want one", got)
			}
		})
	}
}

func TestFailureOfAnotherKindIsNews(t *testing.T) {
	playAuthorized(t, func(w *world) {
		time.Sleep(3 * time.Hour)
		for _, code := range []int{-1, 45009} {
			w.weixin.ClearFaults()
			w.weixin.Inject(sandbox.Fault{ErrCode: code})
			w.fails(shop, problem.ErrNoComponent)
			time.Sleep(2 * time.Minute)
		}
		if got := w.logged(zap.ErrorLevel, "renewing token failed"); got != 2 {
			t.Errorf("%d lines, want two", got)
		}
	})
}

func TestAuthorizedEventEndsTheCoolDownOfTheAuthorizer(t *testing.T) {
	play(t, func(w *world) {
		w.fails(shop, problem.ErrUnauthorized)
		w.authorize(theShop)
		w.token(shop)
	})
}

func TestFailureOfTheComponentIsNotTheAuthorizers(t *testing.T) {
	playAuthorized(t, func(w *world) {
		time.Sleep(3 * time.Hour)
		w.weixin.Inject(sandbox.Fault{Path: askComponentToken, ErrCode: -1})
		for range 60 {
			w.fails(shop, problem.ErrNoComponent)
			time.Sleep(10 * time.Second)
		}
		w.calls(askAuthorizerToken, 0)
		w.weixin.ClearFaults()
		w.must(w.weixin.PushTicket(w.Context()))
		w.token(shop)
	})
}

func TestFailureOfOneAuthorizerIsNotAnothers(t *testing.T) {
	playAuthorized(t, func(w *world) {
		const other = "wxbbbbbbbbbbbbbbbb"
		w.must(w.weixin.AddAccount(sandbox.Account{AppID: other}))
		w.authorize(other)
		time.Sleep(3 * time.Hour)
		w.token(platform)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: -1, Times: 1})
		w.fails(shop, problem.ErrRefused)
		w.token(subject.Of(theComponent, other))
	})
}
