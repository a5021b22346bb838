// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"sync"
	"sync/atomic"
	"time"
)

// traffic is calls that go on until they are stopped.
type traffic struct {
	c        *cluster
	callers  sync.WaitGroup
	stopping atomic.Bool
	calls    atomic.Int64

	mu     sync.Mutex
	failed []answer
}

// let has callers make calls at every node, with a pause in between, until the
// traffic is stopped.
func (c *cluster) let(callers int, pause time.Duration, call func(n *node) answer) *traffic {
	t := &traffic{c: c}
	for i := range callers * len(c.nodes) {
		n := c.nodes[i%len(c.nodes)]
		t.callers.Go(func() {
			for ; !t.stopping.Load(); time.Sleep(pause) {
				if a := call(n); !a.ok() {
					t.mu.Lock()
					t.failed = append(t.failed, a)
					t.mu.Unlock()
				}
				t.calls.Add(1)
			}
		})
	}
	return t
}

// flow waits for more calls.
func (t *traffic) flow(more int64) {
	t.c.Helper()
	seen := t.calls.Load()
	t.c.until("calls are made", 30*time.Second, func() bool { return t.calls.Load() >= seen+more })
}

// stop ends the traffic and fails the test unless every call has succeeded.
func (t *traffic) stop() (calls int64) {
	t.c.Helper()
	t.stopping.Store(true)
	t.callers.Wait()
	if len(t.failed) > 0 {
		t.c.Errorf("%d of %d calls failed, the first: %s", len(t.failed), t.calls.Load(), t.failed[0])
	}
	return t.calls.Load()
}
