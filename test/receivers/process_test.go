// SPDX-License-Identifier: Apache-2.0

package receivers_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/test/need"
)

// program is a receiver in a process of its own, which ends with the test.
type program struct {
	url string

	mu    sync.Mutex
	lines []string // what it has printed
}

var listening = regexp.MustCompile(`(?:listening on |Server \(http://)(127\.0\.0\.1:\d+)`)

// start starts a receiver, in the folder of its language, and waits until it listens.
func start(t *testing.T, folder string, environment []string, arguments ...string) *program {
	t.Helper()
	command := exec.Command(arguments[0], arguments[1:]...)
	command.Dir = folder
	command.Env = append(os.Environ(), append(environment, "LISTEN=127.0.0.1:0", "PYTHONUNBUFFERED=1")...)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stdout, command.Stderr = in, in
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	p, address, ended := new(program), make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		p.read(out, address)
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		<-ended
		if t.Failed() {
			t.Logf("%s has printed:\n%s", arguments[0], strings.Join(p.lines, "\n"))
		}
	})
	select {
	case host := <-address:
		p.url = "http://" + host
	case <-ended:
		t.Fatal("it has ended before it listened")
	case <-time.After(time.Minute):
		t.Fatal("it does not listen")
	}
	return p
}

// read keeps what the program prints until it ends.
func (p *program) read(out *os.File, address chan<- string) {
	defer out.Close()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		p.mu.Lock()
		p.lines = append(p.lines, lines.Text())
		p.mu.Unlock()
		if found := listening.FindStringSubmatch(lines.Text()); found != nil {
			address <- found[1]
		}
	}
}

// handled returns how often the receiver has handled a delivery, "" for any, of a kind.
func (p *program) handled(id, kind string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.lines {
		if _, what, ok := strings.Cut(line, "handled "); ok && strings.HasPrefix(what, id) && strings.HasSuffix(what, " "+kind) {
			n++
		}
	}
	return n
}

// printed reports whether the receiver has printed a text.
func (p *program) printed(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.lines, func(line string) bool { return strings.Contains(line, text) })
}

// build compiles the receiver in Go.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "receiver")
	command := exec.Command("go", "build", "-o", binary, "./go")
	command.Env = append(os.Environ(), "CGO_ENABLED=0") // as everything but the race detector
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return binary
}

// node returns the command of a Node.js whose packages are installed.
func node(t *testing.T) string {
	t.Helper()
	path := need.Command(t, "install Node.js 18 or newer (apt-get install nodejs npm)", "node")
	need.File(t, "run npm ci --ignore-scripts in test/receivers/node", "node/node_modules/standardwebhooks")
	return path
}
