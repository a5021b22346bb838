// SPDX-License-Identifier: Apache-2.0

//go:build !race

package vault_test

import (
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// A file as it was written is cut apart, and costs no reading of JSON.
func TestLoadAllocations(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	record := full
	record.Token = secret.New(strings.Repeat("t", 512))
	mustStore(t, v, account, record)
	load := func() {
		if _, err := v.Load(t.Context(), account); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(100, load); n > 20 {
		t.Errorf("%v allocations, want at most 20", n)
	}
}
