// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

const (
	// maxFutileLookups and futileLookupInterval bound the look-ups of appids that
	// turn out to be unknown, so that trying appids cannot spend WeChat's quota.
	maxFutileLookups     = 60
	futileLookupInterval = time.Second
	// maxOpenLookups is how many look-ups of unknown appids run at a time: of so
	// many it is not known yet whether they are futile.
	maxOpenLookups = 10
)

// lookupLimiter bounds the look-ups of one component at WeChat about appids that
// nothing is known of here. It is safe for concurrent use.
type lookupLimiter struct {
	futile *rate.Limiter
	open   chan struct{} // holds an element per look-up that is running
	warned rate.Sometimes
}

func newLookupLimiter() *lookupLimiter {
	return &lookupLimiter{
		futile: rate.NewLimiter(rate.Every(futileLookupInterval), maxFutileLookups),
		open:   make(chan struct{}, maxOpenLookups),
		warned: rate.Sometimes{Interval: time.Minute},
	}
}

// Do makes a look-up, which reports whether it was futile: there is no such
// account. It waits while too many are running, but no longer than ctx, and fails
// with problem.ErrRationed while too many were futile.
func (l *lookupLimiter) Do(ctx context.Context, lookup func() (futile bool)) error {
	select {
	case l.open <- struct{}{}:
		defer func() { <-l.open }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if l.futile.Tokens() < 1 {
		return problem.ErrRationed
	}
	if lookup() {
		l.futile.Allow()
	}
	return nil
}
