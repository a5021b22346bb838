// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// forgetful is a storage that says that nothing is there when it cannot be reached: for
// the next operations as many as it is told.
type forgetful struct {
	*vaulttest.Client
	away int
}

func (f *forgetful) isAway() bool {
	f.away--
	return f.away >= 0
}

func (f *forgetful) Load(ctx context.Context, key string) ([]byte, error) {
	if f.isAway() || ctx.Err() != nil {
		return nil, fs.ErrNotExist
	}
	return f.Client.Load(ctx, key)
}

func (f *forgetful) List(ctx context.Context, path string, recursive bool) ([]string, error) {
	if f.isAway() {
		return nil, errors.New("connection refused")
	}
	return f.Client.List(ctx, path, recursive)
}

// A storage that cannot be reached has not forgotten what is stored, whatever it says.
func TestAStorageThatIsAwayHasForgottenNothing(t *testing.T) {
	storage := &forgetful{Client: new(vaulttest.Memory).NewClient()}
	reloadable := vault.NewReloadable(vault.NewConfigStorage(t.Context(), storage))
	if err := reloadable.Store(t.Context(), "wechat/key", []byte("value")); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		away  int
		key   string
		value string
		gone  bool
	}{{0, "wechat/key", "value", false}, {1, "wechat/key", "value", false}, {2, "wechat/key", "", false}, {0, "wechat/other", "", true}, {2, "wechat/other", "", false}} {
		storage.away = row.away
		value, err := reloadable.Load(t.Context(), row.key)
		if string(value) != row.value || errors.Is(err, fs.ErrNotExist) != row.gone || err == nil != (row.value != "") {
			t.Errorf("%s, away for %d operations: %q, %v", row.key, row.away, value, err)
		}
	}
	storage.away = 0
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := reloadable.Load(ended, "wechat/key"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("out of time: %v", err)
	}
}
