// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	callers   = 200
	nodes     = 5
	latency   = time.Second
	allowance = 500 * time.Millisecond // for the last caller after WeChat has answered
	shortLife = time.Second
)

// However many callers on however many nodes need a new token at the same
// moment, WeChat is asked for one, once, and nobody waits much longer than
// WeChat takes.
func TestOneRefreshForTheCluster(t *testing.T) { testOneRenewal(t, shop, authorizerToken) }

func TestOneComponentTokenForTheCluster(t *testing.T) { testOneRenewal(t, component, componentToken) }

func testOneRenewal(t *testing.T, of, endpoint string) {
	eachStorage(t, func(t *testing.T, s storage) {
		c := start(t, s, nodes, sandbox.Config{})
		c.authorize(shop)
		for _, round := range []struct {
			name    string
			prepare func()
		}{
			{"the token in memory and storage has expired", func() { c.expire(of) }},
			{"WeChat rejects the token", func() { c.weChat.KillTokens(of) }},
			{"nothing in memory, expired in storage", func() { c.expire(of); c.restartAll() }},
			{"nothing in memory, rejected from storage", func() { c.weChat.KillTokens(of); c.restartAll() }},
		} {
			after := allowance + 1
			for attempt := 1; attempt <= 6 && after > allowance; attempt++ { // the machine may have other things to do
				if attempt > 1 {
					time.Sleep(10 * time.Second) // a node renews rejected tokens three times, and then every ten seconds
				}
				round.prepare()
				after = c.renewal(round.name, of, endpoint)
			}
			if after > allowance {
				t.Errorf("%s: the last of %d callers was answered %v after WeChat had answered", round.name, callers, after)
			}
		}
	})
}

// renewal has everybody call at once, and returns how long after WeChat's
// answer the last caller had his own.
func (c *cluster) renewal(name, of, endpoint string) (after time.Duration) {
	c.Helper()
	c.weChat.Inject(sandbox.Fault{Path: componentAPI + endpoint, Latency: latency})
	defer c.weChat.ClearFaults()
	c.weChat.ResetCounts()
	began := time.Now()
	took := c.together(callers, of)
	c.wantCounts(map[string]int{endpoint: 1})
	renewal := c.weChat.last(endpoint)
	after = took - renewal.answered.Sub(began)
	c.Logf("%s: asked after %s, WeChat took %s, the last caller was answered %s later", name,
		milliseconds(renewal.asked.Sub(began)), milliseconds(renewal.answered.Sub(renewal.asked)), milliseconds(after))
	return after
}

// expire lets every node have a token that is short-lived, and waits until the
// gateway takes it for dead.
func (c *cluster) expire(of string) {
	c.Helper()
	c.weChat.SetSwitches(sandbox.Switches{ExpiresIn: int(shortLife / time.Second)})
	c.weChat.KillTokens(of)
	c.warm(of)
	c.weChat.SetSwitches(sandbox.Switches{})
	time.Sleep(shortLife) // of whatever token any of them has got by now
}

// restartAll kills every node and starts it again.
func (c *cluster) restartAll() {
	c.Helper()
	for _, n := range c.nodes {
		n.Terminate() // one that is killed may leave a lock
		n.run()
	}
	for _, n := range c.nodes {
		n.Serves(n.Platform, n.Proxy)
	}
}
