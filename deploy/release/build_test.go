// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// What is missing is said before anything is built, with what to do.
func TestReleaseNeedsAClone(t *testing.T) {
	git := func(folder string, arguments ...string) {
		t.Helper()
		if output, err := exec.Command("git", append([]string{"-C", folder}, arguments...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", arguments, err, output)
		}
	}
	unpacked, empty, clone := t.TempDir(), t.TempDir(), t.TempDir()
	git(empty, "init", "-q")
	git(clone, "init", "-q")
	git(clone, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-q", "--allow-empty", "-m", "x")
	t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(unpacked))
	for folder, remedy := range map[string]string{unpacked: "use git clone", empty: "use git clone"} {
		out := filepath.Join(t.TempDir(), "dist")
		if err := release(folder, out); err == nil || !strings.Contains(err.Error(), remedy) {
			t.Errorf("%v, want %q in it", err, remedy)
		}
		if _, err := os.Stat(out); err == nil {
			t.Error("it leaves a folder behind")
		}
	}
	if err := checkSource(clone); err != nil {
		t.Error(err)
	}
	out := t.TempDir()
	if err := release(clone, out); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("into a folder that is there: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := checkSource(clone); err == nil || !strings.Contains(err.Error(), "git is not installed") {
		t.Errorf("without git: %v", err)
	}
}

// Experiments of Go would make other bytes, and can also be stored with go env -w.
func TestExperimentsAreRefused(t *testing.T) {
	info := &buildinfo.BuildInfo{Settings: []debug.BuildSetting{
		{Key: "GOOS", Value: "linux"}, {Key: "GOARCH", Value: "arm64"}, {Key: "vcs.revision", Value: commit}, {Key: "vcs.time", Value: "2026-11-30T12:00:00Z"},
	}}
	if p, err := describe(info, "caddy", platform{"linux", "arm64"}); err != nil || p.commit != commit || !p.time.Equal(commitTime) {
		t.Errorf("%+v, %v", p, err)
	}
	info.Settings = append(info.Settings, debug.BuildSetting{Key: "GOEXPERIMENT", Value: "arenas"})
	if _, err := describe(info, "caddy", platform{"linux", "arm64"}); err == nil || !strings.Contains(err.Error(), "go env -u GOEXPERIMENT") {
		t.Errorf("%v, want what to unset", err)
	}
}
