// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"slices"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics/metricstest"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

const (
	callsTotal   = "caddy_wechat_calls_total"
	answersTotal = "caddy_wechat_answers_total"
)

// An alarm on the first of something, and a sum over all, need the zero before it. What
// can be counted is shown as soon as a client is known.
func TestKnownValuesAreShownFromTheStart(t *testing.T) {
	metrics.NewMeter("fresh", problem.Slugs())
	for _, outcome := range append(metrics.Outcomes(), problem.Slugs()...) {
		if !metricstest.Exists(t, callsTotal, "fresh", outcome) {
			t.Errorf("calls with the outcome %s are not shown", outcome)
		}
	}
	for _, errcode := range metrics.Answers() {
		if !metricstest.Exists(t, answersTotal, "fresh", errcode) {
			t.Errorf("answers with the errcode %s are not shown", errcode)
		}
	}
	if !metricstest.Exists(t, "caddy_wechat_call_duration_seconds", "fresh") || !metricstest.Exists(t, "caddy_wechat_upstream_duration_seconds") {
		t.Error("a duration is not shown")
	}
	for _, row := range [][]string{
		{"caddy_wechat_renewals_total", "authorizer", "needs_authorization"}, {"caddy_wechat_renewals_total", "component", "ok"},
		{"caddy_wechat_pushes_total", "refused", "any"}, {"caddy_wechat_pushes_total", "acknowledged", "component_verify_ticket"}, {"caddy_wechat_pushes_total", "misdirected", "message"},
		{"caddy_wechat_storage_failures_total", "store"}, {"caddy_wechat_storage_failures_total", "open"},
	} {
		if !metricstest.Exists(t, row[0], row[1:]...) {
			t.Errorf("%q is not shown", row)
		}
	}
}

// The labels of answers are a closed list, whatever comes.
func TestAnswersAreCountedByErrcode(t *testing.T) {
	m := metrics.NewMeter("asking", nil)
	for want, row := range map[string]struct{ errcode, status int }{
		"0": {0, 200}, "-1": {-1, 200}, "40001": {40001, 200}, "61007": {61007, 200}, "45009": {45009, 500},
		"other": {47001, 200}, "http_206": {0, 206}, "http_502": {0, 502}, "http_504": {0, 504}, "http_other": {0, 418},
	} {
		before := metricstest.Value(t, answersTotal, "asking", want)
		m.Answer(row.errcode, row.status)
		if n := metricstest.Value(t, answersTotal, "asking", want) - before; n != 1 {
			t.Errorf("errcode %d of status %d is counted %v times as %s", row.errcode, row.status, n, want)
		}
	}
	for _, errcode := range []int{-2, 1, 40002, 99999, 1 << 40} {
		m.Answer(errcode, 200)
	}
	for status := range 700 {
		m.Answer(0, status)
	}
	names := metrics.Answers()
	if slices.Sort(names); len(slices.Compact(names)) != len(metrics.Answers()) {
		t.Error("two labels are the same")
	}
}

// A client that is gone is not shown for ever; others stay.
func TestClientThatIsGoneIsNotShown(t *testing.T) {
	metrics.NewMeter("gone", problem.Slugs()).Call("relayed", time.Second)
	metrics.NewMeter("stays", problem.Slugs()).Call("relayed", time.Second)
	metrics.ForgetClient("gone")
	for _, name := range []string{callsTotal, answersTotal} {
		if metricstest.Exists(t, name, "gone", "relayed") || metricstest.Exists(t, name, "gone", "0") {
			t.Errorf("%s still shows it", name)
		}
	}
	if metricstest.Exists(t, "caddy_wechat_call_duration_seconds", "gone") || !metricstest.Exists(t, callsTotal, "stays", "relayed") {
		t.Error("the durations still show it, or another client is gone as well")
	}
}

// Nothing is found or allocated for a call: its counters were looked up before.
func TestCountingDoesNotAllocate(t *testing.T) {
	m := metrics.NewMeter("busy", problem.Slugs())
	n := testing.AllocsPerRun(100, func() {
		m.Call("relayed", time.Millisecond)
		m.Answer(0, 200)
		m.Answer(48001, 200)
		metrics.Upstream(time.Millisecond)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestVersionIsShown(t *testing.T) {
	metrics.BuildInfo("v1.2.3")
	if metricstest.Value(t, "caddy_wechat_build_info", "v1.2.3") != 1 {
		t.Error("the version is not shown")
	}
}
