// SPDX-License-Identifier: Apache-2.0

// Package cluster_test runs several gateways as processes with one storage, a
// folder or Redis, and shows what they promise together: when tokens end, when
// one of them is killed, when the storage goes, when configurations change.
package cluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

func TestMain(m *testing.M) { caddy.Main(m) }

const (
	component = sandbox.DefaultComponent
	shop      = "wxaaaaaaaaaaaaaaaa" // an account, and another
	cafe      = "wxbbbbbbbbbbbbbbbb"
)

// cluster is several gateways with one storage before one WeChat.
type cluster struct {
	*testing.T
	weChat  *weChat
	storage storage
	nodes   []*node
}

// node is one gateway, and after it was killed the next at its addresses.
type node struct {
	caddy.Node
	*caddy.Process
	c       *cluster
	name    string
	printed func() string // by all its processes
}

// start runs n gateways, of which the first gets WeChat's pushes. Their wechat
// blocks have the lines given.
func start(t *testing.T, s storage, n int, config sandbox.Config, wechat ...string) *cluster {
	t.Helper()
	c := &cluster{T: t, weChat: newWeChat(t, config), storage: s}
	for i := range n {
		c.nodes = append(c.nodes, c.newNode(string(rune('A'+i)), wechat))
	}
	t.Cleanup(c.nothingLeaked) // runs when the processes have ended
	for _, n := range c.nodes {
		n.run()
	}
	for _, n := range c.nodes {
		n.Serves(n.Platform, n.Proxy)
	}
	c.pushTo(c.nodes[0])
	return c
}

func (c *cluster) newNode(name string, wechat []string) *node {
	// Short, because the path of a unix socket is.
	folder, err := os.MkdirTemp("", "cluster-")
	c.must(err)
	c.Cleanup(func() { os.RemoveAll(folder) })
	return &node{c: c, name: name, printed: func() string { return "" }, Node: caddy.Node{
		Admin: "unix/" + filepath.Join(folder, "admin"), Storage: c.storage.directive(c.T, name), WeChat: c.weChat.url,
		Platform: caddy.FreeAddress(c.T), Proxy: caddy.FreeAddress(c.T),
		Clients: strings.Replace(caddy.Shop, "authorizers *", "authorizers *\ncomponent_api", 1),
		Wechat:  strings.Join(wechat, "\n"),
	}}
}

// run starts a process for the node. It does not wait until it serves.
func (n *node) run() {
	n.c.Helper()
	before, p := n.printed, n.Run(n.c.T, filepath.Join(n.c.TempDir(), "Caddyfile"))
	n.Process, n.printed = p, func() string { return before() + p.Printed() }
}

// restart runs the node again and waits until it serves.
func (n *node) restart() {
	n.c.Helper()
	n.run()
	n.Serves(n.Platform, n.Proxy)
}

// pushTo sends WeChat's pushes to a node from now on.
func (c *cluster) pushTo(n *node) { c.weChat.SetURLs("http://"+n.Platform+"/wechat/events", "") }

// authorize pushes a ticket, lets accounts authorise, and has every node call
// for them. What led there is not counted.
func (c *cluster) authorize(appids ...string) {
	c.Helper()
	c.must(c.weChat.PushTicket(c.Context()))
	for _, appid := range appids {
		c.must(c.weChat.AddAccount(sandbox.Account{AppID: appid}))
		_, err := c.weChat.Authorize(c.Context(), appid)
		c.must(err)
	}
	c.warm(appids...)
	c.wantNothingPending() // tokens are served before the exchange of the code has released its lock
	c.wantProfiles(appids...)
	c.weChat.ResetCounts()
}

// wantProfiles waits until the profiles of accounts are stored.
func (c *cluster) wantProfiles(appids ...string) {
	c.Helper()
	for _, appid := range appids {
		c.until("the profile of "+appid+" is stored", time.Minute, func() bool {
			keys, err := c.storage.List(c.Context(), "wechat/"+component+"/profiles", true)
			return err == nil && slices.ContainsFunc(keys, func(key string) bool { return strings.HasSuffix(key, "/"+appid+".json") })
		})
	}
}

// warm makes every node take the tokens into memory.
func (c *cluster) warm(subjects ...string) {
	c.Helper()
	for _, n := range c.nodes {
		for _, subject := range append(subjects, component) {
			n.wantCall(subject)
		}
	}
}

// nothingLeaked searches what the processes printed and stored.
func (c *cluster) nothingLeaked() {
	credentials := c.weChat.Credentials()
	for _, n := range c.nodes {
		caddy.WantNoCredential(c.T, credentials, "what node "+n.name+" printed", n.printed())
	}
	for _, folder := range c.storage.folders() {
		c.must(filepath.WalkDir(folder, func(path string, file os.DirEntry, err error) error {
			if err != nil || !file.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			caddy.WantNoCredential(c.T, credentials, path, string(content))
			return err
		}))
	}
}

// wantCounts fails the test unless the component API was asked exactly so
// often; an endpoint that is not named may not have been asked at all, one with anyNumber
// how often it liked.
func (c *cluster) wantCounts(want map[string]int) {
	c.Helper()
	for _, name := range []string{componentToken, queryAuth, authorizerToken, authorizerInfo, startPushTicket} {
		if n := c.weChat.Count(componentAPI + name); n != want[name] && want[name] != anyNumber {
			c.Errorf("%s was asked %d times, want %d", name, n, want[name])
		}
	}
}

const anyNumber = -1 // of calls

const (
	componentAPI    = "/cgi-bin/component/"
	startPushTicket = "api_start_push_ticket"
	componentToken  = "api_component_token"
	queryAuth       = "api_query_auth"
	authorizerToken = "api_authorizer_token"
	authorizerInfo  = "api_get_authorizer_info"
)

// until asks again and again until the answer is yes, and returns how long
// that took.
func (c *cluster) until(what string, within time.Duration, yes func() bool) time.Duration {
	c.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if yes() {
			return time.Since(began)
		}
		if time.Since(began) > within {
			c.Fatalf("not within %v: %s", within, what)
		}
	}
}

// reached waits for something that is about to happen.
func (c *cluster) reached(what string, happened <-chan struct{}) {
	c.Helper()
	select {
	case <-happened:
	case <-time.After(30 * time.Second):
		c.Fatalf("never: %s", what)
	}
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
