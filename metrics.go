// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// The metrics are one set for the process, so that they go on counting through
// reloads. None is labelled by authorizer, of which there may be a hundred
// thousand, and none by anything that a caller chooses.
var (
	callsTotal = counter("calls_total",
		"Calls of applications, by outcome: relayed, repeated (relayed once more with a renewed token), answered, or the slug of a refusal.", "outcome")
	renewalsTotal = counter("renewals_total",
		"Tokens renewed with WeChat, by kind (component, authorizer) and outcome: ok, or the slug of what callers were told.", "kind", "outcome")
	pushesTotal = counter("pushes_total",
		"Pushes of WeChat's, by type and outcome: acknowledged, refused (not WeChat's, or a wrong key), failed (WeChat pushes again).", "type", "outcome")
	storageFailuresTotal = counter("storage_failures_total",
		"Operations on Caddy's storage that failed, by operation; open: a record was read and does not open.", "operation")
	ticketReceived = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "caddy", Subsystem: "wechat", Name: "ticket_received_timestamp_seconds",
		Help: "When the component_verify_ticket in force was received. WeChat pushes one every 600 seconds.",
	}, []string{"component"})
	unstoredRecords = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "caddy", Subsystem: "wechat", Name: "unstored_records",
		Help: "Records with new tokens that storage has not taken yet; they are in memory alone.",
	})

	relayedCalls  = callsTotal.WithLabelValues("relayed")
	repeatedCalls = callsTotal.WithLabelValues("repeated")
	answeredCalls = callsTotal.WithLabelValues("answered")
)

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "caddy", Subsystem: "wechat", Name: name, Help: help}, labels)
}

// registerMetrics adds the metrics to the registry of one configuration.
func registerMetrics(registry *prometheus.Registry) error {
	for _, collector := range []prometheus.Collector{
		callsTotal, renewalsTotal, pushesTotal, storageFailuresTotal, ticketReceived, unstoredRecords,
	} {
		var known prometheus.AlreadyRegisteredError
		if err := registry.Register(collector); err != nil && !errors.As(err, &known) {
			return err
		}
	}
	return nil
}

// pushType is the label for an InfoType; what WeChat adds one day is "other".
func pushType(infoType string) string {
	switch infoType {
	case bizmsg.InfoTicket, bizmsg.InfoAuthorized, bizmsg.InfoUpdateAuthorized, bizmsg.InfoUnauthorized:
		return infoType
	}
	return "other"
}

func noteTicket(component string, received time.Time) {
	ticketReceived.WithLabelValues(component).Set(float64(received.UnixMilli()) / 1000)
}

// meteredStorage counts what fails and says so in the log, so that nobody else
// has to. That a key is not there is no failure, nor that somebody did not wait
// for a lock.
type meteredStorage struct {
	vault.Storage
	log  *zap.Logger
	said map[string]*rate.Sometimes // operation → when it is said that it fails
}

func newMeteredStorage(storage vault.Storage, log *zap.Logger) meteredStorage {
	s := meteredStorage{storage, log, make(map[string]*rate.Sometimes)}
	for _, operation := range []string{"lock", "unlock", "store", "load", "delete", "list"} {
		s.said[operation] = &rate.Sometimes{Interval: 10 * time.Minute}
	}
	return s
}

func (s meteredStorage) metered(operation string, err error) error {
	missing := errors.Is(err, fs.ErrNotExist) && operation != "unlock" // a lock that is not there was lost
	if err != nil && !missing && !errors.Is(err, context.Canceled) {
		storageFailuresTotal.WithLabelValues(operation).Inc()
		s.said[operation].Do(func() {
			s.log.Error("storage fails", zap.String("operation", operation), zap.Error(err),
				zap.String("remedy", "check Caddy's storage: meanwhile only tokens in memory are served, until they expire"))
		})
	}
	return err
}

func (s meteredStorage) Lock(ctx context.Context, name string) error {
	return s.metered("lock", s.Storage.Lock(ctx, name))
}

func (s meteredStorage) Unlock(ctx context.Context, name string) error {
	return s.metered("unlock", s.Storage.Unlock(ctx, name))
}

func (s meteredStorage) Store(ctx context.Context, key string, value []byte) error {
	return s.metered("store", s.Storage.Store(ctx, key, value))
}

func (s meteredStorage) Load(ctx context.Context, key string) ([]byte, error) {
	value, err := s.Storage.Load(ctx, key)
	return value, s.metered("load", err)
}

func (s meteredStorage) Delete(ctx context.Context, key string) error {
	return s.metered("delete", s.Storage.Delete(ctx, key))
}

func (s meteredStorage) List(ctx context.Context, path string, recursive bool) ([]string, error) {
	keys, err := s.Storage.List(ctx, path, recursive)
	return keys, s.metered("list", err)
}
