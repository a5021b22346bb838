// SPDX-License-Identifier: Apache-2.0

package census

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// small is how many accounts are listed within a question: that takes milliseconds.
	// More are shown as they are known, and listed in the background.
	small = 1024
	// smallAge is the age from which on few accounts are listed anew within a question.
	smallAge = time.Second
	// shardAge is the age from which on a shard that is shown is listed anew in the
	// background.
	shardAge = 30 * time.Second
)

// Page returns the appids of up to limit accounts of a component that follow the one
// named after, "" for the first ones, and whether there are more. Their order is that of
// the shards of the storage, which is the last two digits, then that of the appids. It
// waits for the storage where little is stored, or where the accounts were never listed,
// but no longer than ctx. The error is that of the storage, of ctx, or of an appid that is
// none.
func (c *Census) Page(ctx context.Context, component, after string, limit int) (appids []string, more bool, err error) {
	from, err := keyAfter(after)
	if err != nil {
		return nil, false, err
	}
	if err := c.freshen(ctx, component); err != nil {
		return nil, false, err
	}
	var found keys
	for shard := int(shardOf(from)); shard < 256 && len(found) <= limit; shard++ {
		if err := c.listIfNever(ctx, component, byte(shard)); err != nil {
			return nil, false, err
		}
		c.mu.Lock()
		rest := c.membersOf(component).shards[shard].keys.from(from)
		found = append(found, rest[:min(len(rest), limit+1)]...)
		c.mu.Unlock()
	}
	return page(found, limit)
}

// Noted is Page for the accounts in the index of a standing, which is one of vault.Noted.
// It waits for the storage where few are in it, or if it was never listed.
func (c *Census) Noted(ctx context.Context, component string, st vault.Standing, after string, limit int) (appids []string, more bool, err error) {
	noted := slices.Index(vault.Noted[:], st)
	if noted < 0 {
		return nil, false, fmt.Errorf("there is no index of %.40q", st)
	}
	from, err := keyAfter(after)
	if err != nil {
		return nil, false, err
	}
	c.mu.Lock()
	known := c.ask(component).noted[noted]
	c.mu.Unlock()
	if known.at.IsZero() || len(known.keys) <= small && time.Since(known.at) > smallAge {
		if err := c.listNoted(ctx, component, noted); err != nil {
			return nil, false, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := c.membersOf(component).noted[noted].keys.from(from)
	return page(rest[:min(len(rest), limit+1)], limit)
}

// page returns the appids of up to limit keys, and whether there are more.
func page(found keys, limit int) (appids []string, more bool, err error) {
	appids = make([]string, 0, min(len(found), limit))
	for _, key := range found[:min(len(found), limit)] {
		appids = append(appids, appIDOf(key))
	}
	return appids, len(found) > limit, nil
}

// keyAfter returns the least key that follows that of an appid, 0 if it is empty.
func keyAfter(appid string) (uint64, error) {
	if appid == "" {
		return 0, nil
	}
	key, ok := keyOf(appid)
	if !ok {
		return 0, fmt.Errorf("%.40q is not an appid", appid)
	}
	return key + 1, nil
}

// freshen lists a component anew that is small and was counted a while ago.
func (c *Census) freshen(ctx context.Context, component string) error {
	c.mu.Lock()
	m := c.ask(component)
	old := m.counted && m.total() <= small && time.Since(m.shards[255].at) > smallAge
	c.mu.Unlock()
	if !old {
		return nil
	}
	return c.listAll(ctx, component)
}

// listIfNever lists a shard that was never listed; one that was listed a while ago, in the
// background.
func (c *Census) listIfNever(ctx context.Context, component string, shard byte) error {
	c.mu.Lock()
	at := c.membersOf(component).shards[shard].at
	if !at.IsZero() && time.Since(at) > shardAge {
		c.background(func() { _ = c.listShard(c.ctx, component, shard) }) // else the next pass does
	}
	c.mu.Unlock()
	if at.IsZero() {
		return c.listShard(ctx, component, shard)
	}
	return nil
}
