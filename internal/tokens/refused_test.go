// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Anybody may bring a code that he has made up, as often as he likes. WeChat is asked
// once.
func TestRefusedCodeIsNotAskedAboutAgain(t *testing.T) {
	play(t, func(w *world) {
		for range 5 {
			if _, err := w.node.Exchange(w.Context(), theComponent, secret.New("made up")); openapi.KindOf(err) != openapi.CodeSpent {
				t.Errorf("Exchange: %v", err)
			}
			time.Sleep(time.Minute)
		}
		w.calls(askQueryAuth, 1)
		if w.node.Exchanged(theComponent, secret.New("made up")) {
			t.Error("a code that was refused counts as exchanged")
		}
	})
}

// A refusal that WeChat takes back: with the event it is known that nobody has made
// the code up, and it is tried again.
func TestRefusedCodeThatIsAnnouncedLater(t *testing.T) {
	play(t, func(w *world) {
		w.weixin.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
		code := secret.New(w.authorize(theShop))
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, ErrCode: 61010, Times: 1})
		if _, err := w.node.Exchange(w.Context(), theComponent, code); openapi.KindOf(err) != openapi.CodeSpent {
			t.Errorf("Exchange: %v", err)
		}
		w.must(w.weixin.PushAuthorized(w.Context(), theShop))
		synctest.Wait()
		if appid, err := w.node.Exchange(w.Context(), theComponent, code); appid != theShop || err != nil {
			t.Errorf("Exchange: %q, %v", appid, err)
		}
		w.isStored(w.token(shop))
		w.calls(askQueryAuth, 2)
		if !w.node.Exchanged(theComponent, code) {
			t.Error("the code does not count as exchanged")
		}
	})
}

// A flood of codes does not take all memory, and does not make the ones before
// forgotten.
func TestRefusedCodesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, refusal := newCodes(), errors.New("refused")
		for i := range 2 * maxRefusedCodes {
			c.MarkRefused(fmt.Sprint(i), refusal)
		}
		if len(c.refused) != maxRefusedCodes || c.Refused("0") == nil || c.Refused(fmt.Sprint(2*maxRefusedCodes-1)) != nil {
			t.Errorf("%d codes are remembered", len(c.refused))
		}
		time.Sleep(codeLifetime + 1)
		c.MarkRefused("another", refusal)
		if len(c.refused) != 1 || c.Refused("0") != nil || c.Refused("another") == nil {
			t.Errorf("%d codes are remembered when the others are old", len(c.refused))
		}
	})
}
