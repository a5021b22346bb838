// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics/metricstest"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Faults of the storage. Each begins and returns what ends it.

// fails lets operations fail.
func fails(broken ...vaulttest.Op) func(tr *trial) (repair func()) {
	return func(tr *trial) func() {
		tr.storage.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if slices.Contains(broken, op) {
				return errors.New("no such luck")
			}
			return nil
		})
		return tr.repairStorage
	}
}

// lockHangs: somebody holds every lock, and the storage waits for 20 s.
func lockHangs(tr *trial) (repair func()) {
	tr.storage.Intercept(func(ctx context.Context, op vaulttest.Op, _ string) error {
		if op != vaulttest.Lock {
			return nil
		}
		select {
		case <-time.After(20 * time.Second):
			return errors.New("still locked")
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return tr.repairStorage
}

// stalls: tickets are spared, for which WeChat waits only 5 s, and the release
// of locks, for which the gateway does.
func stalls(tr *trial) (repair func()) {
	tr.storage.Intercept(func(ctx context.Context, op vaulttest.Op, name string) error {
		if op != vaulttest.Unlock && !strings.Contains(name, "ticket") {
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
			}
		}
		return nil
	})
	return tr.repairStorage
}

// locksLost: by the time a record is written, its lock has run out.
func locksLost(tr *trial) (repair func()) {
	tr.storage.Intercept(func(ctx context.Context, op vaulttest.Op, name string) error {
		for suffix, lock := range map[string]string{"component.json": "component", theShop + ".json": theShop} {
			if op == vaulttest.Store && strings.HasSuffix(name, suffix) {
				return tr.storage.Unlock(ctx, "wechat_"+theComponent+"_"+lock)
			}
		}
		return nil
	})
	return tr.repairStorage
}

// damaged changes the files whose names end so.
func damaged(suffix string, change func([]byte) []byte) func(tr *trial) (repair func()) {
	return func(tr *trial) func() {
		for name, file := range tr.storage.Files() {
			if strings.HasSuffix(name, suffix) {
				tr.storage.Put(name, change(file))
			}
		}
		return func() {}
	}
}

func cutOff(file []byte) []byte { return file[:len(file)/2] }
func emptied(_ []byte) []byte   { return nil }
func garbled(file []byte) []byte {
	return bytes.Replace(file, []byte(`"box":"`), []byte(`"box":"AAAA`), 1)
}
func newer(file []byte) []byte {
	return bytes.Replace(file, []byte(`"schema":1`), []byte(`"schema":2`), 1)
}

// otherKey stays: what cannot be opened is rebuilt under the new one.
func otherKey(tr *trial) (repair func()) {
	tr.node.settings.Store(tr.settings(2))
	return func() {}
}

// gone: a folder that is not mounted looks like one in which nothing is. What
// is written meanwhile is not seen again.
func gone(tr *trial) (repair func()) {
	files := tr.storage.Files()
	for name := range files {
		tr.must(tr.storage.Delete(tr.Context(), name))
	}
	return func() {
		for name, file := range files {
			tr.storage.Put(name, file)
		}
	}
}

// operations is how often the storage was asked for anything.
func (tr *trial) operations() (n int) {
	for _, op := range []vaulttest.Op{vaulttest.Load, vaulttest.Store, vaulttest.Lock, vaulttest.Unlock, vaulttest.Delete, vaulttest.List} {
		n += tr.storage.Count(op)
	}
	return n
}

// failures is what the metric of storage failures counts, by operation.
func failures(tr *trial) map[string]float64 {
	all := make(map[string]float64)
	for _, operation := range []string{"lock", "unlock", "store", "load", "delete", "list", "open"} {
		all[operation] = metricstest.Value(tr.T, "caddy_wechat_storage_failures_total", operation)
	}
	return all
}

func unstoredNow(tr *trial) float64 { return metricstest.Value(tr.T, "caddy_wechat_unstored_records") }

// nothingLost checks that every file found at first still stands, stands
// aside, or has given way to a newer one.
func (tr *trial) nothingLost(found map[string][]byte, untouched bool) {
	tr.Helper()
	now := tr.storage.Files()
	for name, file := range found {
		if bytes.Equal(now[name], file) || strings.Contains(name, "/news/") {
			continue
		}
		if untouched {
			tr.Errorf("%s was overwritten", name)
			continue
		}
		aside := false
		for other, copied := range now {
			aside = aside || strings.HasPrefix(other, name+".unreadable-") && bytes.Equal(copied, file)
		}
		if !aside && !newerIn(tr, name, found, now) {
			tr.Errorf("%s was overwritten with less", name)
		}
	}
}

// newerIn reports whether what stands under name is newer in now than in before.
func newerIn(tr *trial, name string, before, now map[string][]byte) bool {
	if strings.HasSuffix(name, "/ticket.json") {
		old, err := vaultOf(tr, before).LoadTicket(tr.Context(), theComponent)
		ticket, failed := vaultOf(tr, now).LoadTicket(tr.Context(), theComponent)
		return err == nil && failed == nil && !ticket.CreateTime.Before(old.CreateTime)
	}
	who := platform
	if strings.HasSuffix(name, theShop+".json") {
		who = shop
	}
	old, err := vaultOf(tr, before).Load(tr.Context(), who)
	record, failed := vaultOf(tr, now).Load(tr.Context(), who)
	return err == nil && failed == nil && record.Generation > old.Generation && (record.Refresh != nil) == (old.Refresh != nil)
}

// vaultOf reads files with the key of the world.
func vaultOf(tr *trial, files map[string][]byte) *vault.Vault {
	storage := new(vaulttest.Memory)
	for name, file := range files {
		storage.Put(name, file)
	}
	return (&world{T: tr.T, storage: storage, log: zap.NewNop()}).settings(1).Vault
}

// stands checks that the record holds the tokens that WeChat takes.
func (tr *trial) stands() {
	tr.Helper()
	record, err := tr.node.settings.Load().Vault.Load(tr.Context(), shop)
	tr.must(err)
	if record.Refresh.Reveal() != tr.weixin.ValidToken(sandbox.KindRefresh, theShop) ||
		record.Token.Reveal() != tr.weixin.ValidToken(sandbox.KindAuthorizer, theShop) {
		tr.Error("other tokens are stored than WeChat has given")
	}
}
