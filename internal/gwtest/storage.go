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
// marks of authorization codes that are about to be exchanged are left out.
func (g *Gateway) StoredRecords(t testing.TB) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(filepath.Join(g.Storage, "wechat"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.Contains(path, "/pending/") {
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
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		marks, err := filepath.Glob(filepath.Join(g.Storage, "wechat", "*", "pending", "*"))
		if err != nil {
			g.t.Fatal(err)
		}
		if len(marks) == 0 {
			return
		}
		if time.Now().After(end) {
			g.t.Fatalf("codes are pending still: %s\n%s", marks, g.Logs())
		}
	}
}

// BreakStorage puts a file where the folder of all records must be, so that
// nothing can be stored or loaded until repair is called. The records are lost.
func (g *Gateway) BreakStorage(t testing.TB) (repair func()) {
	t.Helper()
	folder := filepath.Join(g.Storage, "wechat")
	var err error
	for range 1000 { // the gateway may be storing something at the same time
		_ = os.RemoveAll(folder)
		if err = os.WriteFile(folder, nil, 0o600); err == nil {
			return func() {
				if err := os.Remove(folder); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Fatal(err)
	return nil
}
