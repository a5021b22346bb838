// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

func probed(storage *vaulttest.Memory) *vault.Vault {
	return vault.New(func() vault.Storage { return storage }, func(string) *vault.Keyring { return nil })
}

func TestProbeLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := new(vaulttest.Memory)
		storage.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == vaulttest.Load {
				time.Sleep(3 * time.Second)
			}
			return nil
		})
		p, err := probed(storage).Probe(t.Context())
		if err != nil || p.Slowest != "loading" || p.Took != 3*time.Second {
			t.Errorf("%+v, %v", p, err)
		}
		if left := storage.Files(); len(left) != 0 || len(storage.Locked()) != 0 {
			t.Errorf("there is %v, and locked is %v", left, storage.Locked())
		}
		for op, want := range map[vaulttest.Op]int{vaulttest.Lock: 1, vaulttest.Unlock: 1, vaulttest.Store: 1, vaulttest.Load: 1, vaulttest.Delete: 1} {
			if got := storage.Count(op); got != want {
				t.Errorf("%s: %d times, want %d", op, got, want)
			}
		}
	})
}

func TestProbeNamesTheOperationThatFails(t *testing.T) {
	for op, want := range map[vaulttest.Op]string{
		vaulttest.Lock: "locking", vaulttest.Store: "storing", vaulttest.Load: "loading", vaulttest.Delete: "deleting",
	} {
		synctest.Test(t, func(t *testing.T) {
			storage := new(vaulttest.Memory)
			storage.Intercept(func(_ context.Context, got vaulttest.Op, _ string) error {
				if got == op {
					return fs.ErrPermission
				}
				return nil
			})
			_, err := probed(storage).Probe(t.Context())
			if !errors.Is(err, vault.ErrUnavailable) || !errors.Is(err, fs.ErrPermission) || !strings.HasPrefix(err.Error(), want+" wechat") {
				t.Errorf("%s fails: %v", op, err)
			}
			if len(storage.Locked()) != 0 {
				t.Errorf("%s fails: locked is %v", op, storage.Locked())
			}
			if left := len(storage.Files()); left != 0 && op != vaulttest.Delete {
				t.Errorf("%s fails: %d files are left", op, left)
			}
		})
	}
}

// A storage that loses what it has taken, as one over two servers that do not know of
// each other, fails no operation.
func TestProbeReadsWhatItHasStored(t *testing.T) {
	storage := new(vaulttest.Memory)
	storage.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
		if op == vaulttest.Load {
			storage.Put(name, []byte("of another"))
		}
		return nil
	})
	if _, err := probed(storage).Probe(t.Context()); !errors.Is(err, vault.ErrUnavailable) || !strings.Contains(err.Error(), "something else") {
		t.Error(err)
	}
}
