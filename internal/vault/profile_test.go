// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

const profileFile = "wechat/wx0123456789abcdef/profiles/10/wxfedcba9876543210.json"

var fullProfile = vault.Profile{
	UserName: "gh_0123456789ab", Name: "示例", Principal: "示例科技有限公司", Kind: "official_account", Functions: []int{1, 2}, Learned: at(5),
}

func TestProfiles(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	if _, err := v.LoadProfile(t.Context(), account); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	if err := v.StoreProfile(t.Context(), account, fullProfile); err != nil {
		t.Fatal(err)
	}
	got, err := v.LoadProfile(t.Context(), account)
	if diff := cmp.Diff(fullProfile, got); err != nil || diff != "" {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	files := memory.Files()
	if len(files) != 1 || files[profileFile] == nil || bytes.Contains(files[profileFile], []byte("gh_")) {
		t.Errorf("files are %q", files)
	}
	if appids, err := v.List(t.Context(), component); err != nil || len(appids) != 0 {
		t.Errorf("a profile alone is listed as an account: %v, %v", appids, err)
	}
	for _, s := range []subject.Subject{subject.Of(component, ""), component + "/../../x", subject.Of("..", authorizer)} {
		if err := v.StoreProfile(t.Context(), s, fullProfile); err == nil {
			t.Errorf("%q has got a profile", s)
		}
		if _, err := v.LoadProfile(t.Context(), s); err == nil || errors.Is(err, vault.ErrNotFound) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// A profile that does not open is kept aside, but that of a newer release is left alone.
func TestProfilesThatDoNotOpen(t *testing.T) {
	for name, row := range map[string]struct {
		file     func(good []byte) []byte
		replaced bool
	}{
		"of another key":     {func([]byte) []byte { return []byte(`{"schema":1,"key":"0000000000000000","box":"AAAA"}`) }, true},
		"damaged":            {func(good []byte) []byte { return good[:len(good)/2] }, true},
		"of a newer release": {func(good []byte) []byte { return bytes.Replace(good, []byte(`"schema":1`), []byte(`"schema":2`), 1) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			memory := new(vaulttest.Memory)
			v := open(t, memory, key(1))
			if err := v.StoreProfile(t.Context(), account, fullProfile); err != nil {
				t.Fatal(err)
			}
			file := row.file(memory.Files()[profileFile])
			memory.Put(profileFile, file)
			err := v.StoreProfile(t.Context(), account, fullProfile)
			if row.replaced != (err == nil) || !row.replaced && !errors.Is(err, vault.ErrNewer) {
				t.Errorf("storing: %v", err)
			}
			asIs := 0
			files := memory.Files()
			for _, each := range files {
				if bytes.Equal(each, file) {
					asIs++
				}
			}
			if asIs != 1 || row.replaced == bytes.Equal(files[profileFile], file) {
				t.Errorf("files are %q", files)
			}
		})
	}
}

// To replace a profile costs one look at the one before.
func TestStoringAProfileReadsOnce(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	for range 2 {
		before := memory.Count(vaulttest.Load)
		if err := v.StoreProfile(t.Context(), account, fullProfile); err != nil {
			t.Fatal(err)
		}
		if read := memory.Count(vaulttest.Load) - before; read != 1 {
			t.Errorf("read %d times", read)
		}
	}
}

// A profile has a lock of its own: a record is locked while its token is renewed.
func TestTheLockOfAProfile(t *testing.T) {
	v := open(t, new(vaulttest.Memory), key(1))
	unlockRecord, err := v.Lock(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := v.LockProfile(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unlock(), unlockRecord()); err != nil {
		t.Error(err)
	}
}
