// SPDX-License-Identifier: Apache-2.0

// Package metricstest reads metrics as Prometheus would.
package metricstest

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
)

// Value returns the value of a counter or gauge with these label values, in the order
// of their names; 0 for one that was never counted.
func Value(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	value, _ := find(t, name, labels)
	return value
}

// Exists reports whether a counter or gauge with these label values is shown.
func Exists(t testing.TB, name string, labels ...string) bool {
	t.Helper()
	_, found := find(t, name, labels)
	return found
}

func find(t testing.TB, name string, labels []string) (value float64, found bool) {
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
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue(), true
			}
		}
	}
	return 0, false
}
