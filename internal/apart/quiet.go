// SPDX-License-Identifier: Apache-2.0

package apart

import (
	"sync/atomic"
	"time"
)

// quietTime is the time without a request after which no connection is considered to be in
// use any more. It passes in slices.
const quietTime, slice = 10 * slice, 15 * time.Millisecond

// Quiet waits for 150 milliseconds, and reports whether the number of requests is the same
// afterwards. It returns false at once if a part of that time took much longer: a machine
// that stood still has kept the callers, too, and their requests come now.
func Quiet(requests *atomic.Int64) bool {
	return quiet(requests, func(d time.Duration) (took time.Duration) {
		began := time.Now()
		time.Sleep(d)
		return time.Since(began)
	})
}

func quiet(requests *atomic.Int64, sleep func(time.Duration) (took time.Duration)) bool {
	before := requests.Load()
	for range quietTime / slice {
		if sleep(slice) > 2*slice {
			return false
		}
	}
	return requests.Load() == before
}
