// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
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
	log    func() *zap.Logger
	said   map[string]*rate.Sometimes // operation → when it is said that it fails
	health *health
}

// StorageHealth is how a storage has answered since the start of the process.
type StorageHealth struct {
	// LastSuccess is when it has answered last, within a second; zero if it never has.
	// That a key is not there is an answer. It is before LastFailure only as long as the
	// last operation has failed.
	LastSuccess time.Time
	// LastFailure is when an operation has failed last, and Operation which one, such as
	// store; zero and "" if none has.
	LastFailure time.Time
	Operation   string
}

// Answered reports whether the storage has answered since the start of the process.
func (h StorageHealth) Answered() bool { return !h.LastSuccess.IsZero() }

// health is what a StorageHealth is made from.
type health struct {
	success atomic.Int64 // Unix time in nanoseconds, 0 for none
	failure atomic.Pointer[failedOperation]
}

type failedOperation struct {
	at   time.Time
	name string
}

// succeeded notes an answer. Operations are frequent, so it writes once a second, and at
// once only after a failure.
func (h *health) succeeded(now time.Time) {
	last, failed := h.success.Load(), h.failure.Load()
	if now.UnixNano()-last >= int64(time.Second) || failed != nil && failed.at.UnixNano() >= last {
		h.success.Store(now.UnixNano())
	}
}

// Health returns how the storage has answered. It does not ask it, and never waits.
func (s Storage) Health() (h StorageHealth) {
	if at := s.health.success.Load(); at != 0 {
		h.LastSuccess = time.Unix(0, at)
	}
	if failed := s.health.failure.Load(); failed != nil {
		h.LastFailure, h.Operation = failed.at, failed.name
	}
	return h
}

// operations are the names of what a storage does, in logs and metrics.
func operations() []string { return []string{"lock", "unlock", "store", "load", "delete", "list"} }

// NewStorage returns a storage that counts what fails in another one. It calls log
// whenever it has something to say; the function must be safe for concurrent use.
func NewStorage(storage vault.Storage, log func() *zap.Logger) Storage {
	s := Storage{storage, log, make(map[string]*rate.Sometimes), new(health)}
	for _, operation := range operations() {
		s.said[operation] = &rate.Sometimes{Interval: 10 * time.Minute}
	}
	return s
}

func (s Storage) metered(operation string, err error) error {
	missing := errors.Is(err, fs.ErrNotExist) && operation != "unlock" // a lock that is not there was lost
	switch {
	case err == nil || missing:
		s.health.succeeded(time.Now())
	case !errors.Is(err, context.Canceled): // nobody waits for the answer any more
		s.health.failure.Store(&failedOperation{time.Now(), operation})
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
