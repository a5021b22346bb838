// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// NoClient is the label of calls that have no client, and of the calls that the gateway
// makes at WeChat for itself.
const NoClient = "none"

// What calls are counted by. Only a [Meter] adds to them, and each has looked up its
// own, so that a call pays for adding and not for finding.
var (
	calls = counter("calls_total",
		"Calls of applications, by client and outcome: relayed, repeated (relayed with a renewed token, after WeChat has rejected the one before), answered (by the gateway), client_gone (it did not wait), cut (the connection was broken off), or the slug of a refusal. Each call has one outcome.",
		"client", "outcome")
	answers = counter("answers_total",
		"WeChat's answers, by client and errcode: 0 for success, other for errcodes without a label of their own, http_<status> for other statuses than 200 without an errcode.",
		"client", "errcode")
	callDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "wechat", Name: "call_duration_seconds",
		Help: "How long calls of applications take, from their header to their end.", Buckets: durations(),
	}, []string{"client"})
	upstreamDuration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "wechat", Name: "upstream_duration_seconds",
		Help: "How long WeChat is waited for within these calls, to the last byte of its answer.", Buckets: durations(),
	})
)

// durations are the bounds of both histograms, in seconds, so that they can be compared.
func durations() []float64 {
	return []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
}

// Meter counts the calls of one client. It is safe for concurrent use.
type Meter struct {
	outcomes map[string]prometheus.Counter
	answers  [lastAnswer + 1]prometheus.Counter
	duration prometheus.Observer
}

// Outcomes are the outcomes of calls that are not refused. Others are the slugs of
// refusals.
func Outcomes() []string { return []string{"relayed", "repeated", "answered", "client_gone", "cut"} }

// NewMeter returns the meter of a client, [NoClient] for calls without one. All that it
// counts is shown from then on, as 0 at first. Two meters of one client count together.
func NewMeter(client string, slugs []string) *Meter {
	m := &Meter{outcomes: make(map[string]prometheus.Counter), duration: callDuration.WithLabelValues(client)}
	for _, outcome := range append(Outcomes(), slugs...) {
		m.outcomes[outcome] = calls.WithLabelValues(client, outcome)
	}
	for i, name := range Answers() {
		m.answers[i] = answers.WithLabelValues(client, name)
	}
	return m
}

// Call counts a call and how long it took. The outcome is one of Outcomes, or one of
// NewMeter's slugs.
func (m *Meter) Call(outcome string, took time.Duration) {
	m.duration.Observe(took.Seconds())
	m.outcomes[outcome].Inc()
}

// Answer counts an answer of WeChat, of that errcode, 0 for none, and HTTP status.
func (m *Meter) Answer(errcode, status int) { m.answers[answerOf(errcode, status)].Inc() }

// Upstream notes how long WeChat was waited for within a call.
func Upstream(took time.Duration) { upstreamDuration.Observe(took.Seconds()) }

// ForgetClient removes what is shown of a client that no configuration has any more. Its
// calls that are still under way are counted nowhere then.
func ForgetClient(name string) {
	of := prometheus.Labels{"client": name}
	calls.DeletePartialMatch(of)
	answers.DeletePartialMatch(of)
	callDuration.DeletePartialMatch(of)
}

// The errcodes and the HTTP statuses with a label of their own among answers: closed
// lists, because whatever stands before WeChat can answer with any number.
var (
	errcodes = [...]int{0, -1, 40001, 40003, 40013, 40164, 41001, 42001, 45009, 45011, 48001, 61003, 61004, 61007}
	statuses = [...]int{206, 301, 302, 304, 400, 403, 404, 413, 429, 500, 502, 503, 504}
)

// Where the labels of answers stand that are no errcode, see Answers.
const (
	otherErrcode = len(errcodes)
	firstStatus  = otherErrcode + 1
	lastAnswer   = firstStatus + len(statuses) // http_other
)

// Answers are the labels of answers.
func Answers() (names []string) {
	for _, errcode := range errcodes {
		names = append(names, strconv.Itoa(errcode))
	}
	names = append(names, "other")
	for _, status := range statuses {
		names = append(names, "http_"+strconv.Itoa(status))
	}
	return append(names, "http_other")
}

// answerOf returns where the label of an answer stands in Answers.
func answerOf(errcode, status int) int {
	switch {
	case errcode == 0 && status == http.StatusOK:
		return 0
	case errcode == 0:
		if at := slices.Index(statuses[:], status); at >= 0 {
			return firstStatus + at
		}
		return lastAnswer
	}
	if at := slices.Index(errcodes[:], errcode); at >= 0 {
		return at
	}
	return otherErrcode
}
