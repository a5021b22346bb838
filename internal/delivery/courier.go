// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// pollInterval is the longest time between two looks at a queue. An event
	// that this node has queued is delivered at once; this is for the events of
	// a node that has crashed.
	pollInterval = 30 * time.Second
	// attemptTimeout is the time for one attempt, with the work of the
	// application. It is longer than WeChat's five seconds, because nobody
	// waits for the answer.
	attemptTimeout = 10 * time.Second
	// storageTimeout is the time for the storage operations before an attempt,
	// and again for those after it.
	storageTimeout = 10 * time.Second
	// giveUpAfter is the age, since the event was queued, from which on a
	// failed attempt is the last one.
	giveUpAfter = 24 * time.Hour
	// minDelay is the delay after the first failed attempt. It is doubled after
	// each further one, up to maxDelay.
	minDelay = time.Second
	maxDelay = 10 * time.Minute
	// downAfter is the number of failures in a row, with events of different
	// accounts, after which a round ends. The client is down then. One failure
	// can have its reason in the event.
	downAfter = 3
)

// Settings is what a Courier takes from the current configuration. It must not
// be changed.
type Settings struct {
	Vault   *vault.Vault            // contains the queues
	Log     *zap.Logger             // gets the result of each attempt
	Targets map[vault.Queue]*Target // where the events of each queue are sent
}

// Courier delivers events to clients. An event in a queue survives crashes. It
// is delivered at least once, or becomes a dead letter. One node at a time
// delivers from a queue. A client may get an event several times, with the same
// event_id: for instance if a node crashes after a delivery, before it has
// deleted the event.
//
// All events of a queue are delivered one after the other. Those of one account
// that are in the queue are delivered in the order of CreateTime. While one
// fails, the later ones of the same account wait, but those of other accounts
// are delivered. Only if several fail in a row, see downAfter, all wait.
//
// A Courier is safe for concurrent use. The gateway has one, which survives
// reloads.
type Courier struct {
	settings  func() Settings
	transport http.RoundTripper

	life context.Context // ends with Close, and with it the deliveries in progress
	stop context.CancelFunc
	work sync.WaitGroup // the goroutines of the rounds

	mu     sync.Mutex             // guards rounds
	rounds map[vault.Queue]*round // one for each queue that is served
}

// NewCourier returns a Courier that serves no queue yet, see Serve. It calls
// settings again for each step, from several goroutines; the function must
// return the current settings and must not block. The transport must end a
// request when its context ends.
func NewCourier(transport http.RoundTripper, settings func() Settings) *Courier {
	c := &Courier{settings: settings, transport: transport, rounds: make(map[vault.Queue]*round)}
	c.life, c.stop = context.WithCancel(context.Background())
	return c
}

// Serve sets the queues that are served from now on: those that have an entry
// in targets. Where events are sent is taken from the settings and not from
// here, so the caller must have replaced the settings before. Serve does not
// wait: a delivery in progress is finished in the background. A queue that is
// no longer served keeps its events in the storage, for a later configuration
// with the same client.
func (c *Courier) Serve(targets map[vault.Queue]*Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for queue, r := range c.rounds {
		if targets[queue] == nil {
			r.stop()
			delete(c.rounds, queue)
		}
	}
	for queue := range targets {
		if c.rounds[queue] != nil {
			continue
		}
		ctx, stop := context.WithCancel(c.life)
		r := &round{courier: c, queue: queue, stop: stop, wake: make(chan struct{}, 1)}
		c.rounds[queue] = r
		c.work.Go(func() { r.run(ctx) })
	}
}

// Close ends all deliveries and waits until they have ended: as long as
// transport and storage need to return after their context has ended. An event
// whose delivery was interrupted stays in the queue and is delivered again
// later. Serve must not be called after Close.
func (c *Courier) Close() {
	c.Serve(nil)
	c.stop()
	c.work.Wait()
}

// Enqueue stores e in the queue of each of the clients. If it returns nil, the
// event survives a crash of this node, so the push may be acknowledged. After
// an error some queues may contain the event. The call may be repeated; an
// event with the same ID is not queued twice. Enqueue waits for two storage
// operations for each client, and not for a delivery. The events of a client
// that has no target stay in its queue.
func (c *Courier) Enqueue(ctx context.Context, e Event, clients []string) error {
	now := time.Now()
	for _, client := range clients {
		queue := vault.Queue{Component: e.Component, Client: client}
		key := vault.EventKey{Queue: queue, AppID: e.about(), ID: e.ID}
		if !e.CreateTime.IsZero() {
			key.CreateTime = uint32(e.CreateTime.Unix())
		}
		err := c.settings().Vault.Enqueue(ctx, vault.Event{
			EventKey: key, InfoType: e.InfoType, Body: e.Body, Queued: now, Due: now,
		})
		if err != nil {
			return fmt.Errorf("queueing event for client %s: %w", client, err)
		}
		c.wake(queue)
	}
	return nil
}

// DeadLetters returns the events of a queue that were given up, sorted by
// CreateTime. The vault keeps the newest thousand. Of one that does not open,
// only the fields in its storage key are known; Queued is then its CreateTime,
// and Failure says why it does not open. DeadLetters reads each dead letter
// from the storage, which may take seconds, so it is for operators.
func (c *Courier) DeadLetters(ctx context.Context, queue vault.Queue) ([]vault.Event, error) {
	v := c.settings().Vault
	keys, err := v.Events(ctx, queue, true)
	if err != nil {
		return nil, err
	}
	var letters []vault.Event
	for _, key := range keys {
		letter, err := v.LoadEvent(ctx, key)
		var unreadable *vault.Unreadable
		switch {
		case errors.Is(err, vault.ErrNotFound): // deleted after it was listed
		case errors.As(err, &unreadable):
			letters = append(letters, vault.Event{EventKey: key, Queued: time.Unix(int64(key.CreateTime), 0), Failure: err.Error()})
		case err != nil:
			return nil, err
		default:
			letters = append(letters, letter)
		}
	}
	return letters, nil
}

// wake makes the round of a queue look at it now, if the queue is served here.
// It does not block.
func (c *Courier) wake(queue vault.Queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.rounds[queue]; r != nil {
		select {
		case r.wake <- struct{}{}:
		default: // the round has not seen an earlier wake yet
		}
	}
}
