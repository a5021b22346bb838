// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"sync"
)

// turns lets the callers within one process queue for a storage lock before
// they take it: storage looks for a lock to come free only every second, a
// waiter here knows at once.
type turns struct {
	mu    sync.Mutex
	taken map[string]chan struct{} // lock name → closed when the turn ends
}

// wait waits for the turn of name, or for ctx to end. done ends the turn.
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
