// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Neither the start nor the minutes without a call after it cost more with more
// authorizers: no record is read, and nothing that holds them is listed.
func TestStartCostsTheSameWithEveryNumberOfAuthorizers(t *testing.T) {
	cost := func(authorizers int) map[string]int {
		operations := make(map[string]int)
		synctest.Test(t, func(t *testing.T) {
			storage := new(vaulttest.Memory)
			in := newTestSettings(t, storage)
			storeTicket(t, in.tokens.Vault)
			fill(t, in.tokens.Vault, authorizers)
			var mu sync.Mutex
			storage.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
				mu.Lock()
				defer mu.Unlock()
				operations[string(op)+" "+name]++
				if op == vaulttest.List && strings.HasPrefix("wechat/"+sandbox.DefaultComponent+"/authorizers/", name) {
					t.Errorf("%s is listed", name)
				}
				return nil
			})
			in.deliveries = delivery.Settings{Vault: in.tokens.Vault, Log: in.tokens.Log,
				Targets: map[vault.Queue]*delivery.Target{{Component: sandbox.DefaultComponent, Client: "shop", Target: "main"}: {Component: sandbox.DefaultComponent, Client: "shop", Name: "main"}}}
			s, err := newState(in)
			if err != nil {
				t.Fatal(err)
			}
			s.start(in)
			time.Sleep(10*time.Minute + time.Second) // no clock strikes at its end
			s.stop(in, time.Now())
			if err := s.Destruct(); err != nil {
				t.Fatal(err)
			}
		})
		return operations
	}
	none, many := cost(0), cost(10_000)
	for _, expected := range []string{"load wechat/" + sandbox.DefaultComponent + "/ticket.json", "list wechat/" + sandbox.DefaultComponent + "/pending"} {
		if none[expected] == 0 {
			t.Errorf("it is not seen to %s, but %v", expected, none)
		}
	}
	if difference := cmp.Diff(none, many); difference != "" {
		t.Errorf("with 10,000 authorizers (+) other operations than with none (-):\n%s", difference)
	}
}

// Old notes of messages are deleted, also those of a component for which no client takes
// deliveries: the publish test leaves some, and targets are removed.
func TestOldNotesAreDeletedWithoutATarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := new(vaulttest.Memory)
		in := newTestSettings(t, storage)
		in.deliveries.Log = in.tokens.Log
		storeTicket(t, in.tokens.Vault)
		made := time.Now().Add(-vault.ClaimLife - 20*time.Minute)
		key := vault.ClaimKey{Component: sandbox.DefaultComponent, ID: strings.Repeat("0", 32), Made: made}
		if err := in.tokens.Vault.StoreClaim(t.Context(), key, vault.Claim{Until: made, Answered: made}); err != nil {
			t.Fatal(err)
		}
		s, err := newState(in)
		if err != nil {
			t.Fatal(err)
		}
		s.start(in)
		synctest.Wait()
		for name := range storage.Files() {
			if strings.Contains(name, "/messages/") {
				t.Errorf("%s is left", name)
			}
		}
		s.stop(in, time.Now())
		if err := s.Destruct(); err != nil {
			t.Fatal(err)
		}
	})
}
