// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"math"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Accounts is how many accounts of a component there are of each state, as far as this
// node knows.
type Accounts struct {
	Component                                             string
	Authorized, Unauthorized, NeedsAuthorization, Failing int
	Counted                                               bool // false: the number of those that are authorized is not known yet
}

// WatchAccounts shows the accounts of all components until forget is called. read is called
// at each scrape, from any goroutine, and must not block. If they are watched twice, the
// last one is shown.
func WatchAccounts(read func() []Accounts) (forget func()) { return accounts.watch(read) }

// accounts reads the counts at each scrape. A number that is not known yet is NaN: 0 would
// say that all accounts are gone.
var accounts = &accountCollector{desc: prometheus.NewDesc("caddy_wechat_accounts",
	"Accounts, by component and state: authorized, unauthorized, needs_authorization, failing. NaN until they have been counted.", []string{"component", "state"}, nil)}

type accountCollector struct {
	desc *prometheus.Desc

	mu   sync.Mutex
	read *func() []Accounts // nil if nobody watches
}

func (c *accountCollector) watch(read func() []Accounts) (forget func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	mine := &read
	c.read = mine
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.read == mine {
			c.read = nil
		}
	}
}

// Describe implements prometheus.Collector.
func (c *accountCollector) Describe(to chan<- *prometheus.Desc) { to <- c.desc }

// Collect implements prometheus.Collector.
func (c *accountCollector) Collect(to chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read == nil {
		return
	}
	for _, of := range (*c.read)() {
		authorized := math.NaN()
		if of.Counted {
			authorized = float64(of.Authorized)
		}
		for state, value := range map[string]float64{
			"authorized": authorized, "unauthorized": float64(of.Unauthorized),
			"needs_authorization": float64(of.NeedsAuthorization), "failing": float64(of.Failing),
		} {
			to <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, value, of.Component, state)
		}
	}
}

var _ prometheus.Collector = (*accountCollector)(nil)
