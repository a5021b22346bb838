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
	// unlockTimeout bounds the release of a lock.
	unlockTimeout = 5 * time.Second

	// A lock that could not be released is tried again for unlockRetryTimeout: file
	// storage keeps the locks of a living process alive, with a write every
	// five seconds. If none succeeds by then that has ended, and the lock
	// expires five seconds later at the earliest. Somebody else's is released
	// here only where a release has acted and reported a failure; Merge makes
	// that harmless as well.
	unlockRetryTimeout  = 5 * time.Second
	unlockRetryInterval = 100 * time.Millisecond

	// patience is how long a lock is waited for before it is taken from its
	// owner. Every storage frees the locks of a dead process by itself, within
	// about ten seconds, with one exception: what keeps the lock file of a
	// living process fresh goes on for some seconds after its release, and if
	// another process takes the same lock in these and is killed, for ever
	// (certmagic's FileStorage). An owner hardly ever needs as long; if one
	// does, two of them renew a token, and Merge decides.
	patience = 12 * time.Second
	// spread keeps those who wait on several nodes from breaking the lock of
	// the one among them that was faster.
	spread = 2 * time.Second
	// minPatience is for those who cannot wait as long, such as a push,
	// which WeChat gives five seconds.
	minPatience = 3 * time.Second
	// ticketPatience is after how long a ticket is stored without a lock.
	ticketPatience = 3 * time.Second
	// queuePatience is for the locks of queues, whose owners deliver.
	queuePatience = 10 * time.Minute
)

// Lock waits until this node, and this caller on it, may change the record of
// s, or until ctx ends (ErrUnavailable). As with every storage lock, it can be
// lost while it is held; Merge is what makes that harmless. Therefore one that
// does not come free is broken, after twelve to fourteen seconds, or after
// three quarters of the time that ctx leaves, if these are three seconds.
//
// unlock releases it, on the storage it was taken from and also after ctx has
// ended, within five seconds. Its error means that others must wait until the
// lock expires. Calling it again does nothing.
func (v *Vault) Lock(ctx context.Context, s subject.Subject) (unlock func() error, err error) {
	name, err := recordLock(s)
	if err != nil {
		return nil, err
	}
	return v.lock(ctx, v.storage(), name, patience+rand.N(spread))
}

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
		if !errors.Is(err, fs.ErrNotExist) { // then it has expired, and may be another's
			go unlockLater(ctx, storage, name)
		}
		return unavailable("unlocking", name, err)
	}), nil
}

// isTorn reports whether a lock cannot be read: a process was killed while it
// wrote its file.
func isTorn(err error) bool {
	var syntax *json.SyntaxError
	return errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF)
}

// breakLock takes a lock from whoever holds it.
func (v *Vault) breakLock(ctx context.Context, storage Storage, name string) {
	if ctx.Err() != nil {
		return
	}
	if unlock(ctx, storage, name) == nil && v.Broken != nil {
		v.Broken(name)
	}
}

func unlockLater(ctx context.Context, storage Storage, name string) {
	for end := time.Now().Add(unlockRetryTimeout); time.Now().Before(end); {
		time.Sleep(unlockRetryInterval)
		if err := unlock(ctx, storage, name); err == nil || errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

func unlock(ctx context.Context, storage Storage, name string) error {
	ctx, cancel := context.WithTimeout(ctx, unlockTimeout)
	defer cancel()
	return storage.Unlock(ctx, name)
}
