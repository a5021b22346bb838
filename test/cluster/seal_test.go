// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/need"
)

// The seal key is changed on one node after the other, and node A dies in the
// middle of its reload. What was sealed with the old key opens as before; what
// a node cannot open it rebuilds from WeChat, and no refresh token is lost.
func TestKilledWhileChangingTheSealKey(t *testing.T) {
	need.Command(t, "it belongs to coreutils", "mkfifo")
	old, next := text(sealKey(1)), text(sealKey(2))
	eachStorage(t, func(t *testing.T, s storage) {
		t.Parallel()
		c := start(t, s, 2, sandbox.Config{Overlap: -1}, "seal_key "+old)
		a, b := c.nodes[0], c.nodes[1]
		c.authorize(shop, cafe)

		// The key comes out of a pipe into which nobody writes.
		pipe := filepath.Join(t.TempDir(), "key")
		c.must(exec.Command("mkfifo", pipe).Run())
		a.Wechat = "seal_key {file." + pipe + "} " + old
		reached := make(chan struct{})
		go func() {
			if file, err := os.OpenFile(pipe, os.O_WRONLY, 0); err == nil { // waits for who reads
				defer file.Close()
				close(reached)
				<-t.Context().Done()
			}
		}()
		go a.reload() // dies with the node
		c.reached("node A reads the key", reached)
		a.Kill()

		b.wantCall(shop)
		b.wantCall(cafe)
		a.Wechat = "seal_key " + next + " " + old
		a.restart()
		a.wantCall(shop)
		a.wantCall(cafe)
		c.wantCounts(nil)

		// Only the token in node B's memory is left of what it can open.
		c.weChat.KillTokens(cafe)
		a.wantCall(cafe)
		c.wantCounts(map[string]int{authorizerToken: 1})
		b.wantCall(cafe)
		a.wantCall(cafe)
		c.wantCounts(map[string]int{authorizerToken: 2, authorizerInfo: 1})

		b.Wechat = a.Wechat
		c.must(b.reload())
		for _, n := range []*node{a, b} {
			c.weChat.KillTokens("")
			n.wantCall(shop)
			n.wantCall(cafe)
			c.warm(shop, cafe)
		}
		if asked := c.weChat.Count(componentAPI + authorizerInfo); asked != 1 {
			t.Errorf("WeChat was asked %d times for a refresh token, want once", asked)
		}
		c.wantRefreshToken(shop)
		c.wantRefreshToken(cafe)
	})
}

func text(key []byte) string { return base64.StdEncoding.EncodeToString(key) }
