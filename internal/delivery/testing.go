// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// infoTypeTest is the InfoType of what Test sends.
const infoTypeTest = "gateway_test"

// Test sends a message that says it is a test to one target, or to all targets of a
// client if target is "", at once. Nothing is queued. It returns how many have taken
// it, and for the others an error that says which and what they have answered. One
// that takes it is no longer paused. If there is no such target, the error is
// ErrNoTarget. It waits as long as an attempt from the queue may take.
func (c *Courier) Test(ctx context.Context, client, target string) (int, error) {
	var targets []*Target
	for name, t := range c.settings().Targets {
		if name.Client == client && (target == "" || name.Target == target) {
			targets = append(targets, t)
		}
	}
	if len(targets) == 0 {
		return 0, ErrNoTarget
	}
	slices.SortFunc(targets, func(a, b *Target) int {
		return cmp.Or(cmp.Compare(a.Place, b.Place), a.Queue().Compare(b.Queue()))
	})
	failures := make([]error, len(targets))
	var all sync.WaitGroup
	for i, t := range targets {
		all.Go(func() { failures[i] = c.test(ctx, t) })
	}
	all.Wait()
	taken := len(slices.DeleteFunc(slices.Clone(failures), func(err error) bool { return err != nil }))
	return taken, errors.Join(failures...)
}

// test sends a test to one target.
func (c *Courier) test(ctx context.Context, t *Target) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout())
	defer cancel()
	result := c.send(ctx, t, newTestItem(t.Component, c.Arrival()))
	if result.Err != nil {
		return fmt.Errorf("client %s, target %s: %w", t.Client, t.Name, result.Err)
	}
	if q := c.queue(t.Queue()); q != nil {
		q.health.resume()
		note(q.health, q, t, result, nil, c.settings().Log)
		q.poke()
	}
	return nil
}

// newTestItem returns an item in the form of an authorisation event.
func newTestItem(component string, now time.Time) Item {
	return Item{
		Kind: KindOwn, Component: component, AppID: component, ID: newID(), InfoType: infoTypeTest, Arrived: now,
		Body: fmt.Appendf(nil, "<xml><AppId>%s</AppId><CreateTime>%d</CreateTime><InfoType>%s</InfoType>"+
			"<Description>This is a test of the gateway. It is about no account and needs no action.</Description></xml>",
			component, now.Unix(), infoTypeTest),
	}
}

// newID returns the id of an item that comes once.
func newID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // it never fails
	return hex.EncodeToString(id)
}
