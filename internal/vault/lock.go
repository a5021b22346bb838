// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	// unlockTimeout is the time for one attempt to release a lock, if the
	// storage obeys the context.
	unlockTimeout = 5 * time.Second

	// If the release of a lock fails, it is repeated in the background every
	// unlockRetryInterval, for unlockRetryTimeout. FileStorage of certmagic
	// renews the lock file of a living process by a write every five seconds,
	// and stops after the first write that fails. If the storage fails all that
	// time, one of these writes has failed as well, and the lock expires by
	// itself. The repetition can release the lock of another owner only if the
	// failed attempt has released the lock although it returned an error. That
	// does no harm, see Lock.
	unlockRetryTimeout  = 5 * time.Second
	unlockRetryInterval = 100 * time.Millisecond

	// patience is how long a caller waits before it takes a lock from its
	// owner. It is longer than the time, about ten seconds, after which
	// storages release the lock of a dead process by themselves. FileStorage
	// has an exception: a process goes on to renew a lock file for up to five
	// seconds after it has released the lock. If another process takes the lock
	// in that time and is killed, the first process renews the file for ever.
	// Owners normally need less than patience. If one needs longer, two owners
	// renew a token, and Merge combines the results.
	patience = 12 * time.Second
	// spread is the most that is added to patience, at random. Of several nodes
	// that wait for the same lock, one then breaks it first, and the others do
	// not break the lock that this one has just taken.
	spread = 2 * time.Second
	// minPatience is the least time before a lock is broken, for callers whose
	// context ends soon. A push is such a caller: WeChat waits five seconds.
	minPatience = 3 * time.Second
	// ticketPatience is the time after which a ticket is stored without a lock.
	// It leaves the rest of WeChat's five seconds for the storage.
	ticketPatience = 3 * time.Second
	// queuePatience is patience for the lock of a queue. Its owner holds it
	// while it delivers all events that are due.
	queuePatience = 10 * time.Minute
)

// Lock takes the lock of the record of s. Only the owner may change the record,
// in this process and on all nodes. Lock waits for the other callers in this
// process first, and then for the owner on another node. If ctx ends before,
// the error is ErrUnavailable; some storages look at ctx late or never.
//
// The owner can lose the lock without notice, as every lock in a storage: it
// expires, or another node breaks it. If two owners then write the same record,
// Merge keeps the newer parts of both. For this reason it is safe to break a
// lock that is not released in time, and Lock does it: after 12 to 14 seconds,
// or, if ctx has a deadline, after three quarters of the time until then if
// that is shorter, but never before 3 seconds. The time during which it waits
// for callers in this process does not count.
//
// unlock releases the lock, in the storage from which it was taken, also after
// ctx has ended. It waits at most unlockTimeout. Its error is ErrUnavailable:
// the lock was lost before, or its release failed and is repeated in the
// background. A second call does nothing and returns the same error. unlock may
// be called from any goroutine.
func (v *Vault) Lock(ctx context.Context, s subject.Subject) (unlock func() error, err error) {
	name, err := recordLock(s)
	if err != nil {
		return nil, err
	}
	return v.lock(ctx, v.storage(), name, patience+rand.N(spread))
}

// lock takes the lock with this name, and breaks it after patience or earlier,
// see Lock. It does so once. It also breaks a lock whose file is torn, at once.
func (v *Vault) lock(ctx context.Context, storage Storage, name string, patience time.Duration) (func() error, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable("locking", name, err)
	}
	done, err := v.turns.wait(ctx, name)
	if err != nil {
		return nil, unavailable("locking", name, err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		patience = max(minPatience, min(patience, time.Until(deadline)*3/4))
	}
	impatience := time.AfterFunc(patience, func() { v.breakLock(ctx, storage, name) })
	err = storage.Lock(ctx, name)
	if isTorn(err) {
		v.breakLock(ctx, storage, name)
		err = storage.Lock(ctx, name)
	}
	impatience.Stop()
	if err != nil {
		done()
		return nil, unavailable("locking", name, err)
	}
	return sync.OnceValue(func() error {
		defer done()
		ctx := context.WithoutCancel(ctx)
		err := unlock(ctx, storage, name)
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) { // else it was lost, and a repetition could release another owner's
			go unlockLater(ctx, storage, name)
		}
		return unavailable("unlocking", name, err)
	}), nil
}

// isTorn reports whether the storage cannot parse its lock file, because a
// process was killed while it wrote the file. FileStorage never releases such a
// lock by itself, so it is broken at once.
func isTorn(err error) bool {
	var syntax *json.SyntaxError
	return errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF)
}

// breakLock releases a lock that another owner holds, so that storage.Lock,
// which is waiting for it, can take it. It runs on the goroutine of a timer,
// and does nothing if ctx has ended. If several nodes wait, any of them may get
// the lock.
func (v *Vault) breakLock(ctx context.Context, storage Storage, name string) {
	if ctx.Err() != nil {
		return
	}
	if unlock(ctx, storage, name) == nil && v.Broken != nil {
		v.Broken(name)
	}
}

// unlockLater repeats the release of a lock until it succeeds, the lock is
// gone, or unlockRetryTimeout is over. It runs on a goroutine of its own.
func unlockLater(ctx context.Context, storage Storage, name string) {
	for end := time.Now().Add(unlockRetryTimeout); time.Now().Before(end); {
		time.Sleep(unlockRetryInterval)
		if err := unlock(ctx, storage, name); err == nil || errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

// unlock makes one attempt to release a lock, see unlockTimeout.
func unlock(ctx context.Context, storage Storage, name string) error {
	ctx, cancel := context.WithTimeout(ctx, unlockTimeout)
	defer cancel()
	return storage.Unlock(ctx, name)
}
