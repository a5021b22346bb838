// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The outcomes of Delivered.
const (
	Taken   = "taken"   // by a target, directly or from its queue
	Queued  = "queued"  // stored for a later attempt
	Dead    = "dead"    // given up, or more than may wait
	Dropped = "dropped" // a dead letter was deleted, because it was too old or one too many
)

// deliveries counts what happens to items on their way to a target.
var deliveries = counter("deliveries_total",
	"Deliveries to applications, by client, target, kind (message, event, own: news of the gateway's own) and outcome: taken, queued, dead, dropped. One item may be counted with several outcomes.",
	"client", "target", "kind", "outcome")

// Delivered counts an outcome for one item.
func Delivered(client, target, kind, outcome string) {
	deliveries.WithLabelValues(client, target, kind, outcome).Inc()
}

// Queue is what is shown of one queue.
type Queue struct {
	Waiting int       // items that wait
	Oldest  time.Time // when the first of them arrived; zero if none waits
	Dead    int       // dead letters
}

// WatchQueue shows a queue, and all outcomes of its deliveries from 0 on, until
// forget is called. read is called at each scrape, from any goroutine, and must not
// block. If the same queue is watched twice, the last one is shown.
func WatchQueue(client, target string, read func() Queue) (forget func()) {
	for _, kind := range []string{"message", "event", "own"} {
		for _, outcome := range []string{Taken, Queued, Dead, Dropped} {
			deliveries.WithLabelValues(client, target, kind, outcome)
		}
	}
	return queues.watch([2]string{client, target}, read)
}

// queues reads the queues at each scrape, so that the age of the oldest item is
// right.
var queues = &queueCollector{
	waiting: queueGauge("events_waiting", "Messages and events that wait for delivery, as far as this node knows."),
	oldest:  queueGauge("event_oldest_seconds", "How long the oldest of them has been waiting, 0 if none does."),
	dead:    queueGauge("events_dead", "Messages and events that were given up, as far as this node knows."),
	watched: make(map[[2]string]*func() Queue),
}

func queueGauge(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("caddy", "wechat", name), help, []string{"client", "target"}, nil)
}

type queueCollector struct {
	waiting, oldest, dead *prometheus.Desc

	mu      sync.Mutex
	watched map[[2]string]*func() Queue // by client and target
}

func (c *queueCollector) watch(name [2]string, read func() Queue) (forget func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	mine := &read
	c.watched[name] = mine
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.watched[name] == mine {
			delete(c.watched, name)
			deliveries.DeletePartialMatch(prometheus.Labels{"client": name[0], "target": name[1]})
		}
	}
}

// Describe implements prometheus.Collector.
func (c *queueCollector) Describe(to chan<- *prometheus.Desc) {
	to <- c.waiting
	to <- c.oldest
	to <- c.dead
}

// Collect implements prometheus.Collector.
func (c *queueCollector) Collect(to chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, read := range c.watched {
		q, age := (*read)(), 0.0
		if !q.Oldest.IsZero() {
			age = max(0, time.Since(q.Oldest).Seconds())
		}
		for desc, value := range map[*prometheus.Desc]float64{c.waiting: float64(q.Waiting), c.oldest: age, c.dead: float64(q.Dead)} {
			to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, name[0], name[1])
		}
	}
}

var _ prometheus.Collector = (*queueCollector)(nil)
