// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
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

// Prometheus sees the token of a component whoever has renewed it, and 0 where there is
// nothing; of a component that is no longer configured it sees nothing.
func TestComponentsAreMeasured(t *testing.T) {
	const expires, received = "caddy_wechat_component_token_expires_timestamp_seconds", "caddy_wechat_ticket_received_timestamp_seconds"
	playEmpty(t, func(w *world) {
		w.deaf.Store(true)
		w.watch(w.node)
		for _, name := range []string{expires, received} {
			if got := metricstest.Value(t, name, theComponent); got != 0 || !metricstest.Exists(t, name, theComponent) {
				t.Errorf("%s is %v", name, got)
			}
		}
		w.deaf.Store(false)
		w.must(w.weixin.PushTicket(w.Context()))
		token := w.tokenFrom(w.start(), platform)
		for _, when := range []string{"at once, for the node that has renewed it", "a minute later, for the others"} {
			if got := metricstest.Value(t, expires, theComponent); got != float64(token.Expires.UnixMilli())/1000 {
				t.Errorf("%s: %s is %v, want %v", when, expires, got, token.Expires.Unix())
			}
			metrics.ComponentToken(theComponent, time.Time{}) // as a node shows it that has not renewed it
			time.Sleep(watchInterval)
			synctest.Wait()
		}
		without := *w.node.settings.Load()
		without.Components = maps.Clone(without.Components)
		delete(without.Components, theComponent)
		w.node.settings.Store(&without)
		time.Sleep(watchInterval)
		synctest.Wait()
		if metricstest.Exists(t, expires, theComponent) || metricstest.Exists(t, received, theComponent) {
			t.Error("a component that is gone is still shown")
		}
	})
}
