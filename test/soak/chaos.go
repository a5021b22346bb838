// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// chaos does something to the gateways, to WeChat or to the storage every
// second. What, and to whom, depends on the seed alone; what it meets there does
// not, so that a seed repeats the plan and not the run.
type chaos struct {
	weChat  *sandbox.Sandbox
	nodes   []*node
	appids  []string
	storage storage
	record  *record

	deliveries *deliveries

	rng    *rand.Rand
	ending context.Context // for what must not be left half done
	work   sync.WaitGroup

	weather sync.Mutex // WeChat has one fault at a time
	outage  sync.Mutex // storage too
	sick    sync.Mutex // and the application
	deaths  map[string][]time.Time
}

// deed is something to do. draw takes all its chance at once and returns what
// is to be done; that reports what it did, or "" if it could not be.
type deed struct {
	weight int
	draw   func(*chaos) func() string
}

var deeds = []deed{
	{16, (*chaos).killGateway},
	{10, (*chaos).reloadGateway},
	{14, (*chaos).endTokens},
	{3, (*chaos).endComponentToken},
	{1, (*chaos).endEverything},
	{8, (*chaos).rotateRefreshTokens},
	{14, (*chaos).withdraw},
	{6, (*chaos).update},
	{20, (*chaos).breakWeChat},
	{8, (*chaos).pushTicket},
	{6, (*chaos).changeHabits},
	{6, (*chaos).takeStorage},
	{12, (*chaos).breakApplication},
}

// run draws a deed every second until ctx ends, and then waits until the last
// one is done.
func (c *chaos) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.work.Wait()
			return
		case <-tick.C:
		}
		do := c.anyDeed().draw(c)
		c.work.Go(func() {
			if did := do(); did != "" {
				c.record.did(did)
			}
		})
	}
}

func (c *chaos) anyDeed() deed {
	var total int
	for _, d := range deeds {
		total += d.weight
	}
	at, i := c.rng.IntN(total), 0
	for ; at >= deeds[i].weight; i++ {
		at -= deeds[i].weight
	}
	return deeds[i]
}

func (c *chaos) anyNode() *node { return c.nodes[c.rng.IntN(len(c.nodes))] }

// anyAccounts returns up to most accounts, at least one.
func (c *chaos) anyAccounts(most int) (appids []string) {
	for range 1 + c.rng.IntN(most) {
		appids = append(appids, c.appids[c.rng.IntN(len(c.appids))])
	}
	return appids
}

// wait lets time pass, but not beyond the end of everything.
func (c *chaos) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.ending.Done():
	}
}

func (c *chaos) killGateway() func() string {
	n := c.anyNode()
	return func() string {
		if !n.mu.TryLock() {
			return ""
		}
		defer n.mu.Unlock()
		if !n.alive() {
			return "" // by itself, which is found at the end
		}
		end := c.record.begin(condition{kind: down, node: n.number})
		err := n.kill()
		if err == nil {
			err = n.start(c.ending)
		}
		end(0)
		if err != nil {
			c.record.problem(err.Error())
		}
		return "gateway killed and started again"
	}
}

func (c *chaos) reloadGateway() func() string {
	n := c.anyNode()
	return func() string {
		if !n.mu.TryLock() {
			return ""
		}
		defer n.mu.Unlock()
		end := c.record.begin(condition{kind: reloaded, node: n.number})
		err := n.reload()
		end(time.Second) // the servers of the old configuration close behind
		if err != nil {
			c.record.problem(err.Error())
		}
		return "gateway reloaded under load"
	}
}

// mayDie reports whether one more token of appid may die, after at most most
// within the hour. A gateway takes more than nine for the work of another process
// with the same credentials and stops renewing, as it should; so ours stay below.
func (c *chaos) mayDie(appid string, most int) bool {
	for len(c.deaths[appid]) > 0 && time.Since(c.deaths[appid][0]) > time.Hour {
		c.deaths[appid] = c.deaths[appid][1:]
	}
	if len(c.deaths[appid]) >= most {
		return false
	}
	c.deaths[appid] = append(c.deaths[appid], time.Now())
	return true
}

// ways in which a token ends, and how long afterwards it does.
var ways = []struct {
	name  string
	after time.Duration
	end   func(*sandbox.Sandbox, string) error
}{
	{"killed (40001)", 0, func(s *sandbox.Sandbox, appid string) error { s.KillTokens(appid); return nil }},
	{"expired (42001)", 0, func(s *sandbox.Sandbox, appid string) error { s.ExpireTokens(appid); return nil }},
	{"replaced by another process", overlap, func(s *sandbox.Sandbox, appid string) error { _, err := s.RotateToken(appid); return err }},
}

// endToken ends the token of an account or the component, and notes it.
func (c *chaos) endToken(appid string, way int) {
	end := c.record.begin(condition{kind: dying, appid: appid})
	if err := ways[way].end(c.weChat, appid); err != nil {
		c.record.problem(err.Error())
	}
	end(ways[way].after + dyingFor)
}

func (c *chaos) endTokens() func() string {
	way := c.rng.IntN(len(ways))
	appids := c.anyAccounts(20)
	var mortal []string
	for _, appid := range appids {
		if c.mayDie(appid, 6) { // and two more with everything
			mortal = append(mortal, appid)
		}
	}
	return func() string {
		for _, appid := range mortal {
			c.endToken(appid, way)
		}
		return "tokens of accounts " + ways[way].name
	}
}

func (c *chaos) endComponentToken() func() string {
	way := c.rng.IntN(len(ways))
	if !c.mayDie(sandbox.DefaultComponent, 6) {
		return func() string { return "" }
	}
	return func() string {
		c.endToken(sandbox.DefaultComponent, way)
		return "component token " + ways[way].name
	}
}

// endEverything lets every token die at once, twice an hour at most.
func (c *chaos) endEverything() func() string {
	if !c.mayDie("everything", 2) {
		return func() string { return "" }
	}
	all := append([]string{sandbox.DefaultComponent}, c.appids...)
	return func() string {
		var ends []func(time.Duration)
		for _, appid := range all {
			ends = append(ends, c.record.begin(condition{kind: dying, appid: appid}))
		}
		c.weChat.KillTokens("")
		for _, end := range ends {
			end(dyingFor)
		}
		return "every token of every account killed"
	}
}

// rotateRefreshTokens gives accounts other refresh tokens behind the gateways'
// backs: the ones they have stored are dead in a few seconds.
func (c *chaos) rotateRefreshTokens() func() string {
	appids := c.anyAccounts(10)
	return func() string {
		for _, appid := range appids {
			_, _ = c.weChat.RotateRefreshToken(appid) // who has withdrawn has none
		}
		return "refresh tokens of accounts replaced"
	}
}

// pushTicket pushes a ticket to some gateway; WeChat tries three times.
func (c *chaos) pushTicket() func() string {
	return func() string {
		if c.weChat.PushTicket(c.ending) != nil {
			return "ticket pushed in vain" // one is good for twelve hours
		}
		return "ticket pushed"
	}
}

// changeHabits lets WeChat behave in another way that its documents leave open.
func (c *chaos) changeHabits() func() string {
	coin := func() bool { return c.rng.IntN(2) == 0 }
	habits := sandbox.Switches{
		RotateRefreshTokens: coin(), EmptyRefreshField: coin(), Component42006: coin(), DifferentCodes: coin(),
		StringErrCodes: coin(), StringExpiresIn: coin(), TextPlain: coin(), OldAuthorizationAppID: coin(), RetrySameBytes: coin(),
	}
	if coin() {
		habits.RevokedErrCode = 61023
	}
	return func() string {
		c.weChat.SetSwitches(habits)
		return "WeChat's habits changed"
	}
}

// takeStorage takes storage away from all gateways for two seconds.
func (c *chaos) takeStorage() func() string {
	return func() string {
		if !c.outage.TryLock() {
			return ""
		}
		defer c.outage.Unlock()
		end := c.record.begin(condition{kind: noStorage})
		err := c.storage.take()
		c.wait(2 * time.Second)
		if back := c.storage.giveBack(); err == nil {
			err = back
		}
		end(time.Second)
		if err != nil {
			c.record.problem(fmt.Sprintf("taking storage away: %v", err))
		}
		return c.storage.trouble()
	}
}
