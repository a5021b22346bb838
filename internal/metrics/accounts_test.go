// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"math"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics/metricstest"
)

// Until the accounts are counted nobody reads that all of them are gone.
func TestAccountsAreShown(t *testing.T) {
	const name, component = "caddy_wechat_accounts", "wx0123456789abcdef"
	now := metrics.Accounts{Component: component, Unauthorized: 2, NeedsAuthorization: 3, Failing: 4}
	forgetFirst := metrics.WatchAccounts(func() []metrics.Accounts { return nil })
	forget := metrics.WatchAccounts(func() []metrics.Accounts { return []metrics.Accounts{now} })
	forgetFirst() // of the configuration before, which ends later
	want := func(authorized float64) {
		t.Helper()
		for state, value := range map[string]float64{"unauthorized": 2, "needs_authorization": 3, "failing": 4} {
			if got := metricstest.Value(t, name, component, state); got != value {
				t.Errorf("%s: %v, want %v", state, got, value)
			}
		}
		if got := metricstest.Value(t, name, component, "authorized"); got != authorized && !(math.IsNaN(got) && math.IsNaN(authorized)) {
			t.Errorf("authorized: %v, want %v", got, authorized)
		}
	}
	want(math.NaN())
	now.Authorized, now.Counted = 100_000, true
	want(100_000)
	forget()
	if metricstest.Exists(t, name, component, "failing") {
		t.Error("accounts that nobody watches are shown")
	}
}

// A component without a ticket or a token is as old as can be, not missing.
func TestComponentsFromTheStart(t *testing.T) {
	const component = "wx0123456789abcdef"
	metrics.NoTicket(component)
	metrics.ComponentToken(component, time.Time{})
	names := []string{"caddy_wechat_ticket_received_timestamp_seconds", "caddy_wechat_component_token_expires_timestamp_seconds"}
	for _, name := range names {
		if got := metricstest.Value(t, name, component); got != 0 || !metricstest.Exists(t, name, component) {
			t.Errorf("%s is %v", name, got)
		}
	}
	metrics.TicketReceived(component, time.UnixMilli(1_700_000_000_500))
	metrics.ComponentToken(component, time.UnixMilli(1_700_000_000_500))
	for _, name := range names {
		if got := metricstest.Value(t, name, component); got != 1_700_000_000.5 {
			t.Errorf("%s is %v", name, got)
		}
	}
	metrics.ForgetComponent(component)
	for _, name := range names {
		if metricstest.Exists(t, name, component) {
			t.Errorf("%s is still shown", name)
		}
	}
}
