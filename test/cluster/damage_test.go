// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// What is stored does not open any more: it is kept aside as it is, and rebuilt
// from WeChat by the first who needs it.
func TestDamagedRecordsAreKeptAsideAndRebuilt(t *testing.T) {
	for _, row := range []struct {
		name   string
		damage func(file []byte) []byte
	}{
		{"truncated", func(file []byte) []byte { return file[:len(file)/2] }},
		{"empty", func([]byte) []byte { return nil }},
		{"garbled", func(file []byte) []byte {
			return bytes.Replace(file, []byte(`"box":"`), []byte(`"box":"AAAA`), 1)
		}},
		{"of a newer format", func(file []byte) []byte {
			return bytes.Replace(file, []byte(`"schema":1`), []byte(`"schema":2`), 1)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			eachStorage(t, func(t *testing.T, s storage) {
				c := start(t, s, 2, sandbox.Config{})
				c.authorize(shop)
				c.weChat.AdvanceClock(2 * time.Minute) // it pushes a ticket once a minute at most
				for _, n := range c.nodes {
					n.Kill()
				}
				damaged := make(map[string][]byte)
				for _, name := range []string{"ticket.json", "component.json", "authorizers/aa/" + shop + ".json"} {
					key := "wechat/" + component + "/" + name
					file, err := s.Load(t.Context(), key)
					c.must(err)
					damaged[key] = row.damage(file)
					if bytes.Equal(damaged[key], file) {
						t.Fatalf("%s is not damaged: %s", key, file)
					}
					c.must(s.Store(t.Context(), key, damaged[key]))
				}
				for _, n := range c.nodes {
					n.restart()
				}
				for _, n := range c.nodes {
					c.until("node "+n.name+" serves", healing, func() bool { return n.call(shop).ok() })
				}
				c.wantCounts(map[string]int{startPushTicket: 1, componentToken: 1, authorizerToken: 1, authorizerInfo: 1})
				c.wantRefreshToken(shop)
				c.wantAside(damaged)
			})
		})
	}
}

// wantAside fails the test unless each file stands, as it was, beside the one
// that has taken its place.
func (c *cluster) wantAside(files map[string][]byte) {
	c.Helper()
	stored, err := c.storage.List(c.Context(), "wechat", true)
	c.must(err)
	for _, key := range stored {
		original, _, aside := strings.Cut(key, ".unreadable-")
		if !aside {
			continue
		}
		if file, err := c.storage.Load(c.Context(), key); err != nil || !bytes.Equal(file, files[original]) {
			c.Errorf("%s holds %q, %v", key, file, err)
		}
		delete(files, original)
	}
	for key := range files {
		c.Errorf("%s is not kept aside", key)
	}
}
