// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// tokenOf returns the record's token, nil if it has none.
func (b *base) tokenOf(who subject.Subject, record vault.Record) *Token {
	if record.Token == nil {
		return nil
	}
	token := NewToken(record.Token, record.Obtained, record.Expires)
	token.revoked.Store(b.health.IsRevoked(who, record.Token))
	return token
}

// remember puts a token into memory and returns it. It may be revoked between its
// reading from the vault and now: revoke first notes that in health and then drops
// the token from memory, so remember works the other way round, and one of the two
// sees the other.
func (b *base) remember(who subject.Subject, token *Token) *Token {
	b.memory.Set(who, token)
	if b.health.IsRevoked(who, token.Value) {
		token.revoked.Store(true)
	}
	if profiles := b.settings().Profiles; profiles != nil && !who.IsComponent() {
		profiles.Used(who)
	}
	return token
}

// revoke makes sure that a token is never served again, whatever copies of it are
// in the vault or in memory. Only an account that withdraws has its tokens revoked: a
// token that WeChat rejects is served until there is a newer one.
func (b *base) revoke(who subject.Subject, token *Token) {
	token.revoked.Store(true)
	b.health.Revoke(who, token, time.Now())
	if held := b.memory.Get(who); held == nil || held.Value.Equal(token.Value) {
		b.drop(who) // also what is on its way into memory
	}
}

// drop forgets what is in memory of who: the token, and the tickets that were fetched
// with one. The tickets end with the authorization, or another one may not grant them.
func (b *base) drop(who subject.Subject) {
	b.memory.Drop(who)
	b.held.Drop(who)
}

// adopt makes memory hold the token of a record that has just been saved, and
// nothing older. It is called where a token was issued outside a renewal.
func (b *base) adopt(who subject.Subject, record vault.Record) {
	b.drop(who)
	if token := b.tokenOf(who, record); token.live(time.Now()) {
		b.remember(who, token)
	}
}
