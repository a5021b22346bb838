// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Every node knows how it is with the accounts: what one of them is told the others hear
// by a notice, in 15 seconds, and what none of them has told is counted when it starts.
func TestNodesKnowWhichAccountsHaveWithdrawn(t *testing.T) {
	eachStorage(t, func(t *testing.T, s storage) {
		c := start(t, s, 2, sandbox.Config{})
		a, b := c.nodes[0], c.nodes[1]
		c.must(c.weChat.PushTicket(t.Context()))
		c.authorize(shop, cafe)
		c.warm(shop, cafe)
		for _, n := range c.nodes {
			c.until(n.name+" has counted both", time.Minute, func() bool { return n.accounts("authorized", 2) })
		}
		c.must(c.weChat.Revoke(t.Context(), shop))
		if !a.accounts("authorized", 1) || !a.accounts("unauthorized", 1) {
			t.Error("the node that was told does not know")
		}
		c.inForce("the withdrawal", time.Minute, func() bool { return b.accounts("authorized", 1) && b.accounts("unauthorized", 1) })
		b.restart()
		c.until("the withdrawal is known after a restart", time.Minute, func() bool { return b.accounts("authorized", 1) && b.accounts("unauthorized", 1) })
	})
}

// accounts reports whether Prometheus is shown this number of accounts in a state.
func (n *node) accounts(state string, want int) bool {
	shown, err := n.admin(http.MethodGet, "/metrics", "")
	return err == nil && strings.Contains(shown, fmt.Sprintf("caddy_wechat_accounts{component=%q,state=%q} %d\n", component, state, want))
}
