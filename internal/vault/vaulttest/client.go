// SPDX-License-Identifier: Apache-2.0

package vaulttest

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// Client is one client of a Memory, as each configuration has its own client of
// the same Redis. It is as strict as a real one may be: after Close it refuses
// everything, what is in progress then fails, and it releases no lock but those
// that it has taken itself. It is safe for concurrent use.
type Client struct {
	memory *Memory
	life   context.Context // ends with Close
	close  context.CancelFunc

	mu      sync.Mutex // guards all below
	locks   map[string]bool
	refused []string
}

// errClosed is like that of a Redis client.
var errClosed = errors.New("client is closed")

// NewClient returns a client of m.
func (m *Memory) NewClient() *Client {
	c := &Client{memory: m, locks: make(map[string]bool)}
	c.life, c.close = context.WithCancel(context.Background())
	return c
}

// Close closes the client, as Caddy does when it cleans up the configuration.
func (c *Client) Close() { c.close() }

// Refused returns the operations that began after Close.
func (c *Client) Refused() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.refused)
}

// do makes an operation, which fails when the client is closed meanwhile.
func (c *Client) do(ctx context.Context, op Op, name string, operation func(ctx context.Context) error) error {
	if c.life.Err() != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.refused = append(c.refused, string(op)+" "+name)
		return errClosed
	}
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	err := operation(within)
	if err != nil && ctx.Err() == nil && c.life.Err() != nil {
		return errClosed
	}
	return err
}

// Lock is that of the Memory.
func (c *Client) Lock(ctx context.Context, name string) error {
	return c.do(ctx, Lock, name, func(ctx context.Context) error {
		err := c.memory.Lock(ctx, name)
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.locks[name] = true
		}
		return err
	})
}

// Unlock releases a lock that this client has taken. It does nothing for another.
func (c *Client) Unlock(ctx context.Context, name string) error {
	return c.do(ctx, Unlock, name, func(ctx context.Context) error {
		c.mu.Lock()
		mine := c.locks[name]
		delete(c.locks, name)
		c.mu.Unlock()
		if !mine {
			return nil
		}
		return c.memory.Unlock(ctx, name)
	})
}

// Store is that of the Memory.
func (c *Client) Store(ctx context.Context, key string, value []byte) error {
	return c.do(ctx, Store, key, func(ctx context.Context) error { return c.memory.Store(ctx, key, value) })
}

// Load is that of the Memory.
func (c *Client) Load(ctx context.Context, key string) (value []byte, err error) {
	err = c.do(ctx, Load, key, func(ctx context.Context) error {
		value, err = c.memory.Load(ctx, key)
		return err
	})
	return value, err
}

// Delete is that of the Memory.
func (c *Client) Delete(ctx context.Context, key string) error {
	return c.do(ctx, Delete, key, func(ctx context.Context) error { return c.memory.Delete(ctx, key) })
}

// List is that of the Memory.
func (c *Client) List(ctx context.Context, prefix string, recursive bool) (keys []string, err error) {
	err = c.do(ctx, List, prefix, func(ctx context.Context) error {
		keys, err = c.memory.List(ctx, prefix, recursive)
		return err
	})
	return keys, err
}
