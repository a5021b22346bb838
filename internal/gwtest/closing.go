// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"
)

func init() { caddy.RegisterModule(new(closingStorage)) }

// closingStorage is a folder that is as strict as a Redis client: when Caddy has
// cleaned it up it refuses everything, and a lock that is still held then is never
// released. Both are mistakes of the gateway, which end the test; what Caddy itself
// does in its storage is not looked at.
type closingStorage struct {
	Root string `json:"root,omitempty"`

	files  *certmagic.FileStorage
	mu     sync.Mutex // guards all below
	closed bool
	locks  map[string]bool
}

// readOnly are the roots of closingStorages that are read-only now.
var readOnly sync.Map

// ReadOnlyStorage makes the storage refuse every change, as a file system that is mounted
// read-only, until writable is called.
func (g *Gateway) ReadOnlyStorage() (writable func()) {
	readOnly.Store(g.Storage, true)
	return func() { readOnly.Delete(g.Storage) }
}

// misuses are the mistakes of all closingStorages of the process.
var misuses struct {
	mu  sync.Mutex
	all []string
}

func misused(what string) {
	misuses.mu.Lock()
	defer misuses.mu.Unlock()
	misuses.all = append(misuses.all, what)
}

// takeMisuses returns the mistakes since the last call.
func takeMisuses() (all []string) {
	misuses.mu.Lock()
	defer misuses.mu.Unlock()
	all, misuses.all = misuses.all, nil
	return all
}

func (*closingStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.gwtest_closing", New: func() caddy.Module { return new(closingStorage) }}
}

// UnmarshalCaddyfile reads gwtest_closing <root>.
func (s *closingStorage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&s.Root) {
		return d.ArgErr()
	}
	return nil
}

func (s *closingStorage) Provision(caddy.Context) error {
	s.files, s.locks = &certmagic.FileStorage{Path: s.Root}, make(map[string]bool)
	return nil
}

func (s *closingStorage) CertMagicStorage() (certmagic.Storage, error) { return s, nil }

// Cleanup closes the storage.
func (s *closingStorage) Cleanup() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for name := range s.locks {
		if strings.HasPrefix(name, "wechat_") {
			misused("lock " + name + " was held when its storage was closed")
		}
	}
	return nil
}

// change is open for an operation that changes something.
func (s *closingStorage) change(operation, name string) error {
	if _, refused := readOnly.Load(s.Root); refused {
		return fs.ErrPermission
	}
	return s.open(operation, name)
}

// open returns an error if the storage is closed.
func (s *closingStorage) open(operation, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		return nil
	}
	if strings.HasPrefix(name, "wechat") {
		misused(operation + " " + name + " in a storage that was closed")
	}
	return errors.New("the storage is closed")
}

func (s *closingStorage) Lock(ctx context.Context, name string) error {
	if err := s.change("lock", name); err != nil {
		return err
	}
	if err := s.files.Lock(ctx, name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locks[name] = true
	return nil
}

func (s *closingStorage) Unlock(ctx context.Context, name string) error {
	if err := s.open("unlock", name); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.locks, name)
	s.mu.Unlock()
	return s.files.Unlock(ctx, name)
}

func (s *closingStorage) Store(ctx context.Context, key string, value []byte) error {
	if err := s.change("store", key); err != nil {
		return err
	}
	return s.files.Store(ctx, key, value)
}

func (s *closingStorage) Load(ctx context.Context, key string) ([]byte, error) {
	if err := s.open("load", key); err != nil {
		return nil, err
	}
	return s.files.Load(ctx, key)
}

func (s *closingStorage) Delete(ctx context.Context, key string) error {
	if err := s.change("delete", key); err != nil {
		return err
	}
	return s.files.Delete(ctx, key)
}

func (s *closingStorage) Exists(ctx context.Context, key string) bool {
	return s.open("exists", key) == nil && s.files.Exists(ctx, key)
}

func (s *closingStorage) List(ctx context.Context, path string, recursive bool) ([]string, error) {
	if err := s.open("list", path); err != nil {
		return nil, err
	}
	return s.files.List(ctx, path, recursive)
}

func (s *closingStorage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	if err := s.open("stat", key); err != nil {
		return certmagic.KeyInfo{}, err
	}
	return s.files.Stat(ctx, key)
}

// reportMisuses ends the test if a closed storage was used.
func (g *Gateway) reportMisuses() {
	g.t.Helper()
	all := takeMisuses()
	slices.Sort(all)
	for _, what := range slices.Compact(all) {
		g.t.Error(what)
	}
}

var (
	_ caddy.StorageConverter = (*closingStorage)(nil)
	_ caddy.Provisioner      = (*closingStorage)(nil)
	_ caddy.CleanerUpper     = (*closingStorage)(nil)
	_ caddyfile.Unmarshaler  = (*closingStorage)(nil)
	_ certmagic.Storage      = (*closingStorage)(nil)
)
