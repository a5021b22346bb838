// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// platform is what a program runs on.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "/" + p.arch }

// program is one that was built.
type program struct {
	platform
	path    string
	info    *buildinfo.BuildInfo
	version string    // that of the gateway
	commit  string    // of which it was built
	time    time.Time // of the commit, in UTC
}

// checkSource fails unless the source is a clone with a commit, and git is there: the
// version and all times come from them. Go says so only after minutes, or not at all.
func checkSource(source string) error {
	output, err := exec.Command("git", "-C", source, "rev-parse", "--verify", "HEAD").CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return errors.New("git is not installed: the version comes from the tags, and all times from the commit")
	case err != nil:
		return fmt.Errorf("%s is no clone of the repository with a commit, from which the version comes: use git clone: %w\n%s", source, err, output)
	}
	return nil
}

// build builds the program for a platform into a folder. It is static, so it runs in an
// image without anything else. It is built without a profile (PGO): with one of its calls
// 1 % more of them were measured, which is less than the noise.
func build(source, folder string, p platform) (*program, error) {
	path := filepath.Join(folder, p.os+"_"+p.arch, "caddy")
	if p.os == "windows" {
		path += ".exe"
	}
	command := exec.Command("go", "build", "-buildvcs=true", "-trimpath", "-tags=nobadger,nomysql,nopgx", "-ldflags=-s -w", "-o", path, "./cmd/caddy")
	command.Dir = source
	command.Env = buildEnvironment(p)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return nil, err
	}
	return inspect(path, p)
}

// buildEnvironment is the environment of the process, but for what would make other bytes:
// options of Go and of the processor, also those that go env -w has stored.
func buildEnvironment(p platform) []string {
	return append(os.Environ(), "GOOS="+p.os, "GOARCH="+p.arch, "GOAMD64=v1", "GOARM64=v8.0",
		"CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off", "GOFIPS140=off")
}

// inspect reads from a program what it was built of.
func inspect(path string, p platform) (*program, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return describe(info, path, p)
}

// describe says what a program is of which Go has written info.
func describe(info *buildinfo.BuildInfo, path string, p platform) (*program, error) {
	built := &program{platform: p, path: path, info: info, version: info.Main.Version}
	settings := make(map[string]string)
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	if got := (platform{settings["GOOS"], settings["GOARCH"]}); got != p {
		return nil, fmt.Errorf("%s is a program for %s", path, got)
	}
	if experiment := settings["GOEXPERIMENT"]; experiment != "" {
		return nil, fmt.Errorf("GOEXPERIMENT=%s makes other bytes: unset it, also with go env -u GOEXPERIMENT", experiment)
	}
	built.commit = settings["vcs.revision"]
	var err error
	if built.time, err = time.Parse(time.RFC3339, settings["vcs.time"]); err != nil {
		return nil, fmt.Errorf("%s does not say of which commit it was built: %w", path, err)
	}
	return built, nil
}
