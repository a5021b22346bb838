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
	// pollInterval is how often a queue is looked at when nothing has happened on
	// this node: for the events of a node that has crashed.
	pollInterval = 30 * time.Second
	// attemptTimeout bounds one attempt, in which the application may take its time.
	attemptTimeout = 10 * time.Second
	// storageTimeout bounds the storage operations around it.
	storageTimeout = 10 * time.Second
	// giveUpAfter is how old an event becomes before a failure buries it.
	giveUpAfter = 24 * time.Hour
	// minDelay is doubled with every failed attempt, up to maxDelay.
	minDelay = time.Second
	maxDelay = 10 * time.Minute
	// downAfter is how many failures in a row, of different accounts, say that
	// the client itself is down and not one event that it chokes on.
	downAfter = 3
)

// Settings is what a Courier takes from the configuration in force.
type Settings struct {
	Vault   *vault.Vault
	Log     *zap.Logger
	Targets map[vault.Queue]*Target
}

// Courier brings events to clients. What is queued survives crashes and is
// delivered at least once, by one node at a time: a receiver knows a repetition
// by its event_id. Of the events of one account that wait, the one with the
// earliest CreateTime goes first and the others wait for it; different accounts
// do not wait for each other. It is safe for concurrent use.
//
// The clock is time.Now.
type Courier struct {
	settings  func() Settings
	transport http.RoundTripper

	life context.Context // ends with Close; bounds deliveries in progress
	stop context.CancelFunc
	work sync.WaitGroup

	mu     sync.Mutex
	rounds map[vault.Queue]*round // of the queues that are served
}

// NewCourier returns a Courier that serves no queue yet. It asks settings
// whenever it needs them.
func NewCourier(transport http.RoundTripper, settings func() Settings) *Courier {
	c := &Courier{settings: settings, transport: transport, rounds: make(map[vault.Queue]*round)}
	c.life, c.stop = context.WithCancel(context.Background())
	return c
}

// Serve makes the queues of the targets in force the ones that are served from
// now on. Deliveries in progress are finished; a queue that is no longer served
// keeps its events.
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

// Close ends all deliveries and waits for that. An event whose delivery is cut
// off is delivered again.
func (c *Courier) Close() {
	c.Serve(nil)
	c.stop()
	c.work.Wait()
}

// Enqueue stores e for each of the clients. When it returns nil, they will get
// it, whatever happens to this node. It may be repeated after an error.
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

// DeadLetters returns the events for a client that were given up, oldest
// first, the newest thousand of them. One that does not open is there by its name
// and says so. It walks the storage, so it is for people.
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
		case errors.Is(err, vault.ErrNotFound): // removed since it was listed
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

func (c *Courier) wake(queue vault.Queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.rounds[queue]; r != nil {
		select {
		case r.wake <- struct{}{}:
		default: // a look is due already
		}
	}
}
