// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/test/caddy"
	"github.com/caddy-wechat/caddy-wechat/test/need"
)

// trialUnit runs this program once more, as the only task of that machine.
const trialUnit = `[Unit]
Description=the trial of caddy-wechat.service
Requires=basic.target dbus.socket
After=basic.target dbus.socket
[Service]
Type=oneshot
Environment=%s=1 HOME=/root
ExecStart=/box/trial -test.v -test.timeout=8m -test.run=^%s$
StandardOutput=append:/box/output
StandardError=append:/box/output
ExecStopPost=systemctl --no-block exit
`

// The service is installed, started, reloaded, restarted and stopped by systemd, as
// pid 1 of a container over a copy of this machine (systemd-nspawn). That needs root,
// overlayfs and control groups of version 2; where they cannot be had, also under
// CI=true, the test is skipped.
func TestServiceUnderSystemd(t *testing.T) {
	if os.Getenv(inside) != "" {
		trial(t)
		return
	}
	need.Command(t, "install Debian's package systemd-container", "systemd-nspawn")
	box := t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"trial": program, "caddy": caddy.Binary(), unitName: unitFile()} {
		copyFile(t, from, filepath.Join(box, name))
	}
	trialFile := fmt.Sprintf(trialUnit, inside, t.Name())
	if err := os.WriteFile(filepath.Join(box, "trial.service"), []byte(trialFile), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // the trial has eight
	defer cancel()
	runtime.LockOSThread() // Pdeathsig is sent when the thread that started it ends
	defer runtime.UnlockOSThread()
	command := asRoot(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "./machine.sh", box)
	printed, err := command.CombinedOutput()
	output, _ := os.ReadFile(filepath.Join(box, "output"))
	switch {
	case !strings.Contains(string(output), "=== RUN"):
		t.Skipf("systemd cannot be booted here: %v\n%s", err, printed)
	case !strings.Contains(string(output), "--- PASS: "+t.Name()):
		t.Fatalf("the trial failed:\n%s", output)
	}
	t.Logf("the trial:\n%s", output)
}

// asRoot returns a command that root runs, and that ends if the test is killed.
func asRoot(ctx context.Context, name string, arguments ...string) *exec.Cmd {
	if os.Getuid() != 0 {
		name, arguments = "sudo", append([]string{"-n", name}, arguments...)
	}
	command := exec.CommandContext(ctx, name, arguments...)
	command.WaitDelay = 10 * time.Second // what sudo has started may hold the output open
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return command
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o755); err != nil {
		t.Fatal(err)
	}
}
