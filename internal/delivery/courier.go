// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// pollInterval is the longest time between two looks at a queue. An item that
	// this node has queued is delivered at once; this is for those of other nodes.
	pollInterval = 30 * time.Second
	// storageTimeout is the time for the storage operations before an attempt,
	// and again for those after it.
	storageTimeout = 10 * time.Second
)

// Settings is what a Courier takes from the current configuration. It must not
// be changed.
type Settings struct {
	Vault      *vault.Vault            // contains the queues
	Log        *zap.Logger             // gets the result of each attempt
	Targets    map[vault.Queue]*Target // where the items of each queue are sent
	Components []string                // all component_appids, also those without a target
}

// Courier delivers the items in the queues to the targets. An item in a queue
// survives crashes. It is delivered at least once, or becomes a dead letter. One
// node at a time delivers from a queue. A target may get an item several times,
// with the same ID: for instance if a node crashes after a delivery, before it has
// deleted the item.
//
// The items of one account are delivered one after the other, in the order of
// their arrival. While one fails, the later ones of the same account wait, but
// those of other accounts are delivered. Only if several attempts fail in a row,
// see downAfter, all wait but one.
//
// A Courier is safe for concurrent use. The gateway has one, which survives
// reloads.
type Courier struct {
	settings func() Settings
	send     func(context.Context, *Target, Item) Result // Target.Send; tests set another

	life context.Context // ends with Close, and with it the deliveries in progress
	stop context.CancelFunc
	work sync.WaitGroup // the goroutines of queues and keepers

	arrival atomic.Int64 // what Arrival has returned last, in Unix microseconds

	mu      sync.Mutex               // guards all below
	queues  map[vault.Queue]*queue   // those that are served
	health  map[vault.Queue]*health  // those that are served, and others with a direct attempt
	adopted map[vault.Queue]*adopter // one for each client that has targets, by its flat queue
}

// NewCourier returns a Courier that serves no queue yet, see Serve. It calls
// settings again for each step, from several goroutines; the function must
// return the current settings and must not block.
func NewCourier(settings func() Settings) *Courier {
	c := &Courier{
		settings: settings, send: func(ctx context.Context, t *Target, item Item) Result { return t.Send(ctx, item) },
		queues: make(map[vault.Queue]*queue), health: make(map[vault.Queue]*health), adopted: make(map[vault.Queue]*adopter),
	}
	c.life, c.stop = context.WithCancel(context.Background())
	return c
}

// Serve sets the queues that are served from now on: those that have an entry
// in targets. Where items are sent is taken from the settings and not from here,
// so the caller must have replaced the settings before. Serve does not wait: a
// delivery in progress is finished in the background. A queue that is no longer
// served keeps its items in the storage: the first target of the same client takes
// them over, else they stay for a later configuration.
func (c *Courier) Serve(targets map[vault.Queue]*Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, q := range c.queues {
		if targets[name] == nil {
			q.end()
			delete(c.queues, name)
		}
	}
	for name, h := range c.health {
		if targets[name] == nil && !h.busy() {
			delete(c.health, name)
		}
	}
	for name := range targets {
		q := c.queues[name]
		if q == nil {
			q = newQueue(c, name, c.healthOf(name))
			c.queues[name] = q
		}
		q.poke() // its target may have another URL
	}
	c.adopt(targets)
}

// Close ends all deliveries and waits until they have ended: as long as
// transport and storage need to return after their context has ended. An item
// whose delivery was interrupted stays in the queue and is delivered again
// later. Serve must not be called after Close.
func (c *Courier) Close() {
	c.Serve(nil)
	c.stop()
	c.work.Wait()
}

// Begin reports whether a new message may be tried directly; then Ended must be
// called with the result. Otherwise it must be queued at once: the target gets
// nothing because it has answered 410, or the last attempts have hung and one is
// running, or too many are.
func (c *Courier) Begin(t *Target) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.healthOf(t.Queue()).begin(t)
}

// Ended notes the result of a direct attempt. If it was taken and the target was
// down, what waits in the queue for that is due at once.
func (c *Courier) Ended(t *Target, r Result) {
	c.mu.Lock()
	h, q := c.healthOf(t.Queue()), c.queues[t.Queue()]
	c.mu.Unlock()
	h.ended()
	note(h, q, t, r, nil, c.settings().Log)
}

// silence returns how long the target has taken nothing, although it is being tried.
func (c *Courier) silence(t *Target) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.healthOf(t.Queue()).silence()
}

// healthOf returns what is known about a target. The caller holds mu.
func (c *Courier) healthOf(name vault.Queue) *health {
	if c.health[name] == nil {
		c.health[name] = new(health)
	}
	return c.health[name]
}

// queue returns the queue with this name, nil if it is not served.
func (c *Courier) queue(name vault.Queue) *queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queues[name]
}

// Figures is how it is with one queue, as this node knows it.
type Figures struct {
	metrics.Queue
	Paused bool // its target gets nothing, because it has answered 410
}

// Figures returns the figures of each queue that is served. It does not ask the storage.
func (c *Courier) Figures() map[vault.Queue]Figures {
	targets := c.settings().Targets
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[vault.Queue]Figures, len(c.queues))
	for name, q := range c.queues {
		target := targets[name]
		all[name] = Figures{Queue: q.figures(), Paused: target != nil && q.health.isPaused(target)}
	}
	return all
}

func (q *queue) figures() metrics.Queue {
	waiting, oldest := q.index.size()
	return metrics.Queue{Waiting: waiting, Oldest: oldest, Dead: int(q.dead.Load())}
}

// watch shows the figures of a queue to Prometheus until forget is called.
func (q *queue) watch() (forget func()) {
	return metrics.WatchQueue(q.name.Client, q.name.Target, q.figures)
}
