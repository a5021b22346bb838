// SPDX-License-Identifier: Apache-2.0

// Package metrics holds what the gateway counts for Prometheus. The metrics are
// one set for the process, so that they go on counting through reloads. None is
// labelled by authorizer, of which there may be a hundred thousand, and none by
// anything that a caller chooses. All of it is safe for concurrent use.
package metrics

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
)

// The labels of each metric, in their order, are the last arguments here.
var (
	// Renewals counts tokens, whoever wanted them.
	Renewals = counter("renewals_total",
		"Tokens renewed with WeChat, by kind (component, authorizer) and outcome: ok, or the slug of what callers were told.", "kind", "outcome")
	// Pushes counts what was sent to the two URLs for WeChat's pushes.
	Pushes = counter("pushes_total",
		"Pushes of WeChat's, by type and outcome: acknowledged, refused (not WeChat's, or a wrong key), failed (WeChat pushes again), hung_up (WeChat has not waited for the answer to a message, and pushes again), misdirected (a message of another account than that in the path, delivered to nobody).", "type", "outcome")
	// StorageFailures is counted by [Storage]; whoever finds that a record does
	// not open counts that himself.
	StorageFailures = counter("storage_failures_total",
		"Operations on Caddy's storage that failed, by operation; open: a record was read and does not open.", "operation")
	ticketReceived = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "caddy", Subsystem: "wechat", Name: "ticket_received_timestamp_seconds",
		Help: "When the component_verify_ticket in force was received. WeChat pushes one every 600 seconds.",
	}, []string{"component"})
	// UnstoredRecords is 0 while storage works.
	UnstoredRecords = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "caddy", Subsystem: "wechat", Name: "unstored_records",
		Help: "Records with new tokens that storage has not taken yet; they are in memory alone.",
	})
)

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "caddy", Subsystem: "wechat", Name: name, Help: help}, labels)
}

// renewalOutcomes are what an attempt to renew can end with: ok, or the slug of a problem.
var renewalOutcomes = [...]string{
	"ok", "no_ticket", "component_token", "refused", "not_authorized", "needs_authorization", "rationed", "storage", "timeout", "unreachable",
}

// showKnown shows what was not counted yet as 0: an alarm on the first failure needs the
// value before it.
func showKnown() {
	for _, outcome := range renewalOutcomes {
		Renewals.WithLabelValues("component", outcome)
		Renewals.WithLabelValues("authorizer", outcome)
	}
	for _, infoType := range []string{bizmsg.InfoTicket, bizmsg.InfoAuthorized, bizmsg.InfoUpdateAuthorized, bizmsg.InfoUnauthorized, "other"} {
		Pushes.WithLabelValues(infoType, "acknowledged")
	}
	for _, outcome := range []string{"acknowledged", "hung_up", "misdirected"} {
		Pushes.WithLabelValues("message", outcome)
	}
	for _, outcome := range []string{"refused", "failed"} {
		Pushes.WithLabelValues("any", outcome)
	}
	for _, operation := range append(operations(), "open") {
		StorageFailures.WithLabelValues(operation)
	}
}

// Register adds the metrics to the registry of one configuration, with all values of
// their labels that are known. It may be called with the same registry again.
func Register(registry prometheus.Registerer) error {
	showKnown()
	for _, collector := range []prometheus.Collector{
		calls, answers, callDuration, upstreamDuration, buildInfo, Renewals, Pushes, StorageFailures, ticketReceived, componentExpires, UnstoredRecords, accounts, deliveries, queues,
	} {
		var known prometheus.AlreadyRegisteredError
		if err := registry.Register(collector); err != nil && !errors.As(err, &known) {
			return err
		}
	}
	return nil
}

// PushType is the label of Pushes for an InfoType; what WeChat adds one day is "other".
func PushType(infoType string) string {
	switch infoType {
	case bizmsg.InfoTicket, bizmsg.InfoAuthorized, bizmsg.InfoUpdateAuthorized, bizmsg.InfoUnauthorized:
		return infoType
	}
	return "other"
}

// TicketReceived notes when the ticket in force of a component was received, by
// this node or another.
func TicketReceived(component string, received time.Time) {
	ticketReceived.WithLabelValues(component).Set(float64(received.UnixMilli()) / 1000)
}
