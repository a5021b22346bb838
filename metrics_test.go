// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// counted returns the value of a counter with these label values, in the order
// of their names.
func counted(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := metrics.Register(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var values []string
			for _, label := range metric.GetLabel() {
				values = append(values, label.GetValue())
			}
			if family.GetName() == name && slices.Equal(values, labels) {
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// Every reload registers anew, in a registry of its own or the same.
func TestMetricsGoOnThroughReloads(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for range 2 {
		if err := metrics.Register(registry); err != nil {
			t.Fatal(err)
		}
	}
	metrics.RelayedCalls.Inc()
	before := counted(t, "caddy_wechat_calls_total", "relayed")
	if again := counted(t, "caddy_wechat_calls_total", "relayed"); before == 0 || again != before {
		t.Errorf("a new registry counts %v, after %v", again, before)
	}
}

func TestRenewalsAreCounted(t *testing.T) {
	playAuthorized(t, func(w *world) {
		ok := counted(t, "caddy_wechat_renewals_total", "authorizer", "ok")
		refused := counted(t, "caddy_wechat_renewals_total", "authorizer", "refused")
		token := w.token(shop)
		w.weixin.KillTokens(theShop)
		if _, err := w.node.After(w.Context(), shop, token); err != nil {
			t.Fatal(err)
		}
		if n := counted(t, "caddy_wechat_renewals_total", "authorizer", "ok") - ok; n != 1 {
			t.Errorf("%v renewals counted, want 1", n)
		}
		w.weixin.KillTokens(theShop)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 45009, Times: 1})
		if _, err := w.node.After(w.Context(), shop, w.node.cache.get(shop)); err == nil {
			t.Fatal("renewed")
		}
		if n := counted(t, "caddy_wechat_renewals_total", "authorizer", "refused") - refused; n != 1 {
			t.Errorf("%v refusals counted, want 1", n)
		}
		if counted(t, "caddy_wechat_ticket_received_timestamp_seconds", theComponent) == 0 {
			t.Error("no ticket is shown")
		}
	})
}

// What storage fails to do is counted; that a key is not there is its answer.
func TestStorageFailuresAreCounted(t *testing.T) {
	storage := new(vaulttest.Memory)
	metered := metrics.NewStorage(storage, zap.NewNop())
	count := func(operation string) float64 {
		return counted(t, "caddy_wechat_storage_failures_total", operation)
	}
	before := count("load")
	if _, err := metered.Load(t.Context(), "nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if n := count("load") - before; n != 0 {
		t.Errorf("a key that is not there counts as %v failures", n)
	}
	storage.Intercept(func(context.Context, vaulttest.Op, string) error { return errors.New("storage fails") })
	calls := map[string]func() error{
		"lock":   func() error { return metered.Lock(t.Context(), "x") },
		"unlock": func() error { return metered.Unlock(t.Context(), "x") },
		"store":  func() error { return metered.Store(t.Context(), "x", nil) },
		"load":   func() error { _, err := metered.Load(t.Context(), "x"); return err },
		"delete": func() error { return metered.Delete(t.Context(), "x") },
		"list":   func() error { _, err := metered.List(t.Context(), "x", true); return err },
	}
	for operation, call := range calls {
		before := count(operation)
		if call() == nil {
			t.Fatalf("%s does not fail", operation)
		}
		if n := count(operation) - before; n != 1 {
			t.Errorf("%v failures of %s, want 1", n, operation)
		}
	}
}
