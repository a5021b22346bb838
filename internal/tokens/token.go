// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

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

// NewToken returns a token that WeChat has issued. It is due for a renewal ahead
// in the last twelfth of its lifetime, ten minutes of two hours, less a little
// chance so that nodes and subjects do not all renew at once.
func NewToken(value secret.Secret, obtained, expires time.Time) *Token {
	window := max(0, expires.Sub(obtained)/12)
	token := &Token{Value: value, Expires: expires}
	token.due.Store(expires.Add(-window + rand.N(window/4+1)).UnixNano())
	return token
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
func (t *Keeper) remember(who subject.Subject, token *Token) *Token {
	t.memory.Set(who, token)
	if t.troubles.isRefused(who, token.Value) {
		token.refused.Store(true)
	}
	return token
}

// refuse makes sure that a token is never served again, whatever copies of it
// are in the vault or in memory.
func (t *Keeper) refuse(who subject.Subject, token *Token) {
	token.refused.Store(true)
	t.troubles.refuse(who, token, time.Now())
	if held := t.memory.Get(who); held == nil || held.Value.Equal(token.Value) {
		t.memory.Drop(who) // also what is on its way into memory
	}
}

// tokenOf returns the record's token, nil if it has none.
func (t *Keeper) tokenOf(who subject.Subject, record vault.Record) *Token {
	if record.Token == nil {
		return nil
	}
	token := NewToken(record.Token, record.Obtained, record.Expires)
	token.refused.Store(t.troubles.isRefused(who, record.Token))
	return token
}
