// SPDX-License-Identifier: Apache-2.0

package lives_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Prometheus sees how it is with the accounts: what has changed, after a reload, and after
// a restart, when they are counted again.
func TestAccountsAreCounted(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Watch: true})
	want := func(when string, states map[string]int) {
		t.Helper()
		missing := ""
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			_, body := g.Admin(http.MethodGet, "/metrics")
			missing = ""
			for state, n := range states {
				line := fmt.Sprintf("caddy_wechat_accounts{component=%q,state=%q} %d\n", sandbox.DefaultComponent, state, n)
				if !strings.Contains(string(body), line) {
					missing += line
				}
			}
			if missing == "" {
				return
			}
		}
		t.Errorf("%s, /metrics does not say\n%s", when, missing)
	}
	both := map[string]int{"authorized": 2, "unauthorized": 0, "needs_authorization": 0, "failing": 0}
	one := map[string]int{"authorized": 1, "unauthorized": 1, "needs_authorization": 0, "failing": 0}
	want("at the start", both)
	if err := g.WeChat.Revoke(t.Context(), gwtest.OfficialAccount); err != nil {
		t.Fatal(err)
	}
	want("after an account has withdrawn", one)
	g.Load()
	want("after a reload", one)
	g.Restart(t, func() {})
	want("after a restart", one)
}
