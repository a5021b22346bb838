// SPDX-License-Identifier: Apache-2.0

package callers_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/test/need"
)

// stepLimit is how long a step may take before the program is taken to hang.
// Java compiles its source in the first one.
const stepLimit = time.Minute

// program is a caller in a process of its own, which ends with the test.
// Credentials go through its standard input: arguments and environment are for
// others to read.
type program struct {
	folder  string // for files
	in      io.Writer
	answers *bufio.Reader
	kill    func()
}

// start starts a program, for instance "php", "testdata/caller.php".
func start(t *testing.T, arguments ...string) *program {
	t.Helper()
	command := exec.Command(arguments[0], arguments[1:]...)
	// The file has a Chinese name. No proxy may come between: it would read all of a body first.
	command.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "no_proxy=127.0.0.1")
	command.Stderr = t.Output()
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{t.TempDir(), in, bufio.NewReader(out), func() { _ = command.Process.Kill() }}
	t.Cleanup(func() {
		defer time.AfterFunc(stepLimit, p.kill).Stop()
		in.Close()
		if err := command.Wait(); err != nil {
			t.Errorf("%s: %v", arguments, err)
		}
	})
	return p
}

// do lets the program take a step. An error is what the program says of it.
func (p *program) do(step string, given ...string) (string, error) {
	defer time.AfterFunc(stepLimit, p.kill).Stop()
	if _, err := fmt.Fprintln(p.in, strings.Join(append([]string{step}, given...), "\t")); err != nil {
		return "", fmt.Errorf("the program has ended before %q: %w", step, err)
	}
	line, err := p.answers.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the program has ended at %q: %w", step, err)
	}
	outcome, said, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
	if outcome != "ok" {
		return "", errors.New(said)
	}
	return said, nil
}

// must is do for a step that has to succeed.
func (p *program) must(t *testing.T, step string, given ...string) string {
	t.Helper()
	said, err := p.do(step, given...)
	if err != nil {
		t.Fatalf("%s: the caller says: %v", step, err)
	}
	return said
}

// write makes a file for the program.
func (p *program) write(t *testing.T, name string, content []byte) (path string) {
	t.Helper()
	path = filepath.Join(p.folder, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// python returns the command of a Python that has requests.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} { // the second is Debian's, where another comes first
		if exec.Command(name, "-c", "import requests").Run() == nil {
			return name
		}
	}
	need.Missing(t, "python3 with requests", "install it (apt-get install python3-requests)")
	return ""
}

// php returns the command of a PHP that has curl.
func php(t *testing.T) string {
	t.Helper()
	const hint = "install it (apt-get install php-cli php-curl)"
	name := need.Command(t, hint, "php")
	if exec.Command(name, "-r", "exit((int)!extension_loaded('curl'));").Run() != nil {
		need.Missing(t, "PHP's curl", hint)
	}
	return name
}

// java returns the command of a Java that runs sources: that takes a JDK.
func java(t *testing.T) string {
	t.Helper()
	const hint = "install a JDK, 17 or newer (apt-get install default-jdk-headless)"
	need.Command(t, hint, "javac")
	return need.Command(t, hint, "java")
}
