// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The image runs as in a container: its files alone, as its user without any right, on a
// root file system that cannot be written to. It has a network of its own, so its ports
// are free. The demo walks through all of its steps there, and the configuration in the
// image serves, healthy by the image's own check, until it is told to stop.
func TestImageRuns(t *testing.T) {
	made := images(t, built(t))["linux/"+runtime.GOARCH]
	c := container{t, filepath.Join(scratch, "root"), made.Config.Env}
	if os.Getenv(inside) != "" {
		raiseLoopback(t)
		c.probe()
		c.demo()
		c.serve(made)
		return
	}
	c.unpack(made.files)
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.timeout=5m", "-test.run=^"+t.Name()+"$")
	command.Env = append(os.Environ(), inside+"="+scratch)
	command.SysProcAttr = namespace(0, os.Getuid(), os.Getgid())
	command.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	output, err := command.CombinedOutput()
	if err != nil || !bytes.Contains(output, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("%v; user namespaces must be allowed (on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0)\n%s", err, output)
	}
}

// namespace makes the user of the process another one, in a namespace of users.
func namespace(becomes, user, group int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: becomes, HostID: user, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: becomes, HostID: group, Size: 1}},
	}
}

// raiseLoopback brings up the only interface that a new network has.
func raiseLoopback(t *testing.T) {
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
}

// container is the files of an image in a folder, and the environment of its programs.
type container struct {
	t           *testing.T
	root        string
	environment []string
}

// unpack writes the files of an image, and the probe. Where root alone may write, nobody
// may; what belongs to the image's user belongs to that of the test, who becomes it.
func (c container) unpack(files map[string]entry) {
	c.t.Helper()
	write := func(name string, content []byte, mode fs.FileMode) {
		path := filepath.Join(c.root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			c.t.Fatal(err)
		}
		if err := os.WriteFile(path, content, mode); err != nil {
			c.t.Fatal(err)
		}
	}
	probe, err := os.ReadFile(buildSmall(c.t, "probe"))
	if err != nil {
		c.t.Fatal(err)
	}
	write("usr/bin/probe", probe, 0o555)
	write("etc/hosts", []byte("127.0.0.1 localhost\n"), 0o444) // as each runtime of containers does
	modes := map[string]fs.FileMode{"": 0o555}
	for name, f := range files {
		switch {
		case !f.FileInfo().IsDir():
			write(name, f.content, f.FileInfo().Mode().Perm()&^0o222)
		case f.Uid == uid || name == "tmp":
			modes[name] = 0o700
		default:
			modes[name] = 0o555
		}
	}
	for name := range modes {
		if err := os.MkdirAll(filepath.Join(c.root, name), 0o755); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(modes))) { // those inside first
		if err := os.Chmod(filepath.Join(c.root, name), modes[name]); err != nil {
			c.t.Fatal(err)
		}
	}
	c.t.Cleanup(func() { // or it cannot be removed
		for name := range modes {
			_ = os.Chmod(filepath.Join(c.root, name), 0o755)
		}
	})
}

// command returns a command in the container, which ends after a minute at the latest.
func (c container) command(environment []string, words ...string) (*exec.Cmd, *bytes.Buffer) {
	ctx, stop := context.WithTimeout(c.t.Context(), time.Minute)
	c.t.Cleanup(stop)
	command := exec.CommandContext(ctx, filepath.Join("/usr/bin", words[0]), words[1:]...)
	command.Env, command.Dir = append(environment, c.environment...), "/"
	command.SysProcAttr = namespace(uid, 0, 0)
	command.SysProcAttr.Chroot = c.root
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	return command, &output
}

// probe looks at the container with the eyes of a program.
func (c container) probe() {
	command, output := c.command([]string{"TZ=Asia/Shanghai"}, "probe")
	const want = "user 65532\nauthorities true\nzone +0800\nwrites /data true\nwrites /config true\nwrites /tmp true\n" +
		"writes / false\nwrites /etc/caddy false\nwrites /usr/bin false\n"
	if err := command.Run(); err != nil || output.String() != want {
		c.t.Errorf("%v, a program finds\n%s, want\n%s", err, output, want)
	}
}

// demo runs the demo.
func (c container) demo() {
	command, output := c.command(nil, "caddy", "wechat", "demo", "--once")
	if err := command.Run(); err != nil || !strings.Contains(output.String(), "All steps passed.") {
		c.t.Errorf("the demo: %v\n%s", err, output)
	}
}

// serve runs what the image runs if it is given nothing but the secrets.
func (c container) serve(made image) {
	healthy := func() bool {
		command, output := c.command(nil, made.Config.Healthcheck.Test[1:]...)
		return command.Run() == nil && output.String() == "ok\n"
	}
	if healthy() {
		c.t.Error("the check says that all is well while nothing runs")
	}
	command, output := c.command([]string{
		"WECHAT_COMPONENT=wx134c8103faa5a59e", "WECHAT_APP_SECRET=secret-of-the-component-00000001", "WECHAT_TOKEN=token0001",
		"WECHAT_AES_KEY=abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", "CLIENT_SECRET=secret-of-the-client-0123456789abcdef",
	}, made.Config.Cmd...)
	if err := command.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for !healthy() { // asks anew until the minute of the gateway is over
		select {
		case err := <-ended:
			c.t.Fatalf("the gateway ended, %v\n%s", err, output)
		default:
		}
	}
	for url, want := range map[string]string{
		"http://127.0.0.1:8082/wechat/health/ready": `"ok"`,
		"http://127.0.0.1:8082/metrics":             "caddy_wechat_build_info",
		"http://127.0.0.1:8081/wechat/authorize":    "<html",
		"http://127.0.0.1:8080/cgi-bin/user/info":   `"errcode":41001`,
	} {
		if got := get(c.t, url); !strings.Contains(got, want) {
			c.t.Errorf("%s answers %s, want %s in it", url, got, want)
		}
	}
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	if err := <-ended; err != nil {
		c.t.Errorf("the gateway ended with %v\n%s", err, output)
	}
}

// get returns the answer to a request.
func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}
