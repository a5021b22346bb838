// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// What an operator is told of the storage is what it did, and whether it has answered at
// all since the start.
func TestStorageHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failure error
		storage := new(vaulttest.Memory)
		storage.Intercept(func(context.Context, vaulttest.Op, string) error { return failure })
		metered := metrics.NewStorage(storage, zap.NewNop)
		want := func(what string, answered bool, success, failed time.Time, operation string) {
			t.Helper()
			h := metered.Health()
			if h.Answered() != answered || !h.LastSuccess.Equal(success) || !h.LastFailure.Equal(failed) || h.Operation != operation {
				t.Errorf("%s: %+v", what, h)
			}
		}
		never := time.Time{}
		want("nothing was asked", false, never, never, "")
		failure = context.Canceled
		_ = metered.Store(t.Context(), "x", nil)
		want("nobody has waited for an answer", false, never, never, "")
		failure = errors.New("disk full")
		_ = metered.Store(t.Context(), "x", nil)
		first := time.Now()
		want("a failure", false, never, first, "store")
		time.Sleep(time.Minute)
		failure = fs.ErrNotExist
		_, _ = metered.Load(t.Context(), "x")
		answered := time.Now()
		want("that a key is not there is an answer", true, answered, first, "store")
		time.Sleep(time.Second / 2)
		failure = nil
		_ = metered.Store(t.Context(), "x", nil)
		want("another within the second", true, answered, first, "store")
		time.Sleep(time.Second / 2)
		_ = metered.Lock(t.Context(), "x")
		want("a second later", true, time.Now(), first, "store")
		failure = errors.New("gone")
		_ = metered.Unlock(t.Context(), "x")
		want("another failure", true, time.Now(), time.Now(), "unlock")
		failed := time.Now()
		time.Sleep(time.Millisecond)
		failure = nil
		_ = metered.Store(t.Context(), "x", nil)
		want("an answer soon after a failure", true, time.Now(), failed, "unlock")
	})
}
