// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// A lock that a killed process leaves is free when its owner has not renewed it
// for ten seconds (folder) or five (Redis); who waits for it looks every second. A busy
// machine gets some seconds more.
const (
	staleInFolder = 17 * time.Second
	staleInRedis  = 11 * time.Second
	atOnce        = 5 * time.Second
)

// death is a moment at which node A is killed.
type death struct {
	name   string
	folder bool // can be arranged there as well
	locked bool // it leaves a lock behind
	// arm arranges that node A stops at the moment, and tells when it has.
	arm func(c *cluster, a *node) (reached <-chan struct{})
	// asked is what WeChat is asked, by both nodes together.
	asked map[string]int
}

// At a moment within the exchange of a code node A dies. Node B goes on without
// it, and so does node A when it is started again. Where WeChat's answer died
// with the process, the refresh token comes from api_get_authorizer_info. Either node may
// ask for the profile besides.
func TestKilledWhileExchangingACode(t *testing.T) {
	record, lock := shop+".json", "_"+shop
	for _, d := range []death{
		{name: "before the code is stored", locked: true, arm: onWire(sets(record), 1),
			asked: map[string]int{queryAuth: 1, authorizerInfo: anyNumber}},
		{name: "before WeChat is asked", folder: true, arm: atWeChat(queryAuth, asked),
			asked: map[string]int{queryAuth: 1, authorizerInfo: anyNumber}},
		{name: "when WeChat has acted", folder: true, arm: atWeChat(queryAuth, answered),
			asked: map[string]int{queryAuth: 2, authorizerInfo: anyNumber, authorizerToken: 1}},
		{name: "when WeChat has answered", locked: true, arm: onWire(sets(record), 2),
			asked: map[string]int{queryAuth: 2, authorizerInfo: anyNumber, authorizerToken: 1}},
		{name: "when the tokens are stored", locked: true, arm: onWire(locks(releasing, lock), 2),
			asked: map[string]int{queryAuth: 1, authorizerInfo: anyNumber}},
		{name: "before the mark is taken away", arm: onWire(removesMark, 1),
			asked: map[string]int{queryAuth: 1, authorizerInfo: anyNumber}},
	} {
		d.run(t, func(c *cluster) func() error {
			c.authorize(cafe) // and with it everybody gets the component token
			c.must(c.weChat.AddAccount(sandbox.Account{AppID: shop}))
			return func() error { // pushed to node B where node A does not acknowledge
				_, err := c.weChat.Authorize(c.Context(), shop)
				return err
			}
		})
	}
}

// At a moment within the renewal of a token node A dies. WeChat answers every
// renewal with a new refresh token, and the old one dies at once.
func TestKilledWhileRenewing(t *testing.T) {
	record, lock := shop+".json", "_"+shop
	for _, d := range []death{
		{name: "before the lock", arm: onWire(locks(taking, lock), 1),
			asked: map[string]int{authorizerToken: 1}},
		{name: "before WeChat is asked", folder: true, locked: true, arm: atWeChat(authorizerToken, asked),
			asked: map[string]int{authorizerToken: 1}},
		{name: "when WeChat has acted", folder: true, locked: true, arm: atWeChat(authorizerToken, answered),
			asked: map[string]int{authorizerToken: 3, authorizerInfo: 1}},
		{name: "when WeChat has answered", locked: true, arm: onWire(sets(record), 1),
			asked: map[string]int{authorizerToken: 3, authorizerInfo: 1}},
		{name: "when the token is stored", arm: onWire(locks(releasing, lock), 1),
			asked: map[string]int{authorizerToken: 1}},
	} {
		d.run(t, func(c *cluster) func() error {
			c.authorize(shop, cafe)
			c.weChat.SetSwitches(sandbox.Switches{RotateRefreshTokens: true})
			c.weChat.KillTokens(shop)
			return func() error {
				c.nodes[0].call(shop) // dies with the node
				return nil
			}
		})
	}
}

// run arranges a death for each storage that allows it. prepare returns what
// leads to it; that may go on while node A is dead, and must succeed.
func (d death) run(t *testing.T, prepare func(c *cluster) (begin func() error)) {
	t.Run(d.name, func(t *testing.T) {
		t.Parallel()
		if d.folder {
			t.Run("folder", func(t *testing.T) { d.on(t, newFolder(t), staleInFolder, prepare) })
		}
		t.Run("Redis", func(t *testing.T) { d.on(t, newRedis(t), staleInRedis, prepare) })
	})
}

func (d death) on(t *testing.T, s storage, stale time.Duration, prepare func(c *cluster) (begin func() error)) {
	c := start(t, s, 2, sandbox.Config{Overlap: -1})
	a, b := c.nodes[0], c.nodes[1]
	begin := prepare(c)
	reached, ended := d.arm(c, a), make(chan error, 1)
	go func() { ended <- begin() }()
	c.reached(d.name, reached)
	c.pushTo(b)
	a.Kill()
	killed := time.Now()

	b.wantCall(cafe)
	others := time.Since(killed)
	if err := <-ended; err != nil {
		t.Errorf("what was under way: %v", err)
	}
	b.wantCall(shop)
	took := time.Since(killed)
	t.Logf("node B serves other accounts after %s, this one after %s", milliseconds(others), milliseconds(took))
	limit := atOnce
	if d.locked {
		limit = stale
	}
	if others > atOnce || took > limit {
		t.Errorf("node B took %v and %v, want %v and %v at most", others, took, atOnce, limit)
	}
	c.wantProfiles(shop)
	c.wantCounts(d.asked)
	c.wantRefreshToken(shop)

	if r, ok := s.(*redis); ok {
		r.wires["A"].obey(nil)
	}
	a.restart()
	a.wantCall(shop)
	c.wantCounts(d.asked)
	c.wantNothingPending()
}

// wantNothingPending waits until no code is marked as not exchanged.
func (c *cluster) wantNothingPending() {
	c.Helper()
	c.until("no code is left pending", 30*time.Second, func() bool {
		marks, err := c.storage.List(c.Context(), "wechat/"+component+"/pending", true)
		return len(marks) == 0 && (err == nil || errors.Is(err, fs.ErrNotExist))
	})
}

// onWire stops node A at the n-th command to Redis that fits.
func onWire(fits func([]string) bool, n int) func(*cluster, *node) <-chan struct{} {
	return func(c *cluster, a *node) <-chan struct{} {
		seen := 0
		return c.storage.(*redis).wires[a.name].holdAt(func(command []string) bool {
			if fits(command) {
				seen++
			}
			return seen == n && fits(command)
		})
	}
}

// atWeChat stops node A within a call.
func atWeChat(endpoint string, at moment) func(*cluster, *node) <-chan struct{} {
	return func(c *cluster, _ *node) <-chan struct{} {
		reached, _ := c.weChat.hold(endpoint, at)
		return reached
	}
}

// A ticket counts for WeChat only when it is acknowledged. Until node B can
// acknowledge it WeChat pushes again, three times five seconds long.
func TestKilledWhileStoringATicket(t *testing.T) {
	for _, row := range []struct {
		name string
		fits func([]string) bool
	}{
		{"before it is stored", sets("ticket.json")},
		{"when it is stored", locks(releasing, "_ticket")},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := newRedis(t)
			c := startWithTicket(t, r)
			reached, ended := r.wires["A"].holdAt(row.fits), make(chan error, 1)
			go func() { ended <- c.weChat.PushTicket(c.Context()) }()
			c.reached(row.name, reached)
			c.pushTo(c.nodes[1])
			c.nodes[0].Kill()
			c.ticketTaken(ended, staleInRedis)
			r.wires["A"].obey(nil)
			c.nodes[0].restart()
			c.nodes[0].wantCall(component)
		})
	}
	// In a folder nothing can be held up, so the lock is laid there which a
	// process leaves that is killed while it holds it.
	t.Run("in a folder", func(t *testing.T) {
		t.Parallel()
		f := newFolder(t)
		c := startWithTicket(t, f)
		c.pushTo(c.nodes[1])
		c.nodes[0].Kill()
		now := time.Now().Format(time.RFC3339Nano)
		c.must(os.WriteFile(filepath.Join(f.Path, "locks", "wechat_"+component+"_ticket.lock"),
			[]byte(`{"created":"`+now+`","updated":"`+now+`"}`), 0o600))
		ended := make(chan error, 1)
		go func() { ended <- c.weChat.PushTicket(c.Context()) }()
		c.ticketTaken(ended, staleInFolder)
	})
}

// startWithTicket starts nodes that find a ticket, so that nobody asks for one.
func startWithTicket(t *testing.T, s storage) *cluster {
	t.Helper()
	c := start(t, s, 2, sandbox.Config{})
	c.must(c.weChat.PushTicket(t.Context()))
	c.restartAll()
	c.nextSecond()
	c.weChat.ResetCounts()
	return c
}

// ticketTaken waits until WeChat's push has ended well, and calls with what it
// brought.
func (c *cluster) ticketTaken(ended <-chan error, within time.Duration) {
	c.Helper()
	began := time.Now()
	if err := <-ended; err != nil {
		c.Errorf("the ticket is lost: %v", err)
	}
	took := time.Since(began)
	c.nodes[1].wantCall(component)
	c.Logf("node B acknowledged after %s, at attempt %d", milliseconds(took), len(c.weChat.Pushes()))
	if took > within {
		c.Errorf("node B acknowledged after %v, want %v at most", took, within)
	}
}

// Node A has released a lock; within the next seconds node B takes it and dies.
// In a folder a lock is kept fresh by touching its file every five seconds as
// long as there is one: what node A still does so for its own lock must not
// keep node B's for ever.
func TestKilledAfterAnotherNodeHeldTheLock(t *testing.T) {
	eachStorage(t, func(t *testing.T, s storage) {
		t.Parallel()
		c := start(t, s, 2, sandbox.Config{})
		a, b := c.nodes[0], c.nodes[1]
		c.authorize(shop)
		c.weChat.KillTokens(shop)
		a.wantCall(shop)
		b.wantCall(shop)
		c.weChat.KillTokens(shop)
		reached, _ := c.weChat.hold(authorizerToken, asked)
		go b.call(shop)
		c.reached("node B asks for a token", reached)
		b.Kill()
		t.Logf("node A serves after %s", milliseconds(a.wantCall(shop).took))
	})
}
