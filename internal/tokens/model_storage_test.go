// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// modelStorage is the storage as one process sees it: with delays, with the
// faults of the moment, with locks that outlive a crash, and no longer there
// once the process has crashed.
type modelStorage struct{ p *process }

// staleAfter is how long the lock of a process lasts that has crashed, or that
// could not release it; about as in file system storage.
const staleAfter = 11 * time.Second

// storageTrouble is something that goes wrong with the storage for a while.
type storageTrouble struct {
	node   int // -1: on every node
	only   vaulttest.Op
	effect string // "fails", "stalls", or "acts, then fails"
	until  time.Time
}

var errDisk = errors.New("disk full")

// run runs one operation of the storage.
func (s modelStorage) run(ctx context.Context, op vaulttest.Op, name string, act func(ctx context.Context) error) error {
	effect := s.p.m.storageEffect(s.p, op)
	if effect == "" && !s.p.m.mayUseStorage(s.p) {
		return errDisk
	}
	if effect == "stalls" {
		_ = s.failed(nil) // the time to store may be up before the storage is asked
		if err := s.p.wait(ctx, 5*time.Second); err != nil {
			return s.failed(err)
		}
	}
	if err := s.p.pause(ctx, string(op)+" "+name); err != nil {
		return s.failed(err)
	}
	if effect == "fails" {
		return s.failed(errDisk)
	}
	if err := act(ctx); err != nil {
		return s.failed(err)
	}
	if err := s.p.pause(ctx, string(op)+" "+name); err != nil {
		return s.failed(err)
	}
	if effect == "acts, then fails" {
		return s.failed(errDisk)
	}
	return nil
}

// failed notes that the process could not store, and goes on without a lock
// perhaps. Who waited for a lock and needs it no longer has not failed.
func (s modelStorage) failed(err error) error {
	m := s.p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if !errors.Is(err, context.Canceled) {
		s.p.storeFailed = time.Now()
	}
	return err
}

// storageEffect is what goes wrong with an operation now.
func (m *model) storageEffect(p *process, op vaulttest.Op) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.faults {
		if time.Now().Before(f.until) && (f.node < 0 || f.node == p.node) && (f.only == "" || f.only == op) {
			m.troubled = time.Now()
			return f.effect
		}
	}
	return ""
}

func (s modelStorage) Load(ctx context.Context, key string) (value []byte, err error) {
	err = s.run(ctx, vaulttest.Load, key, func(ctx context.Context) (err error) {
		value, err = s.p.m.storage.Load(ctx, key)
		return err
	})
	return value, err
}

func (s modelStorage) Store(ctx context.Context, key string, value []byte) error {
	return s.run(ctx, vaulttest.Store, key, func(ctx context.Context) error {
		err := s.p.m.storage.Store(ctx, key, value)
		if err == nil {
			s.p.m.stored(s.p, key)
		}
		return err
	})
}

func (s modelStorage) Delete(ctx context.Context, key string) error {
	return s.run(ctx, vaulttest.Delete, key, func(ctx context.Context) error { return s.p.m.storage.Delete(ctx, key) })
}

func (s modelStorage) List(ctx context.Context, prefix string, recursive bool) (keys []string, err error) {
	err = s.run(ctx, vaulttest.List, prefix, func(ctx context.Context) (err error) {
		keys, err = s.p.m.storage.List(ctx, prefix, recursive)
		return err
	})
	return keys, err
}

// lease is a lock while a process believes that it holds it.
type lease struct {
	p    *process
	told bool // its holder knows that it has it
	lost bool
}

// Lock takes the lock. A process that crashes while it waits may get it all
// the same, and leaves it behind.
func (s modelStorage) Lock(ctx context.Context, name string) error {
	m := s.p.m
	taken := &lease{p: s.p}
	err := s.run(ctx, vaulttest.Lock, name, func(ctx context.Context) error {
		waiting, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		defer context.AfterFunc(s.p.alive, func() { stop(errCrashed) })()
		if err := m.storage.Lock(waiting, name); err != nil {
			return err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.locks[name], s.p.believes[name] = taken, taken
		return nil
	})
	if err != nil && ctx.Err() != nil && s.p.alive.Err() == nil {
		m.release(name, taken) // nobody waits for it any more
	}
	m.mu.Lock()
	taken.told = err == nil
	left := err != nil && m.locks[name] == taken
	m.mu.Unlock()
	if left {
		m.goStale(name, taken)
	}
	return err
}

// Unlock releases a lock, whoever holds it, as file storage does: whoever has
// waited too long breaks it, even if it has just come to himself. If releasing
// one's own fails, it goes stale.
func (s modelStorage) Unlock(ctx context.Context, name string) error {
	m := s.p.m
	m.mu.Lock()
	held := s.p.believes[name]
	if held != nil && !held.told {
		held = nil
	}
	m.mu.Unlock()
	err := s.run(ctx, vaulttest.Unlock, name, func(context.Context) error {
		if held != nil && m.release(name, held) || m.loseLock(name) {
			return nil
		}
		return fs.ErrNotExist
	})
	m.mu.Lock()
	left := held != nil && m.locks[name] == held
	if err != nil {
		m.lockLost = time.Now() // the vault tries again, and may meet the lock of the next
	}
	if s.p.believes[name] == held {
		delete(s.p.believes, name)
	}
	m.mu.Unlock()
	if left {
		m.goStale(name, held)
	}
	return err
}

// release frees a lock, if that lease still holds it.
func (m *model) release(name string, held *lease) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if held == nil || m.locks[name] != held {
		return false
	}
	delete(m.locks, name)
	return m.storage.Unlock(context.Background(), name) == nil
}

// lockIsLost notes that a lock was taken from its owner, who may be the one who
// did so: what it had waited for may have come to it at the same moment.
func (m *model) lockIsLost() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lockLost = time.Now()
}

func (m *model) goStale(name string, held *lease) {
	m.later(staleAfter, func() { m.release(name, held) })
}

// leaveLocks lets the locks of a process that has crashed go stale.
func (m *model) leaveLocks(p *process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, held := range m.locks {
		if held.p == p {
			m.goStale(name, held)
		}
	}
}

// loseLock takes a lock away from whoever holds it, and reports whether anybody
// did.
func (m *model) loseLock(name string) bool {
	m.lockIsLost()
	m.mu.Lock()
	held := m.locks[name]
	if held != nil {
		held.lost = true // which its holder need not know
	}
	m.mu.Unlock()
	return m.release(name, held)
}

// lockOf is the name of the lock of who, as the vault makes it.
func lockOf(who subject.Subject) string {
	if who.IsComponent() {
		return "wechat_" + who.Component() + "_component"
	}
	return "wechat_" + who.Component() + "_" + who.Authorizer()
}

// ticketKey is where the ticket is stored.
const ticketKey = "wechat/" + theComponent + "/ticket.json"

// recordOf is whose record a key names, "" if it is none's.
func recordOf(key string) subject.Subject {
	switch name := strings.TrimSuffix(path.Base(key), ".json"); {
	case !strings.HasSuffix(key, ".json"):
		return ""
	case name == "component":
		return platform
	case subject.ValidAppID(name):
		return subject.Of(theComponent, name)
	}
	return ""
}

// keyOf is where the record of who is stored, as the vault makes it.
func keyOf(who subject.Subject) string {
	if who.IsComponent() {
		return "wechat/" + who.Component() + "/component.json"
	}
	appid := who.Authorizer()
	return "wechat/" + who.Component() + "/authorizers/" + appid[len(appid)-2:] + "/" + appid + ".json"
}
