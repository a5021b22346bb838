// SPDX-License-Identifier: Apache-2.0

package transparent_test

import (
	"bytes"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/caddy-wechat/caddy-wechat/test/need"
)

// inside tells a process that it runs in a network of its own.
const inside = "TRANSPARENT_TEST_INSIDE"

const hint = "allow user namespaces (on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0)"

// inPrivateNetwork reports whether the test runs in a network of its own, where
// it may listen on port 443 and disturbs nobody. Where it does not, it is run
// once more in one, and is over when that has ended.
func inPrivateNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) != "" {
		if err := raiseLoopback(); err != nil {
			need.Missing(t, "a private network", hint)
		}
		return true
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program, "-test.v", "-test.timeout=3m", "-test.run=^"+t.Name()+"$")
	command.Env = append(os.Environ(), inside+"=1")
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		need.Missing(t, "a private network", hint)
	}
	err = command.Wait()
	switch {
	case err != nil:
		t.Fatalf("%v\n%s", err, &output)
	case bytes.Contains(output.Bytes(), []byte("--- SKIP: ")):
		need.Missing(t, "a private network", hint)
	case !bytes.Contains(output.Bytes(), []byte("--- PASS: "+t.Name())):
		t.Fatalf("the test did not run:\n%s", &output)
	}
	t.Logf("in a private network:\n%s", &output)
	return false
}

// raiseLoopback brings up the only interface a new network has.
func raiseLoopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	loopback.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback)
}
