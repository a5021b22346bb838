// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics/metricstest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

func TestRenewalsAreCounted(t *testing.T) {
	playAuthorized(t, func(w *world) {
		ok := metricstest.Value(t, "caddy_wechat_renewals_total", "authorizer", "ok")
		refused := metricstest.Value(t, "caddy_wechat_renewals_total", "authorizer", "refused")
		token := w.token(shop)
		w.weixin.KillTokens(theShop)
		if _, err := w.node.Replace(w.Context(), shop, rejection(token)); err != nil {
			t.Fatal(err)
		}
		if n := metricstest.Value(t, "caddy_wechat_renewals_total", "authorizer", "ok") - ok; n != 1 {
			t.Errorf("%v renewals counted, want 1", n)
		}
		w.weixin.KillTokens(theShop)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 45009, Times: 1})
		if _, err := w.node.Replace(w.Context(), shop, rejection(w.node.memory.Get(shop))); err == nil {
			t.Fatal("renewed")
		}
		if n := metricstest.Value(t, "caddy_wechat_renewals_total", "authorizer", "refused") - refused; n != 1 {
			t.Errorf("%v refusals counted, want 1", n)
		}
		if metricstest.Value(t, "caddy_wechat_ticket_received_timestamp_seconds", theComponent) == 0 {
			t.Error("no ticket is shown")
		}
	})
}
