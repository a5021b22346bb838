// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A secret may come through a pipe, which can be read once.
func TestFileOfASecretIsReadOnce(t *testing.T) {
	goodSecrets(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(pipe, []byte("good-client-secret-good-client-secret\n"), 0o600) }()
	text := strings.Replace(goodCaddyfile, "{env.TEST_SECRET}", "{file."+pipe+"}", 1)
	if err := provisioned(t, mustAdaptText(t, text), ""); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}
