// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	// forcedAtOnce is how many renewals one subject may be forced to by rejected
	// tokens one after another. More means that somebody else renews them as well.
	// From then on one is tried every forcedEvery, 12 an hour in all: it may as
	// well have been WeChat that rejected good tokens for a minute.
	forcedAtOnce = 9
	forcedEvery  = 15 * time.Minute
)

// contended reports whether rejected tokens of who were renewed too often
// within the hour to go on.
func (h *health) contended(who subject.Subject, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.at(healthKey{who, renewal})
	s.forget(now)
	n := len(s.forced)
	return n >= forcedAtOnce && now.Sub(s.forced[n-1]) < forcedEvery
}

// force counts a renewal of a rejected token. Attempts that fail do not count:
// they say nothing about others who use the same credentials.
func (h *health) force(who subject.Subject, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.at(healthKey{who, renewal})
	s.forced = append(s.forced, now)
}
