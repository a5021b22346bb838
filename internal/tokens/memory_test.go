// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// remembering is a Memory that forgets nothing.
type remembering struct {
	tokens sync.Map
	closed atomic.Bool
}

func (m *remembering) Get(who subject.Subject) *Token {
	if token, ok := m.tokens.Load(who); ok && !m.closed.Load() {
		return token.(*Token)
	}
	return nil
}

func (m *remembering) Set(who subject.Subject, token *Token) { m.tokens.Store(who, token) }
func (m *remembering) Drop(who subject.Subject)              { m.tokens.Delete(who) }
func (m *remembering) Close()                                { m.closed.Store(true) }

// forgetful is a Memory as bad as one may be: of the tokens that are set it drops
// one in eight, a new one it shows only when it was asked for once before, and at
// any time it forgets one.
type forgetful struct {
	mu     sync.Mutex
	chance *rand.Rand
	shown  map[subject.Subject]*Token
	hidden map[subject.Subject]*Token // set, and not asked for since
	closed bool
}

func newForgetful(seed uint64, process string) *forgetful {
	h := fnv.New64a()
	_, _ = io.WriteString(h, process)
	return &forgetful{chance: rand.New(rand.NewPCG(seed, h.Sum64())),
		shown: make(map[subject.Subject]*Token), hidden: make(map[subject.Subject]*Token)}
}

func (m *forgetful) Get(who subject.Subject) *Token {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.chance.IntN(16) == 0 {
		delete(m.shown, who)
	}
	token := m.shown[who]
	if m.closed {
		return nil
	}
	if late := m.hidden[who]; late != nil {
		m.shown[who] = late
		delete(m.hidden, who)
	}
	return token
}

func (m *forgetful) Set(who subject.Subject, token *Token) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.chance.IntN(8) == 0:
		delete(m.shown, who) // what was set before must not come back
		delete(m.hidden, who)
	case m.shown[who] != nil: // a change shows at once
		m.shown[who] = token
	default:
		m.hidden[who] = token
	}
}

func (m *forgetful) Drop(who subject.Subject) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.shown, who)
	delete(m.hidden, who)
}

func (m *forgetful) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
}
