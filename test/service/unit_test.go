// SPDX-License-Identifier: Apache-2.0

// Package service_test examines and runs the systemd unit that operators install.
package service_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/test/caddy"
	"github.com/caddy-wechat/caddy-wechat/test/need"
)

const unitName = "caddy-wechat.service"

// inside tells a process that it is the trial, on a machine that is there for it alone.
const inside = "CADDY_WECHAT_SERVICE_TRIAL"

// unitFile is what operators install.
func unitFile() string { return filepath.Join("..", "..", "deploy", unitName) }

func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(m.Run()) // the machine of the trial has the program already
	}
	caddy.Main(m)
}

// analyze runs a command of systemd-analyze on a file.
func analyze(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	tool := need.Command(t, "install Debian's package systemd", "systemd-analyze")
	output, err := exec.CommandContext(t.Context(), tool, arguments...).CombinedOutput()
	return string(output), err
}

// systemd leaves out a line that it does not understand, and says so in its log
// alone: a restriction with a typing error restricts nothing.
func TestSystemdUnderstandsEveryLine(t *testing.T) {
	text, err := os.ReadFile(unitFile())
	if err != nil {
		t.Fatal(err)
	}
	// systemd looks for the program as well.
	copied := filepath.Join(t.TempDir(), unitName)
	installed := strings.ReplaceAll(string(text), "/usr/local/bin/caddy", caddy.Binary())
	verify := func(content string) string {
		if err := os.WriteFile(copied, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		output, err := analyze(t, "verify", "--man=no", "--recursive-errors=no", copied)
		if err != nil {
			output += err.Error()
		}
		return output
	}
	if complaint := verify(installed); strings.Contains(complaint, "caddy-wechat") {
		t.Errorf("systemd-analyze verify says:\n%s", complaint)
	}
	if complaint := verify(strings.Replace(installed, "ProtectHome=", "ProtectHouse=", 1)); !strings.Contains(complaint, "ProtectHouse") {
		t.Errorf("systemd-analyze verify does not notice a line of no meaning; it says:\n%s", complaint)
	}
}

func TestServiceIsExposedAtMost3(t *testing.T) {
	report, err := analyze(t, "security", "--offline=true", "--no-pager", "--threshold=30", unitFile())
	if err != nil {
		t.Errorf("the service is exposed more than 3.0: %v\n%s", err, report)
	}
	exposure := regexp.MustCompile(`Overall exposure level[^\n]*`).FindString(report)
	if exposure == "" {
		t.Errorf("systemd-analyze security gives no level:\n%s", report)
	}
	t.Log(exposure)
}

// The score is a sum: one setting may be lost for another. These must stay.
func TestServiceKeepsItsRestrictions(t *testing.T) {
	settings := settings(t)
	for name, want := range map[string]string{
		"User":                    "caddy",
		"NoNewPrivileges":         "true",
		"ProtectSystem":           "strict",
		"ProtectHome":             "true",
		"StateDirectory":          "caddy",
		"RuntimeDirectory":        "caddy", // docs/deploying.md has the socket of the admin API there
		"RuntimeDirectoryMode":    "0700",
		"PrivateTmp":              "true",
		"LimitCORE":               "0", // a core file holds tokens
		"UMask":                   "0077",
		"CapabilityBoundingSet":   "CAP_NET_BIND_SERVICE",
		"AmbientCapabilities":     "CAP_NET_BIND_SERVICE",
		"RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
		"MemoryDenyWriteExecute":  "true",
		"SystemCallArchitectures": "native",
		"Type":                    "notify",
		"Environment":             "GOGC=200",
	} {
		if got := strings.Join(settings[name], "\n"); got != want {
			t.Errorf("%s=%s, want %s", name, got, want)
		}
	}
	// @chown is in @privileged: without the third, each log file that Caddy rotates is an
	// error in the journal.
	if filters := settings["SystemCallFilter"]; !slices.Equal(filters, []string{"@system-service", "~@privileged @resources", "@chown"}) {
		t.Errorf("SystemCallFilter=%q", filters)
	}
	if !slices.ContainsFunc(settings["LoadCredential"], func(s string) bool { return strings.HasSuffix(s, ":/etc/caddy/credentials") }) {
		t.Error("the service loads no credentials")
	}
}

// systemd kills what is not over at the end of TimeoutStopSec. The requests have the
// grace period of the Caddyfile; the same time again is for what must be stored.
func TestServiceMayStopInPeace(t *testing.T) {
	example, err := os.ReadFile(filepath.Join("..", "..", "Caddyfile.example"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\tgrace_period (\S+)$`).FindSubmatch(example)
	if found == nil {
		t.Fatal("Caddyfile.example has no grace_period")
	}
	grace, err := time.ParseDuration(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	stop, err := time.ParseDuration(strings.Join(settings(t)["TimeoutStopSec"], ""))
	if err != nil {
		t.Fatal(err)
	}
	if stop < 2*grace {
		t.Errorf("TimeoutStopSec is %v, and grace_period %v", stop, grace)
	}
}

// settings returns the values of each name, in their order.
func settings(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(unitFile())
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string][]string)
	for line := range strings.Lines(string(text)) {
		if name, value, is := strings.Cut(strings.TrimSpace(line), "="); is && !strings.HasPrefix(line, "#") {
			values[name] = append(values[name], value)
		}
	}
	return values
}
