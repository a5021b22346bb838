// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// StoredRecords returns the content of every record in storage by its path. The
// marks of authorization codes that are about to be exchanged are left out, and when the
// nodes have last compared the index of accounts with the records.
func (g *Gateway) StoredRecords(t testing.TB) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(filepath.Join(g.Storage, "wechat"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.Contains(path, "/pending/") || filepath.Base(filepath.Dir(path)) == "states" {
			return err
		}
		content, err := os.ReadFile(path)
		files[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// awaitExchanges waits until no authorization_code is being exchanged any more:
// until then a token in memory may be dropped and set again at any moment.
func (g *Gateway) awaitExchanges() {
	g.t.Helper()
	g.until("no code is pending", func() bool {
		marks, err := filepath.Glob(filepath.Join(g.Storage, "wechat", "*", "pending", "*"))
		if err != nil {
			g.t.Fatal(err)
		}
		return len(marks) == 0
	})
}

// awaitProfiles waits until the profiles of both accounts are stored.
func (g *Gateway) awaitProfiles() {
	g.t.Helper()
	g.until("both profiles are stored", func() bool { return g.HasProfile(OfficialAccount) && g.HasProfile(MiniProgram) })
}

// until waits for something that must happen; half a minute later the test fails.
func (g *Gateway) until(what string, happened func() bool) {
	g.t.Helper()
	for end := time.Now().Add(30 * time.Second); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			g.t.Fatalf("in vain: %s\n%s", what, g.Logs())
		}
	}
}

// tellsOfAccounts reports whether WeChat tells the gateway of its accounts: not every
// Options.Upstream does, and without the push the gateway does not know that it should ask.
func (g *Gateway) tellsOfAccounts() bool {
	if g.options.Sandbox.Switches.NoAuthorizedPush {
		return false
	}
	switch upstream := g.options.Upstream.(type) {
	case nil:
		return len(g.options.API) == 0
	case *Upstream:
		return upstream.asksWeChat(InfoPath)
	}
	return false
}

// BreakStorage puts a file where the folder of all records must be, so that
// nothing can be stored or loaded until repair is called. The records are lost.
func (g *Gateway) BreakStorage(t testing.TB) (repair func()) {
	t.Helper()
	folder := filepath.Join(g.Storage, "wechat")
	Instead(t, folder, func() error { return os.WriteFile(folder, nil, 0o600) })
	return func() {
		if err := os.Remove(folder); err != nil {
			t.Fatal(err)
		}
	}
}

// Instead puts something in the place of what stands at a path, which is lost. The
// gateway may store something in between, which makes a folder: it is removed as well.
func Instead(t testing.TB, path string, put func() error) {
	t.Helper()
	var err error
	for range 1000 {
		_ = os.RemoveAll(path)
		if err = put(); err == nil {
			return
		}
	}
	t.Fatal(err)
}
