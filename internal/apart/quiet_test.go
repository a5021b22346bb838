// SPDX-License-Identifier: Apache-2.0

package apart

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A pause of the machine is no silence of its callers, wherever in the time it falls and
// even if it is shorter than that.
func TestQuietOnAMachineThatStandsStill(t *testing.T) {
	for _, pause := range []time.Duration{0, slice / 2, slice + 1, quietTime, time.Second} {
		for at := range int(quietTime / slice) {
			var requests atomic.Int64
			slept := 0
			got := quiet(&requests, func(d time.Duration) time.Duration {
				if slept++; slept-1 == at {
					d += pause
				}
				return d
			})
			if want := pause < slice; got != want {
				t.Errorf("with a pause of %v in slice %d: %v, want %v", pause, at, got, want)
			}
		}
	}
}

// One request within the time is enough, whenever it comes.
func TestQuietHearsEachRequest(t *testing.T) {
	for after := time.Duration(1); after < 2*quietTime; after += slice {
		synctest.Test(t, func(t *testing.T) {
			var requests atomic.Int64
			time.AfterFunc(after, func() { requests.Add(1) })
			began := time.Now()
			if got, want := Quiet(&requests), after > quietTime; got != want {
				t.Errorf("with a request after %v: %v, want %v", after, got, want)
			}
			if took := time.Since(began); took != quietTime {
				t.Errorf("it took %v, want %v", took, quietTime)
			}
			time.Sleep(quietTime)
		})
	}
}
