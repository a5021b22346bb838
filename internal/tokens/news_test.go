// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// What reaches one node is in force on all within 15 seconds, where WeChat does
// not see to it sooner.

// follow lets nodes follow the news, as running gateways do.
func (w *world) follow(nodes ...*node) {
	for _, n := range nodes {
		n.background(func() { n.notices.follow(w.Context()) })
	}
}

func TestWithdrawalReachesEveryNode(t *testing.T) {
	playAuthorized(t, func(w *world) {
		other, third := w.start(), w.start()
		w.follow(w.node, other, third)
		w.tokenFrom(other, shop)
		w.tokenFrom(third, shop)
		w.must(w.weixin.Revoke(w.Context(), theShop))
		time.Sleep(noticeInterval)
		synctest.Wait()
		for _, n := range []*node{other, third} {
			if _, err := n.Current(w.Context(), shop, theClient); !errors.Is(err, problem.ErrUnauthorized) {
				t.Errorf("Current: %v", err)
			}
		}
		w.silent() // nobody had to ask WeChat
	})
}

// Where the time of a push is up before the others are told, they are told behind.
func TestOthersAreToldAfterTheTimeIsUp(t *testing.T) {
	playAuthorized(t, func(w *world) {
		other := w.start()
		other.notices.poll(w.Context(), theComponent) // that the account has authorized
		w.tokenFrom(other, shop)
		over, cancel := context.WithCancel(w.Context())
		cancel()
		w.node.notices.publish(over, shop, newID())
		synctest.Wait()
		other.notices.poll(w.Context(), theComponent)
		if other.memory.Get(shop) != nil {
			t.Error("the other node has heard nothing")
		}
	})
}

// Nodes that have been refused for want of an authorization do not wait until
// their cool-down ends.
func TestAuthorizationReachesEveryNode(t *testing.T) {
	playAuthorized(t, func(w *world) {
		other := w.start()
		w.follow(w.node, other)
		w.must(w.weixin.Revoke(w.Context(), theShop))
		time.Sleep(noticeInterval)
		synctest.Wait()
		if _, err := other.Current(w.Context(), shop, theClient); !errors.Is(err, problem.ErrUnauthorized) {
			t.Fatalf("Current: %v", err)
		}
		w.authorize(theShop)
		time.Sleep(noticeInterval)
		synctest.Wait()
		w.isValid(w.tokenFrom(other, shop), shop)
	})
}

// The event comes to one node, the browser to another, and the code is spent
// when it arrives there.
func TestCodeOfAnotherNodesEvent(t *testing.T) {
	play(t, func(w *world) {
		other := w.start()
		code := secret.New(w.authorize(theShop))
		w.token(shop)
		appid, err := other.Exchange(w.Context(), theComponent, code)
		if err != nil || appid != theShop {
			t.Errorf("the other node says %q, %v", appid, err)
		}
		w.calls(askAuthorizerInfo, 0)
	})
}

// The browser comes first, and the event to a node that knows nothing of it.
func TestEventOfAnotherNodesCode(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
		other := w.start()
		code, err := w.weixin.Authorize(w.Context(), theShop)
		w.must(err)
		_, err = other.Exchange(w.Context(), theComponent, secret.New(code))
		w.must(err)
		w.must(w.weixin.PushAuthorized(w.Context(), theShop))
		synctest.Wait()
		w.isValid(w.token(shop), shop)
		w.isValid(w.tokenFrom(other, shop), shop)
	})
}

// A code that nobody has announced stays refused, whatever other news there is.
func TestCodeOfNobodysEvent(t *testing.T) {
	playAuthorized(t, func(w *world) {
		if appid, err := w.start().Exchange(w.Context(), theComponent, secret.New("made up")); err == nil {
			t.Errorf("taken for a code of %s", appid)
		}
	})
}

// News are forgotten an hour after they were heard, by a node's own clock.
func TestNewsAreForgotten(t *testing.T) {
	playAuthorized(t, func(w *world) {
		other := w.start()
		w.follow(other)
		stored := func() (n int) {
			for name := range w.storage.Files() {
				if strings.Contains(name, "/news/") {
					n++
				}
			}
			return n
		}
		time.Sleep(noticeLifetime)
		synctest.Wait()
		if n := stored(); n != 1 {
			t.Errorf("after an hour less some seconds %d news are stored, want 1", n)
		}
		time.Sleep(2 * noticeInterval)
		synctest.Wait()
		if n := stored(); n != 0 {
			t.Errorf("%d news are stored for ever", n)
		}
		if n := len(other.notices.seen); n != 0 {
			t.Errorf("%d news are remembered for ever", n)
		}
	})
}

// A storage that fails costs no push and no exchange: others hear late.
func TestNewsThatCannotBeTold(t *testing.T) {
	play(t, func(w *world) {
		w.storage.Intercept(func(_ context.Context, _ vaulttest.Op, key string) error {
			if strings.Contains(key, "/news/") {
				return errors.New("storage fails")
			}
			return nil
		})
		w.authorize(theShop)
		w.isValid(w.token(shop), shop)
		w.must(w.weixin.Revoke(w.Context(), theShop))
		w.fails(shop, problem.ErrUnauthorized)
	})
}
