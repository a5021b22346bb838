// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Token is a real WeChat access token. It is shared by all who are served it.
type Token struct {
	Value   secret.Secret
	Expires time.Time

	revoked atomic.Bool  // the account has withdrawn it; never served again
	due     atomic.Int64 // unix nanoseconds from which a renewal ahead may start
}

// NewToken returns a token that WeChat has issued. It is due for a renewal ahead
// in the last twelfth of its lifetime, ten minutes of two hours, less a random
// part so that nodes and subjects do not all renew at once.
func NewToken(value secret.Secret, obtained, expires time.Time) *Token {
	window := max(0, expires.Sub(obtained)/12)
	token := &Token{Value: value, Expires: expires}
	token.due.Store(expires.Add(-window + rand.N(window/4+1)).UnixNano())
	return token
}

// live reports whether t may be served; t may be nil.
func (t *Token) live(now time.Time) bool {
	return t != nil && now.Before(t.Expires) && !t.revoked.Load()
}

// replaces reports whether t may be served in place of old, which is nil or
// another token. t may be nil.
func (t *Token) replaces(old *Token, now time.Time) bool {
	return t.live(now) && (old == nil || !t.Value.Equal(old.Value))
}

// Caller is whose call at WeChat takes a token: the same subject has several
// clients, and none may harm another.
type Caller struct {
	// Client is the id of the client, or Itself; "" for a call whose only credential is an end
	// user's, which anybody can make.
	Client string
	// Path is the path at WeChat.
	Path string
}

// Itself stands for the gateway in the place of a client. No client has an id that
// begins with a blank.
const Itself = " "

// itself is the gateway as the caller of an endpoint, for an authorizer or, if that
// is empty, for the component.
func itself(endpoint, authorizer string) Caller {
	return Caller{Client: Itself + authorizer, Path: endpoint}
}

func (c Caller) isItself() bool { return strings.HasPrefix(c.Client, Itself) }

// Rejection is an answer by which WeChat has rejected a token.
type Rejection struct {
	Caller
	Token   *Token
	Errcode int
	RID     string    // WeChat's name for the call, may be empty
	Arrived time.Time // the answer; what WeChat is asked later shows whether the token is alive
}

// Memory holds tokens in memory, so that most calls need no storage. It only
// saves the way to the vault: a Get right after a Set may miss, a Set may be
// dropped, and anything may be forgotten at any time. After a Drop no Get returns
// what was set before it. A Memory is safe for concurrent use, never blocks, and
// answers a Get without allocation.
type Memory interface {
	Get(who subject.Subject) *Token // nil if there is none
	Set(who subject.Subject, token *Token)
	Drop(who subject.Subject)

	// Close is called once the Keeper has ended. Requests of a configuration that
	// is gone go on: from now on a Get finds nothing, and the others do nothing.
	Close()
}
