// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// The storage is emptied while a thousand accounts are in use at every gateway. The tokens in memory are served as before. When they end, every
// account comes back by itself, from the app secret and the next ticket: its
// refresh token is asked of WeChat once, by one gateway. Who is not called is
// not asked about.
func TestThousandAccountsComeBackAfterTheStorageWasEmptied(t *testing.T) {
	t.Run("folder", func(t *testing.T) {
		t.Parallel()
		f := newFolder(t)
		rebuilt(t, f, 1000, f.empty)
	})
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		r := newRedis(t)
		rebuilt(t, r, 100, r.empty)
	})
}

func rebuilt(t *testing.T, s storage, used int, empty func()) {
	c := start(t, s, 1, sandbox.Config{})
	c.must(c.weChat.PushTicket(t.Context()))
	var all []string
	for i := range used + used/50 {
		all = append(all, fmt.Sprintf("wx%016x", i))
		c.must(c.weChat.AddAccount(sandbox.Account{AppID: all[i]}))
	}
	c.forEach(all, func(appid string) error {
		_, err := c.weChat.Authorize(t.Context(), appid)
		return err
	})
	c.callEverywhere(all)
	c.join("B", "C")
	c.callEverywhere(all[:used])
	for range 2 { // after the first call the token may not be in memory yet
		for _, n := range c.nodes {
			n.wantCall(component) // with this token they ask for profiles
		}
	}
	c.weChat.ResetCounts()
	counted := time.Now()

	empty()
	c.callEverywhere(all[:used/10])
	c.wantCounts(map[string]int{authorizerInfo: anyNumber, startPushTicket: anyNumber}) // a node that looks for a ticket just now asks
	c.nextSecond()
	c.must(c.weChat.PushTicket(t.Context()))
	c.weChat.KillTokens("")
	for _, n := range c.nodes {
		n.wantCall(component) // or WeChat would refuse the first questions for their token
	}
	began := time.Now()
	c.callEverywhere(all[:used])
	t.Logf("%d accounts are back after %s", used, milliseconds(time.Since(began)))
	c.wantCounts(map[string]int{componentToken: 1, authorizerInfo: anyNumber, authorizerToken: used, startPushTicket: anyNumber})
	// Meanwhile each node goes on to ask for profiles, ten at once and one a second.
	most := used + len(c.nodes)*(11+int(time.Since(counted).Seconds()))
	if n := c.weChat.Count(componentAPI + authorizerInfo); n < used || n > most {
		t.Errorf("%d questions for %d accounts, want %d at most", n, used, most)
	}
	for _, appid := range all[:used] {
		if n := c.weChat.times(authorizerInfo, appid); n == 0 {
			t.Errorf("%s was not asked for", appid)
		}
		c.wantRefreshToken(appid)
	}
}

// join starts more gateways when there is nothing left for them to do but to
// serve: at their start they would exchange what codes they find.
func (c *cluster) join(names ...string) {
	c.Helper()
	for _, name := range names {
		n := c.newNode(name, nil)
		n.restart()
		c.nodes = append(c.nodes, n)
	}
}

// callEverywhere makes a call for every account through every node, and fails
// the test unless all succeed.
func (c *cluster) callEverywhere(appids []string) {
	c.Helper()
	c.forEach(appids, func(appid string) error {
		answers := make(chan answer, len(c.nodes))
		for _, n := range c.nodes {
			go func() { answers <- n.call(appid) }()
		}
		var err error
		for range c.nodes {
			if a := <-answers; !a.ok() {
				err = fmt.Errorf("a call for %s was answered %s", appid, a)
			}
		}
		return err
	})
}

// forEach does something for every account, many at a time, and fails the test
// unless all of it succeeds.
func (c *cluster) forEach(appids []string, do func(appid string) error) {
	c.Helper()
	jobs := make(chan string)
	failed := make(chan error, len(appids))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for appid := range jobs {
				if err := do(appid); err != nil {
					failed <- err
				}
			}
		})
	}
	for _, appid := range appids {
		jobs <- appid
	}
	close(jobs)
	all.Wait()
	if n := len(failed); n > 0 {
		c.Fatalf("%d of %d failed, the first: %v", n, len(appids), <-failed)
	}
}

// empty throws away all that is stored, at once.
func (f folder) empty() {
	must(os.Rename(f.Path, f.Path+".emptied"))
	must(os.RemoveAll(f.Path + ".emptied"))
}

// empty throws away all that the server has stored.
func (r *redis) empty() {
	r.t.Helper()
	connection, err := net.Dial("unix", r.socket())
	must(err)
	defer connection.Close()
	_, err = io.WriteString(connection, "FLUSHALL\r\n")
	must(err)
	answer := make([]byte, len("+OK\r\n"))
	if _, err := io.ReadFull(connection, answer); err != nil || string(answer) != "+OK\r\n" {
		r.t.Fatalf("Redis answers %q, %v", answer, err)
	}
}
