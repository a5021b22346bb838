// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// renewTimeout bounds one whole renewal: waiting for a lock that a killed process
// left behind (about 11 s in file system storage), then WeChat.
const renewTimeout = 30 * time.Second

// lifetime counts the work of a Keeper and ends it. Work that is started by join or
// background does not stop when its caller leaves: WeChat may have issued a token
// already, and it must be stored. Only the end of the Keeper stops it. A lifetime
// is safe for concurrent use.
type lifetime struct {
	ctx    context.Context // ends with end
	cancel context.CancelFunc
	calls  singleflight.Group

	ending sync.Mutex // no work begins after ctx has ended, see begin
	work   sync.WaitGroup
}

func newLifetime() *lifetime {
	l := new(lifetime)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// end ends all work and waits for it.
func (l *lifetime) end() {
	l.ending.Lock()
	l.cancel()
	l.ending.Unlock()
	l.work.Wait()
}

// begin counts work that end has to wait for; the caller calls work.Done. It
// fails once end has been called.
func (l *lifetime) begin() error {
	l.ending.Lock()
	defer l.ending.Unlock()
	if err := l.ctx.Err(); err != nil {
		return err
	}
	l.work.Add(1)
	return nil
}

// background runs work that nobody waits for but end. It returns at once.
func (l *lifetime) background(work func()) {
	if l.begin() == nil {
		go func() {
			defer l.work.Done()
			work()
		}()
	}
}

// join runs work as the one call of that key on this node, or joins the one that
// is running. It returns at once. Work gets a context of the lifetime, bounded by
// renewTimeout: it goes on when whoever has started it leaves.
func (l *lifetime) join(key string, work func(ctx context.Context) (any, error)) <-chan singleflight.Result {
	return l.calls.DoChan(key, func() (any, error) {
		if err := l.begin(); err != nil {
			return nil, err
		}
		defer l.work.Done()
		ctx, cancel := context.WithTimeout(l.ctx, renewTimeout)
		defer cancel()
		return work(ctx)
	})
}

// await waits for the result of a join, but no longer than ctx.
func await[T any](ctx context.Context, done <-chan singleflight.Result) (T, error) {
	var none T
	select {
	case result := <-done:
		if result.Err != nil {
			return none, result.Err
		}
		return result.Val.(T), nil
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}
