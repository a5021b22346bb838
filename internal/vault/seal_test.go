// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// sealByHand makes a file for authorizerKey as the package comment describes
// it, without the package's help and always the same.
func sealByHand(t testing.TB, plaintext string) []byte {
	t.Helper()
	block, err := aes.NewCipher(key(1))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	box := gcm.Seal(nonce, nonce, []byte(plaintext), []byte(authorizerKey))
	id := sha256.Sum256(append([]byte("wechat vault key id "), key(1)...))
	return fmt.Appendf(nil, `{"schema":1,"key":"%x","box":%q}`, id[:8], base64.StdEncoding.EncodeToString(box))
}

const plaintext = `{"generation":7,"token":"t","obtained":"2026-11-22T12:00:00Z","expires":"2026-11-22T14:00:00Z",
	"refresh":"r","state":"unauthorized","event_time":"2026-11-22T12:01:00Z","code":"c",
	"code_expires":"2026-11-22T12:02:00Z","functions":[1,2],"of_a_later_release":true}`

// Files that were written once must open for ever.
func TestFormat(t *testing.T) {
	memory := new(vaulttest.Memory)
	memory.Put(authorizerKey, sealByHand(t, plaintext))
	got, err := open(t, memory, key(1)).Load(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	wantRecord(t, vault.Record{
		Generation: 7, Token: secret.New("t"), Obtained: at(0), Expires: at(120), Refresh: secret.New("r"),
		State: vault.Unauthorized, EventTime: at(1), Code: secret.New("c"), CodeExpires: at(2), Functions: []int{1, 2},
	}, got)
}

// TestUnreadable lists what may stand where a record should, and what happens:
// it is reported, and kept aside byte for byte before anything replaces it.
func TestUnreadable(t *testing.T) {
	seal := func(v *vault.Vault, memory *vaulttest.Memory, s subject.Subject) []byte {
		mustStore(t, v, s, full)
		for _, file := range memory.Files() {
			return file
		}
		return nil
	}
	sealed := func(fill byte) []byte {
		memory := new(vaulttest.Memory)
		return seal(open(t, memory, key(fill)), memory, account)
	}
	good := sealed(1)
	replace := func(old, new string) []byte { return bytes.Replace(good, []byte(old), []byte(new), 1) }
	memory := new(vaulttest.Memory)
	foreign := seal(open(t, memory, key(1)), memory, subject.Of(component, "wxfedcba9876543211"))

	for name, test := range map[string]struct {
		file []byte
		why  string
	}{
		"nothing but an empty file":     {[]byte{}, "not a sealed record"},
		"half a file":                   {good[:len(good)/2], "not a sealed record"},
		"another format":                {[]byte(`{"token":"SECRET"}`), "not a sealed record"},
		"a newer schema":                {replace(`"schema":1`, `"schema":2`), "newer release"},
		"another seal key":              {sealed(2), "another key"},
		"a changed box":                 {replace(`"box":"`, `"box":"AAAA`), "damaged"},
		"an empty box":                  {[]byte(`{"schema":1,"key":` + string(good[bytes.Index(good, []byte(`"key":`))+6:][:18]) + `,"box":""}`), "damaged"},
		"the record of another account": {foreign, "moved"},
		"something else inside":         {sealByHand(t, `["SECRET"]`), "inside"},
		"a state that is not known":     {sealByHand(t, `{"generation":3,"token":"SECRET","state":"maybe"}`), "inside"},
	} {
		t.Run(name, func(t *testing.T) {
			memory := new(vaulttest.Memory)
			v := open(t, memory, key(1))
			memory.Put(authorizerKey, test.file)

			_, err := v.Load(t.Context(), account)
			var unreadable *vault.Unreadable
			if !errors.As(err, &unreadable) || unreadable.Key != authorizerKey || !strings.Contains(err.Error(), test.why) {
				t.Fatalf("error is %v, want Unreadable: %s", err, test.why)
			}
			if errors.Is(err, vault.ErrNotFound) || errors.Is(err, vault.ErrUnavailable) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("error is %v", err)
			}
			if stands := mustStore(t, v, account, full); stands.Generation != 1 {
				t.Errorf("generation is %d, want 1", stands.Generation)
			}
			if _, err := v.Load(t.Context(), account); err != nil {
				t.Error(err)
			}
			wantKeptAside(t, memory, test.file)
		})
	}
}

// wantKeptAside fails unless exactly one copy of file stands aside.
func wantKeptAside(t *testing.T, memory *vaulttest.Memory, file []byte) {
	t.Helper()
	var aside [][]byte
	for name, content := range memory.Files() {
		if strings.HasPrefix(name, authorizerKey+".unreadable-") {
			aside = append(aside, content)
		}
	}
	if len(aside) != 1 || !bytes.Equal(aside[0], file) {
		t.Errorf("aside are %q, want %q", aside, file)
	}
}

func TestNothingIsOverwrittenThatCannotBeKeptAside(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	memory.Put(authorizerKey, []byte("garbled"))
	memory.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
		if op == vaulttest.Store && name != authorizerKey {
			return errors.New("disk full")
		}
		return nil
	})
	if _, err := v.Store(t.Context(), account, full); !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("error is %v, want ErrUnavailable", err)
	}
	if got := memory.Files()[authorizerKey]; string(got) != "garbled" {
		t.Errorf("the record was overwritten with %s", got)
	}
}

// Two nodes with different keys displace each other's records for ever; that
// must not fill the storage.
func TestQuarrelOfKeysKeepsOneCopyEach(t *testing.T) {
	memory := new(vaulttest.Memory)
	one, two := open(t, memory, key(1)), open(t, memory, key(2))
	for range 5 {
		mustStore(t, one, account, full)
		mustStore(t, two, account, full)
	}
	if n := len(memory.Files()); n != 3 {
		t.Errorf("%d files, want the record and one copy for each key", n)
	}
}

func TestPreviousKeysOpenAndTheCurrentOneSeals(t *testing.T) {
	memory := new(vaulttest.Memory)
	mustStore(t, open(t, memory, key(1)), account, full)
	rotated := open(t, memory, key(2), key(1))
	old, err := rotated.Load(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	mustStore(t, rotated, account, old)
	got, err := open(t, memory, key(2)).Load(t.Context(), account)
	if err != nil || got.Generation != 2 {
		t.Errorf("generation %d, %v", got.Generation, err)
	}
}

func TestKeyring(t *testing.T) {
	for name, keys := range map[string][][]byte{
		"no key":             nil,
		"no current key":     {nil},
		"a short key":        {make([]byte, 31)},
		"a long key":         {make([]byte, 33)},
		"a bad previous key": {key(1), make([]byte, 16)},
	} {
		if _, err := vault.NewKeyring(keys...); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestDeriveKey(t *testing.T) {
	one := vault.DeriveKey(secret.New("0123456789abcdef0123456789abcdef"), component)
	if len(one) != vault.KeySize {
		t.Errorf("key has %d bytes", len(one))
	}
	for name, other := range map[string][]byte{
		"another secret":    vault.DeriveKey(secret.New("0123456789abcdef0123456789abcdee"), component),
		"another component": vault.DeriveKey(secret.New("0123456789abcdef0123456789abcdef"), authorizer),
	} {
		if bytes.Equal(one, other) {
			t.Errorf("%s gives the same key", name)
		}
	}
	if !bytes.Equal(one, vault.DeriveKey(secret.New("0123456789abcdef0123456789abcdef"), component)) {
		t.Error("the same secret gives another key")
	}
	if vault.DeriveKey(nil, component) != nil {
		t.Error("a key was derived from nothing, which anybody can do")
	}
}

// A file is JSON, however somebody has laid it out.
func TestAnyLayoutOpens(t *testing.T) {
	sealed := sealByHand(t, plaintext)
	var members map[string]any
	if err := json.Unmarshal(sealed, &members); err != nil {
		t.Fatal(err)
	}
	indented, err := json.MarshalIndent(members, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	for _, file := range [][]byte{sealed, indented, append(sealed, '\n'), bytes.Replace(sealed, []byte(`}`), []byte(`,"note":1}`), 1)} {
		memory.Put(authorizerKey, file)
		if got, err := v.Load(t.Context(), account); err != nil || got.Token == nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// FuzzOpen puts arbitrary files in the place of a record. What is not what the
// vault has sealed must not open, and gives no record.
func FuzzOpen(f *testing.F) {
	sealed := sealByHand(f, plaintext)
	var box struct{ Box []byte }
	if err := json.Unmarshal(sealed, &box); err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:len(sealed)-3])
	f.Add(bytes.Replace(sealed, []byte(`"box":"`), []byte("\"box\":\"\n"), 1))
	f.Add([]byte(nil))
	f.Add([]byte(`{"schema":1,"key":"","box":null}`))
	f.Add([]byte(`{"schema":9}`))
	memory := new(vaulttest.Memory)
	v := open(f, memory, key(1))
	f.Fuzz(func(t *testing.T, file []byte) {
		memory.Put(authorizerKey, file)
		got, err := v.Load(t.Context(), account)
		if err == nil {
			var opened struct{ Box []byte }
			if json.Unmarshal(file, &opened) != nil || !bytes.Equal(opened.Box, box.Box) {
				t.Errorf("a forgery opens: %s", file)
			}
			return
		}
		var unreadable *vault.Unreadable
		if !errors.As(err, &unreadable) {
			t.Errorf("error is %v", err)
		}
		if !cmp.Equal(got, vault.Record{}, equalSecrets) {
			t.Errorf("a record came with the error %v", err)
		}
	})
}
