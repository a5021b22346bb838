// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
	"github.com/caddy-wechat/caddy-wechat/test/need"
)

const (
	sendPath = "/cgi-bin/message/custom/send"
	migrate  = "/proc/sys/net/ipv4/tcp_migrate_req" // 1: Linux keeps connections that wait at a closed listener
)

// Configurations are changed again and again on two nodes that are called all
// the time: no call fails, none is made twice, and nothing is left behind.
func TestReloads(t *testing.T) {
	need.File(t, "the test reads what Linux tells of processes", "/proc/self/status")
	if !ownNetwork(t) {
		return
	}
	const reloads = 200
	eachStorage(t, func(t *testing.T, s storage) {
		t.Parallel() // each cluster has processes and a WeChat of its own
		c := start(t, s, 2, sandbox.Config{History: 100})
		c.authorize(shop)
		c.load(10) // so that every pool and cache has its size
		before := c.usage()
		c.weChat.ResetCounts()
		calls, took := c.load(reloads)
		t.Logf("%d calls during %d reloads in %v", calls, reloads, took.Round(time.Millisecond))
		if sent := c.weChat.Count(sendPath); int64(sent) != calls {
			t.Errorf("%d calls were answered, WeChat saw %d", calls, sent)
		}
		c.wantCounts(nil)
		for i, n := range c.nodes {
			c.wantUsage(n, before[i])
		}
	})
}

// A node is reloaded while WeChat is slow to issue a token: the node keeps the lock of
// the account, although Caddy closes the storage that has given it. So no other node
// asks for a token as well, and all are answered as soon as WeChat answers. Then the
// lock is free at once.
func TestReloadWhileWeChatIsSlow(t *testing.T) {
	eachStorage(t, func(t *testing.T, s storage) {
		t.Parallel()
		c := start(t, s, 2, sandbox.Config{})
		c.authorize(shop)
		a, b := c.nodes[0], c.nodes[1]
		c.weChat.KillTokens(shop)
		c.weChat.ResetCounts()
		reached, release := c.weChat.hold(authorizerToken, asked)
		first, second := make(chan answer, 1), make(chan answer, 1)
		go func() { first <- a.call(shop) }()
		c.reached("WeChat is asked for a token", reached)
		a.Wechat = "cache_size 1000"
		c.must(a.reload())
		go func() { second <- b.call(shop) }()
		select {
		case answer := <-second:
			t.Errorf("node B was answered %s while node A has the lock", answer)
			second <- answer
		case <-time.After(1500 * time.Millisecond): // storages look for a free lock every second
		}
		release()
		for _, answers := range []chan answer{first, second} {
			if answer := <-answers; !answer.ok() || answer.took > 10*time.Second {
				t.Errorf("answered %s after %v", answer, answer.took)
			}
		}
		c.wantCounts(map[string]int{authorizerToken: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // a lock that is left goes stale later
		defer cancel()
		lock := "wechat_" + component + "_" + shop
		if err := c.storage.Lock(ctx, lock); err != nil {
			t.Fatalf("the lock stands: %v", err)
		}
		c.must(c.storage.Unlock(t.Context(), lock))
	})
}

// load makes so many reloads, on all nodes together, while they are called. A
// POST is not repeated by the client itself, so none must be dropped. When a
// reload closes a listener, Linux resets the connections that wait there, unless
// net.ipv4.tcp_migrate_req is 1, which it is in a network of the test's own: there
// none may be reset. Elsewhere those few calls are made again, and that WeChat
// sees none twice shows in its counts.
func (c *cluster) load(reloads int) (calls int64, took time.Duration) {
	c.Helper()
	const message = `{"touser":"o123","msgtype":"text","text":{"content":"你好"}}`
	began := time.Now()
	var resets atomic.Int64
	served := c.let(10, 10*time.Millisecond, func(n *node) (a answer) {
		for range 2 {
			a = n.ask(n.Proxy, sendPath, message, http.Header{
				"Authorization": {"Bearer " + caddy.ClientSecret}, "Wechat-Appid": {shop},
			})
			if !errors.Is(a.err, syscall.ECONNRESET) {
				break
			}
			resets.Add(1)
		}
		return a
	})
	defer func() {
		most := max(1, reloads/50)
		if migrates, _ := os.ReadFile(migrate); strings.TrimSpace(string(migrates)) == "1" {
			most = 0
		}
		if n := resets.Load(); n > int64(most) {
			c.Errorf("%d connections were reset in %d reloads, at most %d by Linux", n, reloads, most)
		}
	}()
	var reloading sync.WaitGroup
	for _, n := range c.nodes {
		reloading.Go(func() {
			for i := range reloads / len(c.nodes) {
				n.Wechat = fmt.Sprint("cache_size ", 1000+i%2)
				if err := n.reload(); err != nil {
					c.Errorf("node %s, reload %d: %v", n.name, i, err)
					return
				}
				served.flow(int64(2 * len(c.nodes)))
			}
		})
	}
	reloading.Wait()
	return served.stop(), time.Since(began)
}

// usage is what a process holds.
type usage struct {
	goroutines, files int
	memory, heap      int // bytes
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %.1f MB of memory, %.1f MB of heap",
		u.goroutines, u.files, float64(u.memory)/1e6, float64(u.heap)/1e6)
}

func (c *cluster) usage() (all []usage) {
	c.Helper()
	c.atRest()
	for _, n := range c.nodes {
		all = append(all, n.usage())
	}
	return all
}

// atRest closes the connections of both sides, which would otherwise be kept
// for a while.
func (c *cluster) atRest() {
	client.CloseIdleConnections()
	c.weChat.server.CloseClientConnections()
}

var (
	goroutines = regexp.MustCompile(`goroutine profile: total (\d+)`)
	resident   = regexp.MustCompile(`VmRSS:\s*(\d+) kB`)
	heapInUse  = regexp.MustCompile(`# HeapAlloc = (\d+)`)
)

// usage measures after a garbage collection.
func (n *node) usage() usage {
	n.c.Helper()
	heap := n.profile("heap?gc=1&debug=1")
	stacks := n.profile("goroutine?debug=1")
	process := fmt.Sprintf("/proc/%d/", n.Process.Process.Pid)
	status, err := os.ReadFile(process + "status")
	n.c.must(err)
	files, err := os.ReadDir(process + "fd")
	n.c.must(err)
	return usage{number(goroutines, stacks), len(files), number(resident, string(status)) << 10, number(heapInUse, heap)}
}

func (n *node) profile(name string) string {
	n.c.Helper()
	text, err := n.admin(http.MethodGet, "/debug/pprof/"+name, "")
	n.c.must(err)
	return text
}

func number(in *regexp.Regexp, text string) int {
	if found := in.FindStringSubmatch(text); found != nil {
		n, _ := strconv.Atoi(found[1])
		return n
	}
	return -1
}

// wantUsage waits until a node holds no more than before: some goroutines end
// a little later, and memory is given back step by step.
func (c *cluster) wantUsage(n *node, before usage) {
	c.Helper()
	var after usage
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(200 * time.Millisecond) {
		c.atRest()
		after = n.usage()
		if after.goroutines <= before.goroutines && after.files <= before.files &&
			after.memory <= before.memory*125/100 && after.heap <= before.heap*120/100 {
			c.Logf("node %s: %v before, %v after", n.name, before, after)
			return
		}
	}
	c.Errorf("node %s: %v before, %v after", n.name, before, after)
	c.Log(strings.TrimSpace(n.profile("goroutine?debug=1")))
}
