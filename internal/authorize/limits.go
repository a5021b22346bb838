// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits bounds what the public pages can spend of WeChat's quota: 60
// pre_auth_codes and 60 exchanges a minute for each component.
type Limits struct {
	mu sync.Mutex
	of map[string]*rate.Limiter
}

// NewLimits returns limits of which nothing is spent.
func NewLimits() *Limits { return &Limits{of: make(map[string]*rate.Limiter)} }

// reserve spends one, or returns how long to wait for the next.
func (l *Limits) reserve(what string, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[what] == nil {
		l.of[what] = rate.NewLimiter(rate.Every(time.Second), 60)
	}
	reserved := l.of[what].ReserveN(now, 1)
	if wait = reserved.DelayFrom(now); wait > 0 {
		reserved.CancelAt(now)
	}
	return wait
}
