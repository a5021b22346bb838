// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

const (
	// maxFutileLookups and futileLookupInterval bound the look-ups that bring nothing,
	// because the appid is unknown or WeChat refuses, so that trying appids cannot
	// spend WeChat's quota.
	maxFutileLookups     = 60
	futileLookupInterval = time.Second
	// maxOpenLookups is how many look-ups of unknown appids run at a time: of so
	// many it is not known yet whether they are futile.
	maxOpenLookups = 10
	// maxWaitingLookups is how many look-ups wait for that. A client whose storage is
	// empty asks for all its accounts at once.
	maxWaitingLookups = 1000
)

// lookupLimiter bounds the look-ups at WeChat about appids that nothing is known of
// here, of one client under one component: no client waits for the look-ups of
// another. It is safe for concurrent use.
type lookupLimiter struct {
	futile  *rate.Limiter
	open    chan struct{} // holds an element per look-up that is running
	waiting chan struct{} // and per look-up that waits or is running
	warned  rate.Sometimes
}

func newLookupLimiter() *lookupLimiter {
	return &lookupLimiter{
		futile:  rate.NewLimiter(rate.Every(futileLookupInterval), maxFutileLookups),
		open:    make(chan struct{}, maxOpenLookups),
		waiting: make(chan struct{}, maxOpenLookups+maxWaitingLookups),
		warned:  rate.Sometimes{Interval: time.Minute},
	}
}

// Do makes a look-up, which reports whether it was futile. It waits while too many are running, but no longer than ctx, and fails
// with problem.ErrRationed while too many were futile, or too many wait.
func (l *lookupLimiter) Do(ctx context.Context, lookup func() (futile bool)) error {
	select {
	case l.waiting <- struct{}{}:
		defer func() { <-l.waiting }()
	default:
		return problem.ErrRationed
	}
	if l.futile.Tokens() < 1 { // before it waits behind those that are running
		return problem.ErrRationed
	}
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
		l.futile.Reserve() // those that ran at the same time count as well, as a debt
	}
	return nil
}
