// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// What happens to a platform and its accounts can be subscribed to.
func TestEventsAreEmitted(t *testing.T) {
	playAuthorized(t, func(w *world) {
		var mu sync.Mutex
		var emitted []string
		w.node.settings.Load().Emit = func(event string, data map[string]any) {
			mu.Lock()
			defer mu.Unlock()
			emitted = append(emitted, fmt.Sprint(event, data))
		}
		w.must(w.weixin.PushTicket(w.Context()))
		synctest.Wait()
		_, err := w.weixin.UpdateAuthorized(w.Context(), theShop)
		w.must(err)
		synctest.Wait()
		token := w.token(shop)
		w.weixin.KillTokens(theShop)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 45009, Times: 2})
		_, _ = w.node.Replace(w.Context(), shop, rejection(token))
		synctest.Wait()
		w.must(w.weixin.Revoke(w.Context(), theShop))
		synctest.Wait()
		want := []string{
			"wechat_ticket_receivedmap[component:wx134c8103faa5a59e]",
			"wechat_authorizedmap[authorizer:wxaaaaaaaaaaaaaaaa component:wx134c8103faa5a59e]",
			"wechat_renewal_failedmap[authorizer:wxaaaaaaaaaaaaaaaa component:wx134c8103faa5a59e reason:refused]",
			"wechat_unauthorizedmap[authorizer:wxaaaaaaaaaaaaaaaa component:wx134c8103faa5a59e]",
		}
		mu.Lock()
		defer mu.Unlock()
		if diff := cmp.Diff(want, emitted); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}
