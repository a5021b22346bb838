// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"errors"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

func TestNotices(t *testing.T) {
	storage := new(vaulttest.Memory)
	v := open(t, storage, key(1))
	one := vault.Notice{AppID: "wxaaaaaaaaaaaaaaaa", ID: "0123456789abcdef0123456789abcdef"}
	two := vault.Notice{AppID: "wxaaaaaaaaaaaaaaaa", ID: "ffffffffffffffffffffffffffffffff"}
	for _, n := range []vault.Notice{one, two, one} {
		if err := v.PublishNotice(t.Context(), component, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := storage.Store(t.Context(), "wechat/"+component+"/news/temporary", nil); err != nil {
		t.Fatal(err)
	}
	told, err := v.Notices(t.Context(), component)
	if err != nil || len(told) != 2 {
		t.Errorf("told %v, %v", told, err)
	}
	for range 2 {
		if err := v.DeleteNotice(t.Context(), component, one); err != nil {
			t.Fatal(err)
		}
	}
	if told, err := v.Notices(t.Context(), component); err != nil || len(told) != 1 || told[0] != two {
		t.Errorf("after one was forgotten: %v, %v", told, err)
	}
	if told, err := v.Notices(t.Context(), "wxffffffffffffffff"); err != nil || len(told) != 0 {
		t.Errorf("another component's: %v, %v", told, err)
	}
}

// Names are parts of storage keys, which storages do not check.
func TestNoticesWithBadNames(t *testing.T) {
	storage := new(vaulttest.Memory)
	v := open(t, storage, key(1))
	for _, n := range []vault.Notice{
		{}, {AppID: "../../x", ID: "0123456789abcdef0123456789abcdef"}, {AppID: "wxaaaaaaaaaaaaaaaa", ID: "short"},
		{AppID: "wxaaaaaaaaaaaaaaaa", ID: "../0123456789abcdef0123456789abc"}, {AppID: "wxaaaaaaaaaaaaaaaa"},
	} {
		if err := v.PublishNotice(t.Context(), component, n); err == nil || errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("%v: %v", n, err)
		}
	}
	if _, err := v.Notices(t.Context(), "../x"); err == nil {
		t.Error("a component that is no appid was taken")
	}
	if files := storage.Files(); len(files) != 0 {
		t.Errorf("%d files were stored", len(files))
	}
}
