// SPDX-License-Identifier: Apache-2.0

// Package backoff says how long to wait before trying again.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Delay is how long to wait after a number of failures in a row, from 1: first,
// and twice as long with each further one, up to most.
func Delay(failures int, first, most time.Duration) time.Duration {
	delay := first
	for range failures - 1 {
		if delay >= most/2 {
			return most
		}
		delay *= 2
	}
	return min(delay, most)
}

// Jitter spreads d by a quarter either way, so that those who failed together do
// not try again together.
func Jitter(d time.Duration) time.Duration {
	return d - d/4 + rand.N(d/2+1)
}

// Wait waits for a time. It reports false if ctx ends meanwhile.
func Wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
