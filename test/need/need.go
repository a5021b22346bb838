// SPDX-License-Identifier: Apache-2.0

// Package need finds the programs that tests run beside Go.
package need

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Command returns the path of the first of the named programs that is
// installed. Without any, the test fails where nothing may be left out
// (CI=true), and is skipped elsewhere with a hint how to install one.
func Command(t testing.TB, hint string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Missing(t, strings.Join(names, " or "), hint)
	return ""
}

// File returns path if there is a file, and otherwise behaves as Command does.
func File(t testing.TB, hint, path string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		Missing(t, path, hint)
	}
	return path
}

// Missing ends the test.
func Missing(t testing.TB, what, hint string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: %s", what, hint)
	}
	t.Skipf("%s is missing: %s", what, hint)
}
