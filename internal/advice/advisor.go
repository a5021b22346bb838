// SPDX-License-Identifier: Apache-2.0

package advice

import (
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	// interval is how often the same cause is said.
	interval = time.Hour
	// maxRemembered is of how many causes, and of how many accounts, an Advisor
	// remembers something, at least; it never remembers more than twice as many.
	maxRemembered = 1000
)

// Advisor remembers what was said already, and what was said last about each account.
// It has a bounded memory, is safe for concurrent use, and never waits.
type Advisor struct {
	mu   sync.Mutex
	said recent[string, time.Time] // by cause: when
	last recent[subject.Subject, noted]
}

type noted struct {
	advice Advice
	at     time.Time
}

// NewAdvisor returns an Advisor that has said nothing.
func NewAdvisor() *Advisor { return new(Advisor) }

// Due reports whether x is to be said: its cause was not said within an hour. Whoever
// gets true says it.
func (a *Advisor) Due(x Advice, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.said.get(x.cause); ok && now.Sub(at) < interval {
		return false
	}
	a.said.put(x.cause, now)
	return true
}

// Note remembers x as the last advice about an account, or about a component.
func (a *Advisor) Note(who subject.Subject, x Advice, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last.put(who, noted{x, now})
}

// Last returns the last advice about an account, or about a component, and when it was
// noted; zero values if there is none or if it is forgotten.
func (a *Advisor) Last(who subject.Subject) (x Advice, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, _ := a.last.get(who)
	return n.advice, n.at
}

// recent is a map that forgets what was neither read nor written lately. The zero
// value is empty.
type recent[K comparable, V any] struct {
	young, old map[K]V // what is looked up moves from old to young
}

func (r *recent[K, V]) get(key K) (value V, ok bool) {
	if value, ok = r.young[key]; ok {
		return value, true
	}
	if value, ok = r.old[key]; ok {
		r.put(key, value)
	}
	return value, ok
}

func (r *recent[K, V]) put(key K, value V) {
	if len(r.young) >= maxRemembered {
		r.old, r.young = r.young, nil
	}
	if r.young == nil {
		r.young = make(map[K]V)
	}
	r.young[key] = value
}
