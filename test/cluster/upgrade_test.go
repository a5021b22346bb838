// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// One node after the other is stopped and started again, as docs/upgrading.md says. A load
// balancer gives the calls to the other node meanwhile: none fails, gateway tokens hold at
// both, nothing is renewed, and WeChat is asked for no ticket.
func TestNodesAreReplacedOneAfterTheOther(t *testing.T) {
	eachStorage(t, func(t *testing.T, s storage) {
		c := start(t, s, 2, sandbox.Config{})
		c.authorize(shop, cafe)
		_, issued := c.nodes[0].token(shop)
		var taken sync.RWMutex // held by each call; a node is taken out when no call is made
		serving := c.nodes[0]  // to which the load balancer gives the calls
		calls := c.let(3, time.Millisecond, func(*node) answer {
			taken.RLock()
			defer taken.RUnlock()
			return serving.ask(serving.Proxy, "/cgi-bin/user/get?access_token="+issued, "", nil)
		})
		for i, n := range c.nodes {
			other := c.nodes[1-i]
			calls.flow(50)
			taken.Lock()
			serving = other
			taken.Unlock()
			c.pushTo(other)
			n.Terminate()
			c.nextSecond()
			c.must(c.weChat.PushTicket(t.Context()))
			n.restart()
			calls.flow(50)
		}
		calls.stop()
		c.warm(shop, cafe)
		c.wantCounts(nil)
	})
}
