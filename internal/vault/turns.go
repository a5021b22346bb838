// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"sync"
)

// turns makes the callers of one Vault wait for each other in the process
// before one of them asks the storage for a lock. A storage checks only about
// once a second whether a lock is free; here the next caller continues at once.
// The zero value is ready for use. It is safe for concurrent use.
type turns struct {
	mu sync.Mutex
	// taken has an entry for each lock that a caller has or waits for in the
	// storage. The channel is closed when its turn ends. mu guards the map.
	taken map[string]chan struct{}
}

// wait waits until no other caller has the turn of name, and takes it. The
// waiting callers get it in no particular order. If ctx ends before, the error
// is that of ctx. Otherwise the caller must call done exactly once, from any
// goroutine; it ends the turn and does not block.
func (t *turns) wait(ctx context.Context, name string) (done func(), err error) {
	for {
		t.mu.Lock()
		taken, wait := t.taken[name]
		if !wait {
			mine := make(chan struct{})
			if t.taken == nil {
				t.taken = make(map[string]chan struct{})
			}
			t.taken[name] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.taken, name)
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
