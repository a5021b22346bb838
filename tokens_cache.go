// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Token is a real WeChat access token as the proxy attaches it.
type Token struct {
	Value   secret.Secret
	Expires time.Time

	refused atomic.Bool  // WeChat has rejected it; never served again
	due     atomic.Int64 // unix nanoseconds from which a renewal ahead may start
}

func (t *Token) live(now time.Time) bool {
	return t != nil && now.Before(t.Expires) && !t.refused.Load()
}

// other reports whether t is alive and another token than old. old may be nil.
func (t *Token) other(old *Token, now time.Time) bool {
	return t.live(now) && (old == nil || !t.Value.Equal(old.Value))
}

// remember puts token into memory. It may have been refused after it was read
// from the vault: whoever refuses it notes that first and then drops it from
// memory, while here it is put first and then looked up what is noted.
func (t *Tokens) remember(who subject.Subject, token *Token) *Token {
	t.cache.set(who, token)
	if t.troubles.isRefused(who, token.Value) {
		token.refused.Store(true)
	}
	return token
}

// refuse makes sure that a token is never served again, whatever copies of it
// are in the vault or in memory.
func (t *Tokens) refuse(who subject.Subject, token *Token) {
	token.refused.Store(true)
	t.troubles.refuse(who, token, time.Now())
	if held := t.cache.get(who); held == nil || held.Value.Equal(token.Value) {
		t.cache.drop(who) // also what is on its way into memory
	}
}

// tokenOf returns the record's token, nil if it has none.
func (t *Tokens) tokenOf(who subject.Subject, record vault.Record) *Token {
	if record.Token == nil {
		return nil
	}
	// A twelfth of the lifetime ahead, ten minutes of two hours, less a little
	// chance so that nodes and subjects do not all renew at once.
	window := max(0, record.Expires.Sub(record.Obtained)/12)
	token := &Token{Value: record.Token, Expires: record.Expires}
	token.due.Store(record.Expires.Add(-window + rand.N(window/4+1)).UnixNano())
	token.refused.Store(t.troubles.isRefused(who, record.Token))
	return token
}

// tokenCache keeps tokens in memory. It only saves the way to the vault: a
// get right after a set may miss, and a set may be dropped.
type tokenCache struct {
	tokens *ristretto.Cache[string, *Token]

	// Requests of a replaced configuration go on while the last state is torn
	// down, and ristretto panics on a Get or Set that meets Close.
	mu     sync.RWMutex
	closed bool
}

func newTokenCache(size int) (*tokenCache, error) {
	seed1, seed2 := maphash.MakeSeed(), maphash.MakeSeed()
	tokens, err := ristretto.NewCache(&ristretto.Config[string, *Token]{
		NumCounters:        10 * int64(size),
		MaxCost:            int64(size),
		BufferItems:        64,
		IgnoreInternalCost: true, // or only a fraction of size entries would stay
		KeyToHash: func(key string) (uint64, uint64) {
			return maphash.String(seed1, key), maphash.String(seed2, key)
		},
	})
	if err != nil {
		return nil, err
	}
	return &tokenCache{tokens: tokens}, nil
}

func (c *tokenCache) get(who subject.Subject) *Token {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return nil
	}
	token, _ := c.tokens.Get(string(who))
	return token
}

func (c *tokenCache) set(who subject.Subject, token *Token) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.closed {
		c.tokens.Set(string(who), token, 1)
	}
}

func (c *tokenCache) drop(who subject.Subject) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.closed {
		c.tokens.Del(string(who))
	}
}

func (c *tokenCache) resize(size int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.closed {
		c.tokens.UpdateMaxCost(int64(size))
	}
}

func (c *tokenCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.tokens.Close()
	}
}
