// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits bounds how much of WeChat's quota the public pages can use. Each
// component has a limit for pre_auth_codes and one for exchanges: 60 at once,
// then one a second. All visitors share them, because the quota is the
// component's. Limits is safe for concurrent use. Each node has its own.
type Limits struct {
	mu sync.Mutex // protects of
	// of has two limiters for each component, so it stays small.
	of map[string]*rate.Limiter
}

// NewLimits returns limits of which nothing is used.
func NewLimits() *Limits { return &Limits{of: make(map[string]*rate.Limiter)} }

// reserve uses one unit of the limit called what. If there is none, it uses
// nothing and returns the time until the next one. It does not wait.
func (l *Limits) reserve(what string, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[what] == nil {
		l.of[what] = rate.NewLimiter(rate.Every(time.Second), 60)
	}
	reserved := l.of[what].ReserveN(now, 1)
	if wait = reserved.DelayFrom(now); wait > 0 {
		// Give it back: the visitor is sent away and does not wait for it.
		reserved.CancelAt(now)
	}
	return wait
}
