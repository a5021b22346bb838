// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"errors"
	"io/fs"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// healing is how long it may take until everything is as before.
const healing = 15 * time.Second

// The storage goes away and comes back as it was. Tokens in memory are served
// without an error, what needs the storage is refused, no push is acknowledged.
func TestStorageGoneAndBack(t *testing.T) {
	t.Run("folder", func(t *testing.T) {
		t.Parallel()
		f := newFolder(t)
		goneAndBack(t, f, f.take, f.putBack)
	})
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		r := newRedis(t)
		goneAndBack(t, r, r.kill, r.run)
	})
}

func goneAndBack(t *testing.T, s storage, take, putBack func()) {
	c := start(t, s, 2, sandbox.Config{Switches: sandbox.Switches{PushAttempts: 1}})
	c.authorize(shop, cafe)
	a, b := c.nodes[0], c.nodes[1]
	c.forget(b)
	served := c.let(5, 10*time.Millisecond, func(n *node) answer { return n.call(shop) })
	served.flow(50)
	take()
	c.wantNoStorage("not in memory", "storage", b.call(cafe))
	c.weChat.KillTokens(cafe)
	c.wantNoStorage("rejected", "rejected", a.call(cafe))
	if c.weChat.PushTicket(t.Context()) == nil {
		t.Error("a ticket is acknowledged that cannot be stored")
	}
	served.flow(50)
	putBack()
	took := c.until("node B serves the other account", healing, func() bool { return b.call(cafe).ok() })
	a.wantCall(cafe)
	c.nextSecond()
	c.must(c.weChat.PushTicket(t.Context()))
	served.flow(50)
	t.Logf("healed after %s; %d calls for the account in memory meanwhile", milliseconds(took), served.stop())
	c.wantCounts(map[string]int{authorizerToken: 1})
	c.wantRefreshToken(shop)
	c.wantRefreshToken(cafe)
}

// Redis loses everything. A ticket is asked for, and as each account is used its
// refresh token comes back from WeChat.
func TestStorageComesBackEmpty(t *testing.T) {
	r := newRedis(t)
	c := start(t, r, 2, sandbox.Config{Overlap: -1}) // so that warm has an effect
	c.authorize(shop, cafe)
	a, b := c.nodes[0], c.nodes[1]
	c.forget(b)
	served := c.let(5, 10*time.Millisecond, func(n *node) answer { return n.call(shop) })
	served.flow(50)
	c.weChat.AdvanceClock(2 * time.Minute) // it pushes a ticket once a minute at most
	r.kill()
	r.forget()
	c.wantNoStorage("not in memory", "storage", b.call(cafe))
	r.run()
	took := c.until("node B serves the other account", healing, func() bool { return b.call(cafe).ok() })
	served.flow(50)
	t.Logf("node B serves after %s; %d calls for the account in memory meanwhile", milliseconds(took), served.stop())
	c.wantCounts(map[string]int{startPushTicket: 1, componentToken: 1, authorizerToken: 1, authorizerInfo: 1})
	c.wantRefreshToken(cafe)

	c.warm(shop, cafe)
	c.weChat.KillTokens("")
	for _, n := range []*node{a, b} {
		n.wantCall(shop)
		n.wantCall(cafe)
	}
	c.wantRefreshToken(shop)
	c.wantRefreshToken(cafe)
}

// The Redis module says of every key that there is none while Redis cannot be reached.
// The gateway must not believe it.
func TestRedisThatIsAwayHasForgottenNothing(t *testing.T) {
	r := newRedis(t)
	storage := vault.NewReloadable(vault.NewConfigStorage(t.Context(), r))
	must(storage.Store(t.Context(), "wechat/key", []byte("value")))
	r.kill()
	if _, err := storage.Load(t.Context(), "wechat/key"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without Redis: %v", err)
	}
	r.run()
	if value, err := storage.Load(t.Context(), "wechat/key"); string(value) != "value" {
		t.Errorf("with it again: %q, %v", value, err)
	}
}

// WeChat has answered with a new refresh token, and the storage is gone. The
// token is served from memory, and stored as soon as that is possible.
func TestTokenIsStoredWhenStorageIsBack(t *testing.T) {
	t.Run("folder", func(t *testing.T) {
		t.Parallel()
		f := newFolder(t)
		storedLater(t, f, f.take, f.putBack)
	})
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		r := newRedis(t)
		storedLater(t, r, r.kill, r.run)
	})
}

func storedLater(t *testing.T, s storage, take, putBack func()) {
	c := start(t, s, 1, sandbox.Config{Overlap: -1})
	c.authorize(shop)
	a := c.nodes[0]
	c.weChat.SetSwitches(sandbox.Switches{RotateRefreshTokens: true})
	c.weChat.KillTokens(shop)
	reached, release := c.weChat.hold(authorizerToken, answered)
	called := make(chan answer, 1)
	go func() { called <- a.call(shop) }()
	c.reached("WeChat answers", reached)
	take()
	release()
	if first := <-called; !first.ok() {
		t.Errorf("the call that waited was answered %s", first)
	}
	a.wantCall(shop)
	putBack()
	took := c.until("the new refresh token is stored", healing, func() bool {
		record, err := c.record(shop)
		return err == nil && record.Refresh.Reveal() == c.weChat.ValidToken(sandbox.KindRefresh, shop)
	})
	t.Logf("stored after %s", milliseconds(took))
	a.Kill()
	a.restart()
	a.wantCall(shop)
	c.wantCounts(map[string]int{authorizerToken: 1})
}

// Nothing can be written. What is stored is still read; a token that must be
// renewed is refused until there is room again.
func TestStorageThatCannotBeWritten(t *testing.T) {
	for name, spoil := range map[string]func(d disk) (mend func()){
		"full":      disk.fill,
		"read-only": disk.writeProtect,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDisk(t)
			c := start(t, d.folder, 2, sandbox.Config{Switches: sandbox.Switches{PushAttempts: 1}})
			c.authorize(shop, cafe)
			a, b := c.nodes[0], c.nodes[1]
			c.forget(b)
			served := c.let(5, 10*time.Millisecond, func(n *node) answer { return n.call(shop) })
			mend := spoil(d)
			b.wantCall(cafe)
			c.weChat.KillTokens(cafe)
			c.wantNoStorage("rejected", "rejected", a.call(cafe))
			if c.weChat.PushTicket(t.Context()) == nil {
				t.Error("a ticket is acknowledged that cannot be stored")
			}
			served.flow(50)
			mend()
			took := c.until("the token is renewed", healing, func() bool { return a.call(cafe).ok() })
			b.wantCall(cafe)
			c.nextSecond()
			c.must(c.weChat.PushTicket(t.Context()))
			t.Logf("healed after %s; %d calls for the other account meanwhile", milliseconds(took), served.stop())
			c.wantCounts(map[string]int{authorizerToken: 1})
			c.wantRefreshToken(shop)
			c.wantRefreshToken(cafe)
		})
	}
}

// forget starts a node again, with nothing but the first account in memory.
func (c *cluster) forget(n *node) {
	c.Helper()
	n.Kill()
	n.restart()
	n.wantCall(shop)
}

// wantNoStorage fails the test unless a call was refused because the storage
// is unavailable.
func (c *cluster) wantNoStorage(what, slug string, a answer) {
	c.Helper()
	if a.Status != http.StatusServiceUnavailable || a.ErrCode != -1 || a.Slug != slug {
		c.Errorf("%s: answered %s, want 503 -1 %s", what, a, slug)
	}
	c.Logf("%s: refused after %s", what, milliseconds(a.took))
}
