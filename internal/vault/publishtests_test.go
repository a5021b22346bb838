// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// The code of a publish test is sealed, and found by whoever lists what is left.
func TestPublishTestIsSealedAndFound(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	stored := vault.PublishTestKey{Component: component, ID: eventID, Received: time.Unix(1_700_000_000, 0)}
	if keys, err := v.PublishTests(t.Context(), component); err != nil || keys != nil {
		t.Errorf("at first: %v, %v", keys, err)
	}
	if err := v.StorePublishTest(t.Context(), stored, vault.PublishTest{AppID: authorizer, OpenID: "openid", Code: secret.New("nobody may read it")}); err != nil {
		t.Fatal(err)
	}
	for name, file := range memory.Files() {
		if strings.Contains(name+string(file), "nobody") {
			t.Errorf("%s is %s", name, file)
		}
	}
	memory.Put("wechat/"+component+"/publish-test/foreign", []byte("x"))
	memory.Put("wechat/"+component+"/publish-test/999999999999999999999-"+eventID+".json", []byte("x"))
	keys, err := v.PublishTests(t.Context(), component)
	if err != nil || len(keys) != 1 || !keys[0].Received.Equal(stored.Received) || keys[0].ID != eventID {
		t.Fatalf("%v, %v", keys, err)
	}
	got, err := v.LoadPublishTest(t.Context(), keys[0])
	if err != nil || got.AppID != authorizer || got.OpenID != "openid" || got.Code.Reveal() != "nobody may read it" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := errors.Join(v.RemovePublishTest(t.Context(), keys[0]), v.RemovePublishTest(t.Context(), keys[0])); err != nil {
		t.Error(err)
	}
	if _, err := v.LoadPublishTest(t.Context(), keys[0]); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("removed, it is %v", err)
	}
}

// What would lead out of the folder is no name.
func TestPublishTestNamesAreChecked(t *testing.T) {
	v := open(t, new(vaulttest.Memory), key(1))
	for _, bad := range []vault.PublishTestKey{
		{Component: "../..", ID: eventID, Received: time.Unix(1, 0)},
		{Component: component, ID: "../" + eventID[3:], Received: time.Unix(1, 0)},
		{Component: component, ID: eventID},
	} {
		_, load := v.LoadPublishTest(t.Context(), bad)
		_, lock := v.LockPublishTest(t.Context(), bad)
		for _, err := range []error{load, lock, v.StorePublishTest(t.Context(), bad, vault.PublishTest{}), v.RemovePublishTest(t.Context(), bad)} {
			if err == nil || errors.Is(err, vault.ErrUnavailable) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	}
}

// The owner of the lock waits for WeChat meanwhile, so others are patient with it, also
// for another key of the same message; with one that has ended they are not for ever.
func TestPublishTestLockIsKeptForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := new(vaulttest.Memory)
		first := vault.PublishTestKey{Component: component, ID: eventID, Received: time.Unix(1, 0)}
		again := vault.PublishTestKey{Component: component, ID: eventID, Received: time.Unix(6, 0)}
		if _, err := open(t, memory, key(1)).LockPublishTest(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		unlock, err := open(t, memory, key(1)).LockPublishTest(ctx, again)
		if waited := time.Since(began); err != nil || waited < time.Minute || waited > 2*time.Minute {
			t.Fatalf("after %v: %v", waited, err)
		}
		_ = unlock()
	})
}
