// SPDX-License-Identifier: Apache-2.0

// Package vaulttest has a storage in memory for tests, whose failures can be
// chosen.
package vaulttest

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
)

// Op is an operation of a storage.
type Op string

// The operations of Memory.
const (
	Lock   Op = "lock"
	Unlock Op = "unlock"
	Store  Op = "store"
	Load   Op = "load"
	Delete Op = "delete"
	List   Op = "list"
)

// Memory is a storage like certmagic's, in memory. It is as strict as a real
// one may be: it honours every context, hands out copies, lists folders too,
// and Lock really blocks, on a channel, so that it works in a bubble of
// testing/synctest. The zero value is empty and ready for use.
type Memory struct {
	mu    sync.Mutex // guards all below; never held while waiting
	files map[string][]byte
	locks map[string]chan struct{} // name → holds one element while locked
	count map[Op]int
	hook  func(ctx context.Context, op Op, name string) error
}

// Intercept lets hook run before every operation from now on; nil ends that.
// An error of hook becomes the operation's result. Hook may block, to imitate
// a storage that hangs; name is a key or the name of a lock.
func (m *Memory) Intercept(hook func(ctx context.Context, op Op, name string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = hook
}

// Count returns how often op was called, failures included.
func (m *Memory) Count(op Op) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count[op]
}

// Files returns a copy of all that is stored, uncounted and without the hook.
func (m *Memory) Files() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	files := make(map[string][]byte, len(m.files))
	for key, value := range m.files {
		files[key] = bytes.Clone(value)
	}
	return files
}

// Put stores value as is, uncounted and without the hook.
func (m *Memory) Put(key string, value []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files == nil {
		m.files = make(map[string][]byte)
	}
	m.files[key] = bytes.Clone(value)
}

// Locked returns the names of the locks that are held, sorted.
func (m *Memory) Locked() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, lock := range m.locks {
		if len(lock) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// begin counts op, runs the hook and looks at the context.
func (m *Memory) begin(ctx context.Context, op Op, name string) error {
	m.mu.Lock()
	if m.count == nil {
		m.count = make(map[Op]int)
	}
	m.count[op]++
	hook := m.hook
	m.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, op, name); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// lock returns the channel of a lock.
func (m *Memory) lock(name string) chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks == nil {
		m.locks = make(map[string]chan struct{})
	}
	if m.locks[name] == nil {
		m.locks[name] = make(chan struct{}, 1)
	}
	return m.locks[name]
}

// Lock waits for the lock or the end of ctx.
func (m *Memory) Lock(ctx context.Context, name string) error {
	if err := m.begin(ctx, Lock, name); err != nil {
		return err
	}
	select {
	case m.lock(name) <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Unlock releases the lock, whoever holds it: a test may take it away like a
// lease that has run out. It fails like file storage if nobody does.
func (m *Memory) Unlock(ctx context.Context, name string) error {
	if err := m.begin(ctx, Unlock, name); err != nil {
		return err
	}
	select {
	case <-m.lock(name):
		return nil
	default:
		return fmt.Errorf("unlocking %s: not locked: %w", name, fs.ErrNotExist)
	}
}

// Store puts value at key.
func (m *Memory) Store(ctx context.Context, key string, value []byte) error {
	if err := m.begin(ctx, Store, key); err != nil {
		return err
	}
	m.Put(key, value)
	return nil
}

// Load returns the value at key, fs.ErrNotExist if there is none.
func (m *Memory) Load(ctx context.Context, key string) ([]byte, error) {
	if err := m.begin(ctx, Load, key); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.files[key]
	if !ok {
		return nil, fmt.Errorf("loading %s: %w", key, fs.ErrNotExist)
	}
	return bytes.Clone(value), nil
}

// Delete removes the value at key, and all below it, like file storage.
func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := m.begin(ctx, Delete, key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.files, func(k string, _ []byte) bool {
		return k == key || strings.HasPrefix(k, key+"/")
	})
	return nil
}

// List returns the keys below prefix, those of folders too, or fs.ErrNotExist
// if there is nothing, like file storage.
func (m *Memory) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	if err := m.begin(ctx, List, prefix); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found := make(map[string]bool)
	for key := range m.files {
		for ; strings.HasPrefix(key, prefix+"/"); key = path.Dir(key) {
			if recursive || path.Dir(key) == prefix {
				found[key] = true
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("listing %s: %w", prefix, fs.ErrNotExist)
	}
	return slices.Sorted(maps.Keys(found)), nil
}
