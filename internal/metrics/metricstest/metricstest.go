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
// of their names, or how many values a histogram has; 0 for one that was never counted.
func Value(t testing.TB, name string, labels ...string) (value float64) {
	t.Helper()
	each(t, name, func(of []string, v float64) {
		if slices.Equal(of, labels) {
			value = v
		}
	})
	return value
}

// Exists reports whether a metric with these label values is shown.
func Exists(t testing.TB, name string, labels ...string) (found bool) {
	t.Helper()
	each(t, name, func(of []string, _ float64) { found = found || slices.Equal(of, labels) })
	return found
}

// Sum returns the sum of the values of a metric, see Value, over all its labels.
func Sum(t testing.TB, name string) (sum float64) {
	t.Helper()
	each(t, name, func(_ []string, v float64) { sum += v })
	return sum
}

// each visits a metric with all its labels.
func each(t testing.TB, name string, visit func(labels []string, value float64)) {
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
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetValue())
			}
			visit(labels, metric.GetCounter().GetValue()+metric.GetGauge().GetValue()+float64(metric.GetHistogram().GetSampleCount()))
		}
	}
}
