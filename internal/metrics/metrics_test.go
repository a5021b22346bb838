// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics/metricstest"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// Every reload registers anew, in a registry of its own or the same.
func TestMetricsGoOnThroughReloads(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for range 2 {
		if err := metrics.Register(registry); err != nil {
			t.Fatal(err)
		}
	}
	metrics.NewMeter("shop", nil).Call("relayed", time.Second)
	before := metricstest.Value(t, "caddy_wechat_calls_total", "shop", "relayed")
	if again := metricstest.Value(t, "caddy_wechat_calls_total", "shop", "relayed"); before == 0 || again != before {
		t.Errorf("a new registry counts %v, after %v", again, before)
	}
}

// What storage fails to do is counted; that a key is not there is its answer.
func TestStorageFailuresAreCounted(t *testing.T) {
	storage := new(vaulttest.Memory)
	metered := metrics.NewStorage(storage, zap.NewNop)
	count := func(operation string) float64 {
		return metricstest.Value(t, "caddy_wechat_storage_failures_total", operation)
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
