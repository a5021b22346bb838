// SPDX-License-Identifier: Apache-2.0

package census

import (
	"bytes"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

const component = "wx0123456789abcdef"

// world is a storage, a node with a Census, and another node without one.
type world struct {
	*testing.T
	storage    *vaulttest.Memory
	own, other *vault.Vault
	census     *Census
	gone       atomic.Bool // the component is no longer configured
}

// play runs test in a bubble of testing/synctest, with a Census that works in the
// background.
func play(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, storage: new(vaulttest.Memory)}
		ring, err := vault.NewKeyring(bytes.Repeat([]byte{1}, vault.KeySize))
		w.must(err)
		open := func() *vault.Vault {
			return vault.New(func() vault.Storage { return w.storage }, func(string) *vault.Keyring { return ring })
		}
		w.own, w.other = open(), open()
		w.census = New(func() *vault.Vault { return w.own }, func() []string {
			if w.gone.Load() {
				return nil
			}
			return []string{component}
		}, zap.NewNop)
		w.own.Changed = w.census.Changed
		w.census.Run(t.Context())
		t.Cleanup(w.census.Close)
		test(w)
	})
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// account is the n-th of the accounts, which are spread over the shards.
func account(n int) string { return fmt.Sprintf("wx%015x%x", n/16, n%16) }

// record returns the record of an account with this standing.
func record(st vault.Standing) vault.Record {
	r := vault.Record{Refresh: secret.New("r"), TroubleSince: time.Now()}
	switch st {
	case vault.Withdrawn:
		r.State, r.EventTime = vault.Unauthorized, time.Now()
	case vault.NeedsAdmin:
		r.Trouble = vault.NeedsAuthorization
	case vault.Failing:
		r.Trouble = vault.RenewalsFail
	}
	return r
}

// store gives an account this standing, by one of the nodes.
func (w *world) store(by *vault.Vault, appid string, st vault.Standing) {
	w.Helper()
	who := subject.Of(component, appid)
	stored, _ := by.Load(w.Context(), who)
	r := record(st)
	r.Generation = stored.Generation
	_, err := by.Store(w.Context(), who, r)
	w.must(err)
}

// fill stores n accounts that are authorized, by the other node.
func (w *world) fill(n int) (all []string) {
	w.Helper()
	for i := range n {
		w.store(w.other, account(i), vault.Stands)
		all = append(all, account(i))
	}
	return all
}

// count waits until all accounts were counted.
func (w *world) count() {
	w.Helper()
	w.census.Counts(component)
	time.Sleep(time.Second)
	synctest.Wait()
	if _, counted := w.census.Counts(component); !counted {
		w.Fatal("not counted")
	}
}

func (w *world) counts(want Counts) {
	w.Helper()
	if got, _ := w.census.Counts(component); got != want {
		w.Errorf("counts are %+v, want %+v", got, want)
	}
}

// pages turns all pages and returns what stands on them.
func (w *world) pages(limit int, turn func(after string) ([]string, bool, error)) (all []string) {
	w.Helper()
	for after := ""; ; {
		appids, more, err := turn(after)
		w.must(err)
		if len(appids) > limit || more && len(appids) < limit {
			w.Fatalf("%d accounts on a page of %d, more is %t", len(appids), limit, more)
		}
		all = append(all, appids...)
		if !more {
			return all
		}
		after = appids[len(appids)-1]
	}
}

// listed are all accounts that pages show.
func (w *world) listed(limit int) []string {
	w.Helper()
	return w.pages(limit, func(after string) ([]string, bool, error) {
		return w.census.Page(w.Context(), component, after, limit)
	})
}

// noted are all accounts that pages of a standing show.
func (w *world) noted(st vault.Standing, limit int) []string {
	w.Helper()
	return w.pages(limit, func(after string) ([]string, bool, error) {
		return w.census.Noted(w.Context(), component, st, after, limit)
	})
}

func (w *world) same(got, want []string) {
	w.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		w.Errorf("%d accounts are shown, %d stand in the storage: %.200v, %.200v", len(got), len(want), got, want)
	}
}
