// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inOwnNetwork is set in the process that has one.
const inOwnNetwork = "CLUSTER_TEST_IN_OWN_NETWORK"

// ownNetwork runs the test in a process with a network of its own, in which
// net.ipv4.tcp_migrate_req is 1. It returns true where the test is to be run
// here: in that process, or where it cannot be had.
func ownNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inOwnNetwork) != "" {
		prepareNetwork(t)
		return true
	}
	isolate := func(command *exec.Cmd) *exec.Cmd {
		command.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		return command
	}
	if err := isolate(exec.Command("test", "-w", migrate)).Run(); err != nil {
		t.Logf("without a network of its own, in which %s is 1: %v", migrate, err)
		return true
	}
	test := isolate(exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$"))
	test.Cancel = func() error { return test.Process.Signal(os.Interrupt) }
	test.WaitDelay = 10 * time.Second
	test.Env = append(os.Environ(), inOwnNetwork+"=1")
	printed, err := test.CombinedOutput()
	t.Logf("in a network of its own:\n%s", printed)
	if err != nil {
		t.Error(err)
	}
	return false
}

// prepareNetwork switches on the loopback, which a new network has off.
func prepareNetwork(t *testing.T) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	loopback.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(migrate, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
}
