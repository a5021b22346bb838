// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Storage is a storage whose failures are counted, and said in the log every ten
// minutes for each operation, so that nobody else has to. That a key is not there
// is no failure, nor that somebody did not wait for a lock.
type Storage struct {
	vault.Storage
	log  func() *zap.Logger
	said map[string]*rate.Sometimes // operation → when it is said that it fails
}

// operations are the names of what a storage does, in logs and metrics.
func operations() []string { return []string{"lock", "unlock", "store", "load", "delete", "list"} }

// NewStorage returns a storage that counts what fails in another one. It calls log
// whenever it has something to say; the function must be safe for concurrent use.
func NewStorage(storage vault.Storage, log func() *zap.Logger) Storage {
	s := Storage{storage, log, make(map[string]*rate.Sometimes)}
	for _, operation := range operations() {
		s.said[operation] = &rate.Sometimes{Interval: 10 * time.Minute}
	}
	return s
}

func (s Storage) metered(operation string, err error) error {
	missing := errors.Is(err, fs.ErrNotExist) && operation != "unlock" // a lock that is not there was lost
	if err != nil && !missing && !errors.Is(err, context.Canceled) {
		StorageFailures.WithLabelValues(operation).Inc()
		s.said[operation].Do(func() {
			s.log().Error("storage fails", zap.String("operation", operation), zap.Error(err),
				zap.String("remedy", "check Caddy's storage: meanwhile only tokens in memory are served, until they expire"))
		})
	}
	return err
}

func (s Storage) Lock(ctx context.Context, name string) error {
	return s.metered("lock", s.Storage.Lock(ctx, name))
}

func (s Storage) Unlock(ctx context.Context, name string) error {
	return s.metered("unlock", s.Storage.Unlock(ctx, name))
}

func (s Storage) Store(ctx context.Context, key string, value []byte) error {
	return s.metered("store", s.Storage.Store(ctx, key, value))
}

func (s Storage) Load(ctx context.Context, key string) ([]byte, error) {
	value, err := s.Storage.Load(ctx, key)
	return value, s.metered("load", err)
}

func (s Storage) Delete(ctx context.Context, key string) error {
	return s.metered("delete", s.Storage.Delete(ctx, key))
}

func (s Storage) List(ctx context.Context, path string, recursive bool) ([]string, error) {
	keys, err := s.Storage.List(ctx, path, recursive)
	return keys, s.metered("list", err)
}
