// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"slices"
	"time"

	"golang.org/x/time/rate"
)

const (
	// A rejected token of a subject is renewed maxForcedAtOnce times at once, then
	// once in forcedInterval. It may be WeChat that rejects good tokens for a while,
	// and each renewal costs some of its quota.
	maxForcedAtOnce = 3
	forcedInterval  = 10 * time.Second
	// More than maxForcedHourly renewals of rejected tokens within an hour mean that
	// another process uses the same credentials: each of the two ends the token of
	// the other. From then on one is tried every contendedInterval.
	maxForcedHourly   = 12
	contendedInterval = time.Minute
)

// forced counts the renewals of rejected tokens of one subject. The zero value is
// ready for use; health guards it.
type forced struct {
	limiter *rate.Limiter // of attempts
	renewed []time.Time   // attempts that succeeded within the hour
}

// isDue reports whether a rejected token may be renewed now, and counts the attempt.
func (f *forced) isDue(now time.Time) bool {
	f.forget(now)
	if n := len(f.renewed); n >= maxForcedHourly && now.Sub(f.renewed[n-1]) < contendedInterval {
		return false
	}
	if f.limiter == nil {
		f.limiter = rate.NewLimiter(rate.Every(forcedInterval), maxForcedAtOnce)
	}
	return f.limiter.AllowN(now, 1)
}

// succeeded counts an attempt that has brought a new token, and reports whether there
// were so many within the hour that another process must be using the same
// credentials. Attempts that fail say nothing about others.
func (f *forced) succeeded(now time.Time) (contended bool) {
	f.forget(now)
	f.renewed = append(f.renewed, now)
	return len(f.renewed) > maxForcedHourly
}

// forget drops what has no effect any more.
func (f *forced) forget(now time.Time) {
	f.renewed = slices.DeleteFunc(f.renewed, func(at time.Time) bool { return now.Sub(at) >= time.Hour })
	if f.limiter != nil && f.limiter.TokensAt(now) >= maxForcedAtOnce {
		f.limiter = nil
	}
}

// idle reports whether nothing is counted.
func (f *forced) idle() bool { return f.limiter == nil && len(f.renewed) == 0 }
