// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// From files to Redis and to two nodes, by the commands of docs/backup.md: all that was
// stored is there, accounts are served at both nodes, gateway tokens hold, and WeChat is
// asked for nothing.
func TestStorageMovesFromFilesToRedis(t *testing.T) {
	files, redis := newFolder(t), newRedis(t)
	sealed := []string{"seal_key " + text(sealKey(1))}
	c := start(t, files, 1, sandbox.Config{}, sealed...)
	old := c.nodes[0]
	c.authorize(shop, cafe)
	_, issued := old.token(shop)
	old.Terminate()

	c.storage = redis
	c.nodes = []*node{c.newNode("B", sealed), c.newNode("C", sealed)}
	paths := map[string]string{"/etc/caddy/Caddyfile": c.written(old), "/etc/caddy/Caddyfile.redis": c.written(c.nodes[0]), "wechat.tar": filepath.Join(t.TempDir(), "wechat.tar")}
	commands := regexp.MustCompile(`caddy (storage \w+ --config \S+ --(?:output|input) [\w.]+)\n`).FindAllStringSubmatch(section(t, "From files to Redis, and to two nodes"), -1)
	if len(commands) != 2 {
		t.Fatalf("%d commands are shown, want an export and an import", len(commands))
	}
	for _, command := range commands {
		c.runs(strings.Fields(command[1]), paths)
	}
	wantSameKeys(t, files, redis)

	for _, n := range c.nodes {
		n.run()
	}
	for _, n := range c.nodes {
		n.Serves(n.Platform, n.Proxy)
		if a := n.ask(n.Proxy, "/cgi-bin/user/get?access_token="+issued, "", nil); !a.ok() {
			t.Errorf("node %s, with a gateway token from before: answered %s", n.name, a)
		}
	}
	c.pushTo(c.nodes[0])
	c.warm(shop, cafe)
	c.wantCounts(nil)
	c.wantRefreshToken(shop)
	c.wantRefreshToken(cafe)
}

// A backup from before renewals, a withdrawal and a new account costs questions, and no
// account.
func TestOldBackupIsBroughtUpToDate(t *testing.T) {
	const late = "wxcccccccccccccccc"
	files := newFolder(t)
	c := start(t, files, 1, sandbox.Config{Overlap: -1, Switches: sandbox.Switches{RotateRefreshTokens: true}})
	a := c.nodes[0]
	c.authorize(shop, cafe)
	a.Terminate()
	paths := map[string]string{"Caddyfile": c.written(a), "wechat.tar": filepath.Join(t.TempDir(), "wechat.tar")}
	c.runs([]string{"storage", "export", "--config", "Caddyfile", "--output", "wechat.tar"}, paths)

	a.restart()
	c.weChat.KillTokens(shop)
	a.wantCall(shop)
	c.authorize(late)
	c.must(c.weChat.Revoke(t.Context(), cafe))
	a.Terminate()
	c.must(os.RemoveAll(files.Path))
	c.runs([]string{"storage", "import", "--config", "Caddyfile", "--input", "wechat.tar"}, paths)
	before := c.weChat.times(authorizerInfo, shop)

	a.restart()
	a.wantCall(shop)
	a.wantCall(late)
	if answered := a.call(cafe); answered.ErrCode != 61003 {
		t.Errorf("the account that has withdrawn: answered %s", answered)
	}
	if asked := c.weChat.times(authorizerInfo, shop) - before; asked != 1 {
		t.Errorf("WeChat was asked %d times for the refresh token that it has replaced, want once", asked)
	}
	c.wantRefreshToken(shop)
	c.wantRefreshToken(late)
}

// section returns a part of docs/backup.md.
func section(t *testing.T, title string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/backup.md")
	must(err)
	_, rest, found := strings.Cut(string(page), "\n## "+title+"\n")
	if !found {
		t.Fatalf("docs/backup.md has no section %q", title)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

// written writes the Caddyfile of a node, and returns its path.
func (c *cluster) written(n *node) string {
	path := filepath.Join(c.TempDir(), "Caddyfile")
	n.Write(c.T, path)
	return path
}

// runs runs the program with arguments, of which some are paths on a page.
func (c *cluster) runs(arguments []string, paths map[string]string) {
	c.Helper()
	for i, argument := range arguments {
		if path, known := paths[argument]; known {
			arguments[i] = path
		}
	}
	p := caddy.Launch(c.T, arguments...)
	code, imported := p.Wait(), strings.Contains(p.Printed(), "Successfully imported storage")
	if code != 0 || imported != (arguments[1] == "import") {
		c.Fatalf("%q: exit code %d, %s", arguments, code, p.Printed())
	}
}

// wantSameKeys fails the test unless both storages have the same files below wechat.
func wantSameKeys(t *testing.T, from, to storage) {
	t.Helper()
	files := func(s storage) map[string][]byte {
		all := make(map[string][]byte)
		keys, err := s.List(t.Context(), "wechat", true)
		must(err)
		for _, key := range keys {
			info, err := s.Stat(t.Context(), key)
			must(err)
			if info.IsTerminal {
				all[key], err = s.Load(t.Context(), key)
				must(err)
			}
		}
		return all
	}
	want, got := files(from), files(to)
	if len(want) < 6 || len(got) != len(want) {
		t.Errorf("%d files have become %d", len(want), len(got))
	}
	for key, content := range want {
		if !bytes.Equal(got[key], content) {
			t.Errorf("%s is another one", key)
		}
	}
}
