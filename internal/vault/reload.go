// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// retireTimeout is how long Retire waits for what is in progress. An
	// operation takes milliseconds; a lock is held while WeChat is asked, mostly
	// for less than a second. A reload takes that much longer at most.
	retireTimeout = 2 * time.Second
	// releaseTimeout is how long Retire then waits for the release of the locks
	// that are still held.
	releaseTimeout = time.Second
)

// errEnded wraps context.Canceled: it is no failure of the storage.
var errEnded = fmt.Errorf("the configuration of the storage has ended: %w", context.Canceled)

// Reloadable is a Storage that stays usable when the configuration changes. At a
// reload, Caddy puts another storage in force and closes the old one, without
// waiting for the work that uses it. So each operation goes to the storage that
// is in force when the operation begins. Three things can still meet a storage
// that is being closed:
//
//   - An operation in progress. Retire waits for it. If it fails all the same,
//     because it outlives that or because the storage is closed at once after a
//     failed start, it is made again with the storage in force.
//   - Waiting for a lock. It goes on with the storage in force at once.
//   - A lock that is held. It is released in the storage that has given it. If
//     its owner needs longer than Retire waits, the lock is moved: released in
//     the old storage and taken in the storage in force. In between another node
//     may take it, so its owner may lose it, as any lock, see [Vault.Lock].
//
// Both storages normally lead to the same data. If they do not, work that goes
// on writes to the one in force, even if it has read from the other.
//
// A process has one Reloadable, with one Vault over it, which lets one caller at
// a time have a lock. It is safe for concurrent use.
type Reloadable struct {
	// mu guards the fields below, and those of each ConfigStorage and heldLock.
	// It is not held during an operation.
	mu      sync.Mutex
	inForce *ConfigStorage       // never nil
	held    map[string]*heldLock // by the name of the lock
}

// ConfigStorage is the storage of one configuration.
type ConfigStorage struct {
	storage Storage
	config  context.Context // ends before Caddy closes the storage

	term    context.Context // ends when another storage is put in force; nil before it was itself
	endTerm context.CancelFunc
	retired chan struct{} // closed when Retire begins
	emptied bool          // Retire has moved the locks: no more may be held here
	users   int           // operations in progress, and locks held
	idle    chan struct{} // capacity 1; gets an element when users becomes 0
}

// heldLock is a lock that a caller has.
type heldLock struct {
	in   *ConfigStorage     // the storage that has given it; nil while it is moved, and if it was lost by that
	stop context.CancelFunc // ends the move; nil if there was none
}

// NewConfigStorage returns the storage of a configuration, whose context is
// config. Caddy cancels that context before it closes the storage.
func NewConfigStorage(config context.Context, storage Storage) *ConfigStorage {
	return &ConfigStorage{storage: storage, config: config, retired: make(chan struct{}), idle: make(chan struct{}, 1)}
}

// NewReloadable returns a Reloadable with first in force.
func NewReloadable(first *ConfigStorage) *Reloadable {
	r := &Reloadable{held: make(map[string]*heldLock)}
	r.Use(first)
	return r
}

// Use puts next in force. It does not wait. After a failed reload, next may have
// been in force before, but it must not be retired.
func (r *Reloadable) Use(next *ConfigStorage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inForce == next {
		return
	}
	if r.inForce != nil {
		r.inForce.endTerm()
	}
	next.term, next.endTerm = context.WithCancel(context.Background())
	r.inForce = next
}

// Retire returns when old may be closed. It waits for the operations in progress
// and for the release of locks, up to retireTimeout; then it moves the locks that
// are still held. If old is still in force, because no configuration follows,
// they are released instead; their owners may end their work without them. Other
// operations may then still begin in old, until its configuration ends. A second
// call for the same storage does nothing.
func (r *Reloadable) Retire(old *ConfigStorage) {
	if !r.beginRetire(old) {
		return
	}
	r.awaitIdle(old)
	var releases sync.WaitGroup
	for _, move := range r.moves(old, &releases) {
		go move()
	}
	released := make(chan struct{})
	go func() {
		releases.Wait()
		close(released)
	}()
	select {
	case <-released:
	case <-time.After(releaseTimeout):
	}
}

// beginRetire reports whether this is the first Retire of old.
func (r *Reloadable) beginRetire(old *ConfigStorage) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-old.retired:
		return false
	default:
		close(old.retired)
		return true
	}
}

// awaitIdle waits until nothing uses old, up to retireTimeout.
func (r *Reloadable) awaitIdle(old *ConfigStorage) {
	timeout := time.After(retireTimeout)
	for r.inUse(old) {
		select {
		case <-old.idle:
		case <-timeout:
			return
		}
	}
}

func (r *Reloadable) inUse(s *ConfigStorage) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.users > 0
}

// moves returns a function for each lock that is held in old, which moves it. The
// function runs until the lock is taken again or its owner has released it; it
// counts in releases until the lock is released in old. From now on no lock is
// held in old, unless it is still in force.
func (r *Reloadable) moves(old *ConfigStorage, releases *sync.WaitGroup) (moves []func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old.emptied = true
	follows := r.inForce != old
	for name, h := range r.held {
		if h.in != old {
			continue
		}
		h.in = nil
		var ctx context.Context
		ctx, h.stop = context.WithCancel(context.Background())
		releases.Add(1)
		moves = append(moves, func() {
			_ = unlock(context.WithoutCancel(ctx), old.storage, name) // if that fails, the lock expires by itself
			r.leave(old)
			releases.Done()
			if follows {
				_ = r.take(ctx, name, h, true) // if that fails, the lock is lost
			}
		})
	}
	return moves
}

// do makes one operation in the storage in force. The operation also gets the
// context that ends when another storage is put in force. If the operation fails
// after that, or after the end of the configuration, its error says nothing about
// the storage that is in force now, so it is made again there.
func (r *Reloadable) do(ctx context.Context, operation func(in *ConfigStorage, term context.Context) error) error {
	for {
		in, term, err := r.enter()
		if err == nil {
			err = operation(in, term)
			r.leave(in)
		}
		if err == nil || in.config.Err() == nil && term.Err() == nil || !r.replaced(ctx, in, term) {
			return err
		}
	}
}

// enter returns the storage in force and its term, and counts an operation in it.
// The error is errEnded, and nothing is counted, if its configuration has ended:
// it may be closed already.
func (r *Reloadable) enter() (*ConfigStorage, context.Context, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.inForce
	if in.config.Err() != nil {
		return in, in.term, errEnded
	}
	in.users++
	return in, in.term, nil
}

// leave ends what enter or hold has counted.
func (r *Reloadable) leave(in *ConfigStorage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if in.users--; in.users > 0 {
		return
	}
	select {
	case in.idle <- struct{}{}:
	default: // Retire has not seen an earlier one yet, or there is no Retire
	}
}

// replaced waits until the storage old, whose term or configuration has ended, is
// not in force any more. It reports false if no other one takes its place, or if
// ctx has ended.
func (r *Reloadable) replaced(ctx context.Context, old *ConfigStorage, term context.Context) bool {
	select {
	case <-term.Done():
	case <-old.retired:
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return ctx.Err() == nil && r.inForce != old
}

// Lock implements Storage.
func (r *Reloadable) Lock(ctx context.Context, name string) error {
	return r.take(ctx, name, new(heldLock), false)
}

// take takes a lock and notes it in h. If it is being moved, its owner may release
// it meanwhile; it is then not kept.
func (r *Reloadable) take(ctx context.Context, name string, h *heldLock, moving bool) error {
	return r.do(ctx, func(in *ConfigStorage, term context.Context) error {
		waiting, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(term, cancel)()
		if err := in.storage.Lock(waiting, name); err != nil {
			return err
		}
		if r.hold(name, h, in, moving) {
			return nil
		}
		return errors.Join(errEnded, unlock(context.WithoutCancel(ctx), in.storage, name))
	})
}

// hold notes that in has given a lock. It reports false if the lock must be
// released at once: in may be closed at any moment, or the owner of a lock that is
// moved has released it.
func (r *Reloadable) hold(name string, h *heldLock, in *ConfigStorage, moving bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if in.emptied && r.inForce != in || moving && r.held[name] != h {
		return false
	}
	h.in = in
	r.held[name] = h
	in.users++
	return true
}

// Unlock implements Storage. A lock that nobody has here belongs to another node;
// it is released in the storage in force. A lock that is held is released in its
// storage, even if that is closed: a storage may stop to renew the lock then.
func (r *Reloadable) Unlock(ctx context.Context, name string) error {
	h, in := r.drop(name)
	switch {
	case h == nil:
		return r.do(ctx, func(in *ConfigStorage, _ context.Context) error { return in.storage.Unlock(ctx, name) })
	case in == nil: // nothing is left to release, or the move will do it
		return nil
	}
	defer r.leave(in)
	return in.storage.Unlock(ctx, name)
}

// drop forgets a held lock, and ends its move. It returns nil if nobody has the
// lock, and the storage that has given it.
func (r *Reloadable) drop(name string) (*heldLock, *ConfigStorage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.held[name]
	if h == nil {
		return nil, nil
	}
	delete(r.held, name)
	if h.stop != nil {
		h.stop()
	}
	return h, h.in
}

// Store implements Storage.
func (r *Reloadable) Store(ctx context.Context, key string, value []byte) error {
	return r.do(ctx, func(in *ConfigStorage, _ context.Context) error { return in.storage.Store(ctx, key, value) })
}

// Load implements Storage.
func (r *Reloadable) Load(ctx context.Context, key string) (value []byte, err error) {
	err = r.do(ctx, func(in *ConfigStorage, _ context.Context) error {
		value, err = in.load(ctx, key)
		return err
	})
	return value, err
}

// Delete implements Storage.
func (r *Reloadable) Delete(ctx context.Context, key string) error {
	return r.do(ctx, func(in *ConfigStorage, _ context.Context) error { return in.storage.Delete(ctx, key) })
}

// List implements Storage.
func (r *Reloadable) List(ctx context.Context, path string, recursive bool) (keys []string, err error) {
	err = r.do(ctx, func(in *ConfigStorage, _ context.Context) error {
		keys, err = in.storage.List(ctx, path, recursive)
		return err
	})
	return keys, err
}

var _ Storage = (*Reloadable)(nil)
