// SPDX-License-Identifier: Apache-2.0

// Package caddy runs the program as its users do: as a process with a command
// line, a Caddyfile and a folder on disk, which may die at any moment.
package caddy

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/caddy-wechat/caddy-wechat" // tests run again when it changes
)

// binary is the program, built from this tree.
var binary string

// Main builds the program for the tests of a package and runs them.
func Main(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "caddy-wechat-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binary = filepath.Join(folder, "caddy")
	build := exec.Command("go", "build", "-tags", "nobadger,nomysql,nopgx", "-o", binary, "./cmd/caddy")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build, which has compiled it already
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, output)
		return 1
	}
	return m.Run()
}

// Binary returns the path of the program.
func Binary() string { return binary }

// Process is the program at work.
type Process struct {
	*exec.Cmd
	t      *testing.T
	output *output
	ended  chan struct{}
}

// Launch runs the program until the test ends.
func Launch(t *testing.T, arguments ...string) *Process {
	t.Helper()
	home := t.TempDir()
	p := &Process{Cmd: exec.Command(binary, arguments...), t: t, output: new(output), ended: make(chan struct{})}
	p.Stdout, p.Stderr = p.output, p.output
	p.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.Cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s printed\n%s", p, p.Printed())
		}
	})
	return p
}

// Printed returns what the process has printed so far.
func (p *Process) Printed() string { return p.output.String() }

// Kill ends the process as a power cut would.
func (p *Process) Kill() {
	_ = p.Process.Kill()
	<-p.ended
}

// Terminate lets the process end in good order, and waits for that.
func (p *Process) Terminate() {
	p.t.Helper()
	_ = p.Process.Signal(syscall.SIGTERM)
	p.Wait()
}

// Wait returns the exit code.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.t.Fatalf("%s still runs", p)
	}
	return p.ProcessState.ExitCode()
}

// Until asks again and again until the answer is yes.
func (p *Process) Until(what string, yes func() bool) {
	p.t.Helper()
	for range 1500 {
		if yes() {
			return
		}
		select {
		case <-p.ended:
			p.t.Fatalf("%s ended before %s", p, what)
		case <-time.After(20 * time.Millisecond):
		}
	}
	p.t.Fatalf("%s: not %s", p, what)
}

// Serves waits until the process accepts connections at each address.
func (p *Process) Serves(addresses ...string) {
	p.t.Helper()
	for _, address := range addresses {
		p.Until("serving "+address, func() bool {
			connection, err := net.Dial("tcp", address)
			if err != nil {
				return false
			}
			connection.Close()
			return true
		})
	}
}

// output collects what a process prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// given is how many addresses this process has tried to give away.
var given atomic.Int32

// FreeAddress returns an address that nobody listens on. Until a program does, nobody else
// is given it by chance: it is below the ports that systems choose, it is not given twice,
// and other processes of tests begin elsewhere.
func FreeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := 10000 + os.Getpid()%20*1000 + int(given.Add(1))%1000
		if listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port)); err == nil {
			listener.Close()
			return fmt.Sprintf("127.0.0.1:%d", port)
		}
	}
	t.Fatal("no address is free")
	return ""
}

// WantNoCredential fails the test if a real credential stands in text, of which where
// tells what it is.
func WantNoCredential(t *testing.T, credentials []string, where, text string) {
	t.Helper()
	for _, credential := range credentials {
		if strings.Contains(text, credential) {
			t.Errorf("a real credential (%.14s…) stands in %s", credential, where)
		}
	}
}
