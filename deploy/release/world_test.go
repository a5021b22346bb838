// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

const (
	source = "../.." // the gateway's repository
	commit = "0123456789abcdef0123456789abcdef01234567"
)

var commitTime = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// scratch is a folder for what all tests share.
var scratch string

// inside tells a process of a test that it was started by a test, in namespaces of its
// own. Its value is the folder of that test.
const inside = "RELEASE_TEST_INSIDE"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if scratch = os.Getenv(inside); scratch != "" {
		return m.Run()
	}
	folder, err := os.MkdirTemp("", "caddy-wechat-release-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	scratch = folder
	return m.Run()
}

// compiled builds the gateway for this machine, and for the other processors a small
// program in its place: to compile all of Caddy for them takes minutes. The gateway is
// built with the options of make build, so that what that has compiled is used.
var compiled = sync.OnceValues(func() ([]*program, error) {
	var all []*program
	for _, arch := range []string{"amd64", "arm64"} {
		p := &program{platform: platform{"linux", arch}, path: filepath.Join(scratch, arch, "caddy"), version: "v1.2.3", commit: commit, time: commitTime}
		arguments := []string{"build", "-o", p.path, "./testdata/other"}
		if arch == runtime.GOARCH {
			arguments = []string{"build", "-C", source, "-ldflags=-s -w", "-tags=nobadger,nomysql,nopgx", "-o", p.path, "./cmd/caddy"}
		}
		if err := goBuild(arch, arguments...); err != nil {
			return nil, err
		}
		var err error
		if p.info, err = buildinfo.ReadFile(p.path); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
})

// goBuild runs go build for static programs.
func goBuild(arch string, arguments ...string) error {
	command := exec.Command("go", arguments...)
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go %v: %w\n%s", arguments, err, output)
	}
	return nil
}

// buildSmall builds a program of testdata for this machine.
func buildSmall(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(scratch, name)
	if err := goBuild(runtime.GOARCH, "build", "-o", path, "./testdata/"+name); err != nil {
		t.Fatal(err)
	}
	return path
}

func programs(t *testing.T) []*program {
	t.Helper()
	all, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// makeImage writes an image into a folder, and returns its name.
func makeImage(t *testing.T, folder string) string {
	t.Helper()
	if err := writeImage(folder, source, programs(t)); err != nil {
		t.Fatal(err)
	}
	return folder
}

var once sync.Once

// built returns the folder of an image that is made once.
func built(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(scratch, "image")
	if os.Getenv(inside) == "" {
		once.Do(func() { makeImage(t, folder) })
	}
	return folder
}
