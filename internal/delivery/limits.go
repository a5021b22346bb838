// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"cmp"
	"time"
)

// The limits of a target that does not set them.
const (
	DefaultTimeout     = 30 * time.Second
	DefaultRetryFor    = 72 * time.Hour
	DefaultConcurrency = 16
	DefaultMaxWaiting  = 10_000
)

func (t *Target) timeout() time.Duration  { return cmp.Or(t.Timeout, DefaultTimeout) }
func (t *Target) retryFor() time.Duration { return cmp.Or(t.RetryFor, DefaultRetryFor) }
func (t *Target) concurrency() int        { return cmp.Or(t.Concurrency, DefaultConcurrency) }
func (t *Target) maxWaiting() int         { return cmp.Or(t.MaxWaiting, DefaultMaxWaiting) }

// before reports whether t comes before another target of the same client.
func (t *Target) before(other *Target) bool {
	return cmp.Or(cmp.Compare(t.Place, other.Place), cmp.Compare(t.Name, other.Name)) < 0
}
