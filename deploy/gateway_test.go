// SPDX-License-Identifier: Apache-2.0

// Package deploy_test checks what operators install: against the schemas of those who
// read it, and with the gateway itself.
package deploy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// caddy is the gateway, built as make build does.
var caddy string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "caddy-wechat-deploy-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	caddy = filepath.Join(folder, "caddy")
	build := exec.Command("go", "build", "-C", "..", "-tags=nobadger,nomysql,nopgx", "-o", caddy, "./cmd/caddy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the gateway: %v\n%s", err, output)
		return 1
	}
	return m.Run()
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wanted returns the variables that a Caddyfile reads, and those of them without a
// default, each once.
func wanted(caddyfile string) (all, needed []string) {
	for _, found := range regexp.MustCompile(`\{(env\.|\$)(\w+)(:[^}]*)?\}`).FindAllStringSubmatch(caddyfile, -1) {
		all = append(all, found[2])
		if found[3] == "" {
			needed = append(needed, found[2])
		}
	}
	slices.Sort(all)
	slices.Sort(needed)
	return slices.Compact(all), slices.Compact(needed)
}

// adapt returns a Caddyfile as JSON.
func adapt(t *testing.T, caddyfile string, environment ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(path, []byte(caddyfile), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(caddy, "adapt", "--config", path)
	command.Env = append(os.Environ(), environment...)
	adapted, err := command.Output()
	if err != nil {
		t.Fatalf("adapting: %v\n%s", err, err.(*exec.ExitError).Stderr)
	}
	return adapted
}

// load loads a Caddyfile as the gateway does at its start, in everything but the storage,
// which is Redis and not here. It returns what the gateway says if it refuses.
func load(t *testing.T, caddyfile string, environment map[string]string) error {
	t.Helper()
	folder := t.TempDir()
	path := filepath.Join(folder, "Caddyfile")
	if err := os.WriteFile(path, []byte(caddyfile), 0o600); err != nil {
		t.Fatal(err)
	}
	inside := []string{"XDG_DATA_HOME=" + folder, "XDG_CONFIG_HOME=" + folder, "HOME=" + folder}
	for name, value := range environment {
		inside = append(inside, name+"="+value)
	}
	command := func(arguments ...string) *exec.Cmd {
		c := exec.Command(caddy, arguments...)
		c.Env = inside
		return c
	}
	if output, err := command("fmt", "--diff", path).CombinedOutput(); err != nil {
		t.Errorf("caddy fmt: %v\n%s", err, output)
	}
	adapted, err := command("adapt", "--config", path).Output()
	if err != nil {
		t.Fatalf("adapting: %v\n%s", err, err.(*exec.ExitError).Stderr)
	}
	var config map[string]json.RawMessage
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	if storage := string(config["storage"]); !regexp.MustCompile(`"module":"redis"`).MatchString(storage) {
		t.Errorf("the storage of several nodes is %s", storage)
	}
	delete(config, "storage")
	text, _ := json.Marshal(config) // it was JSON
	path = filepath.Join(folder, "config.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := command("validate", "--config", path).CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, output)
	}
	return nil
}
