// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"slices"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	minCoolDown = time.Second
	maxCoolDown = time.Minute
	// recheckInterval is how often it is looked into whether an account that WeChat
	// calls unauthorized is.
	recheckInterval = 10 * time.Minute
	// unreadableInterval is how often it is said that a record does not open.
	unreadableInterval = time.Hour
	// ticketAskInterval is the least time between two api_start_push_ticket calls that
	// operators ask this node for.
	ticketAskInterval = time.Minute
)

// health remembers what went wrong with which subject: cool-downs after failures,
// tokens that were withdrawn, and renewals of rejected ones. It survives reloads, not
// the process. It is safe for concurrent use and waits for nothing.
type health struct {
	mu       sync.Mutex // guards all below
	of       map[healthKey]*subjectHealth
	limiters map[limiterKey]*lookupLimiter
}

// limiterKey is a component and the client that asks for unknown appids under it.
type limiterKey struct{ component, client string }

// healthKey names what can fail, and cool down, by itself.
type healthKey struct {
	who     subject.Subject
	purpose purpose
}

type purpose uint8

const (
	renewal purpose = iota
	// codeExchange fails apart from renewals: an account that only changes what it
	// grants has a refresh token, which goes on working.
	codeExchange
)

type subjectHealth struct {
	failures   int
	until      time.Time // no attempt before
	err        error     // what callers are shown meanwhile
	text       string    // of the failure, the same for every failure of its kind
	last       Failure   // for operators; that of a component is kept when it is over
	revoked    []*Token  // the account has withdrawn them; until they expire
	forced     forced    // renewals of rejected tokens
	contended  time.Time // when it was last said that another process renews as well
	unreadable time.Time // when it was last said that the record does not open
	rechecked  time.Time // when it was last looked into whether the account is authorized
	ticket     time.Time // when an operator last had WeChat asked for the component's ticket
}

// Failure is what has gone wrong, for operators. It holds no credential and no text of
// WeChat's. The zero Failure means that nothing has.
type Failure struct {
	Time         time.Time
	Text, Remedy string // a remedy may be empty
}

func newHealth() *health {
	return &health{of: make(map[healthKey]*subjectHealth), limiters: make(map[limiterKey]*lookupLimiter)}
}

// at returns the health of a key, which it makes if there is none. The caller
// holds mu.
func (h *health) at(key healthKey) *subjectHealth {
	if h.of[key] == nil {
		h.of[key] = new(subjectHealth)
	}
	return h.of[key]
}

// CoolingDown returns what callers are shown while no attempt is made after a
// failure, nil if one may be made now.
func (h *health) CoolingDown(key healthKey, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.of[key]; s != nil && now.Before(s.until) {
		return s.err
	}
	return nil
}

// Failed records a failed attempt, with what callers are shown of it and a text
// that is the same for every failure of its kind. A coolDown of 0 stands for one
// that doubles with each failure. Failed returns for how long no attempt is made,
// and whether the failure is the first, or of another kind than the last. last is the
// failure as operators see it; it is now.
func (h *health) Failed(key healthKey, shown error, text string, coolDown time.Duration, last Failure) (pause time.Duration, isNew bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.at(key)
	isNew = s.err == nil || s.text != text
	if pause = coolDown; pause == 0 {
		pause = backoff.Jitter(backoff.Delay(s.failures+1, minCoolDown, maxCoolDown))
	}
	s.failures++
	s.until, s.err, s.text, s.last = last.Time.Add(pause), shown, text, last
	return pause, isNew
}

// Last returns what went wrong last with a key, and until when no attempt is made; both
// are zero if nothing is known of a failure.
func (h *health) Last(key healthKey) (last Failure, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.of[key]; s != nil {
		return s.last, s.until
	}
	return Failure{}, time.Time{}
}

// Reset ends the cool-down of who: an attempt succeeded, or there is new hope. The last
// failure of a component, of which there are few, stays.
func (h *health) Reset(key healthKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.of[key]; s != nil {
		s.failures, s.until, s.err, s.text = 0, time.Time{}, nil, ""
		if !key.who.IsComponent() {
			s.last = Failure{}
		}
	}
}

// UnreadableIsDue reports whether it is time to say that the record of who does
// not open, and notes that it is said.
func (h *health) UnreadableIsDue(who subject.Subject, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return isDue(&h.at(healthKey{who, renewal}).unreadable, unreadableInterval, now)
}

// RecheckIsDue reports whether it is time to look into whether who is authorized,
// and notes that it is done.
func (h *health) RecheckIsDue(who subject.Subject, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return isDue(&h.at(healthKey{who, renewal}).rechecked, recheckInterval, now)
}

// TicketIsDue reports whether WeChat may be asked for a ticket of a component for an
// operator, and notes that it is.
func (h *health) TicketIsDue(who subject.Subject, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return isDue(&h.at(healthKey{who, renewal}).ticket, ticketAskInterval, now)
}

// isDue reports whether it is time to do something that was last done at last, and
// notes that it is done now.
func isDue(last *time.Time, interval time.Duration, now time.Time) bool {
	if now.Sub(*last) < interval {
		return false
	}
	*last = now
	return true
}

// ForcedIsDue reports whether a rejected token of who may be renewed now, and counts
// the attempt.
func (h *health) ForcedIsDue(who subject.Subject, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at(healthKey{who, renewal}).forced.isDue(now)
}

// Forced counts a renewal of a rejected token that has succeeded. It reports whether
// it is time to say that another process uses the same credentials, once an hour.
func (h *health) Forced(who subject.Subject, now time.Time) (contended bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.at(healthKey{who, renewal})
	return s.forced.succeeded(now) && isDue(&s.contended, time.Hour, now)
}

// Revoke notes a token of who that must not be served any more: the account has
// withdrawn its authorization. Copies of it may be on their way into memory.
func (h *health) Revoke(who subject.Subject, token *Token, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.at(healthKey{who, renewal})
	s.forget(now)
	if !s.hasRevoked(token.Value) {
		s.revoked = append(s.revoked, token)
	}
}

// IsRevoked reports whether this token of who was withdrawn.
func (h *health) IsRevoked(who subject.Subject, token secret.Secret) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.of[healthKey{who, renewal}]
	return s != nil && s.hasRevoked(token)
}

func (s *subjectHealth) hasRevoked(token secret.Secret) bool {
	return slices.ContainsFunc(s.revoked, func(revoked *Token) bool { return revoked.Value.Equal(token) })
}

// forget drops what has no effect any more.
func (s *subjectHealth) forget(now time.Time) {
	s.forced.forget(now)
	s.revoked = slices.DeleteFunc(s.revoked, func(token *Token) bool { return !now.Before(token.Expires) })
}

// LookupLimiter returns what bounds the look-ups of a client under a component.
func (h *health) LookupLimiter(component, client string) *lookupLimiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := limiterKey{component, client}
	if h.limiters[key] == nil {
		h.limiters[key] = newLookupLimiter()
	}
	return h.limiters[key]
}

// Sweep forgets whatever is well again, so that memory is bounded by the subjects
// with a failure, and by the components.
func (h *health) Sweep(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, s := range h.of {
		s.forget(now)
		if key.who.IsComponent() && !s.last.Time.IsZero() {
			continue
		}
		if s.forced.idle() && len(s.revoked) == 0 &&
			now.After(s.until.Add(maxCoolDown)) && now.After(s.unreadable.Add(unreadableInterval)) &&
			now.After(s.rechecked.Add(recheckInterval)) && now.After(s.ticket.Add(ticketAskInterval)) {
			delete(h.of, key)
		}
	}
}
