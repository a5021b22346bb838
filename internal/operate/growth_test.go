// SPDX-License-Identifier: Apache-2.0

package operate_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/census"
	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// With the census that the gateway has, a page costs the same as well, among a thousand
// accounts and among 100,000: as many reads, and the listing of the folders in which the
// accounts of the page are. All pages together are all accounts.
func TestAPageOfTheCensusCostsTheSameAmongManyAccounts(t *testing.T) {
	for _, accounts := range []int{1000, 100_000} {
		f := newOffice(t)
		of := census.New(func() *vault.Vault { return f.Vault }, func() []string { return []string{component} }, zap.NewNop)
		t.Cleanup(of.Close)
		f.Operator.Census = of
		f.store(number(0), authorized())
		record := slices.Collect(maps.Values(f.storage.Files()))[0]
		var all []string
		for n := range accounts {
			all = append(all, number(n))
			f.storage.Put(fmt.Sprintf("wechat/%s/authorizers/%02x/%s.json", component, n%256, number(n)), record) // it does not open: its name is another
		}
		operate.Sort(all)
		loads, lists := f.storage.Count(vaulttest.Load), f.storage.Count(vaulttest.List)
		page, err := f.Accounts(t.Context(), "")
		loads, lists = f.storage.Count(vaulttest.Load)-loads, f.storage.Count(vaulttest.List)-lists
		if err != nil || len(page.Items) != 50 || page.Items[49].AppID != all[49] || loads > 2*50+4 || lists > 32 {
			t.Errorf("among %d: %v, %d accounts with %d loads and %d lists", accounts, err, len(page.Items), loads, lists)
		}
		if accounts > 1000 {
			continue // all pages take long
		}
		if got, _ := f.pages("limit=37"); !slices.Equal(got, all) {
			t.Errorf("all pages together have %d accounts", len(got))
		}
	}
}
