// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// wire carries the commands of one node to Redis, and can hold one up or cut
// the connection in its place.
// https://redis.io/docs/latest/develop/reference/protocol-spec/
type wire struct {
	address string // where the node connects to
	socket  string // of the server

	mu   sync.Mutex
	rule rule
	down chan struct{} // closed when the test ends
}

// rule decides what becomes of a command.
type rule func(command []string) verdict

type verdict int

const (
	carry verdict = iota
	hold          // it never arrives, and the node waits
	cut           // it never arrives, and the node is told so
)

func newWire(t *testing.T, socket string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: listener.Addr().String(), socket: socket, down: make(chan struct{})}
	t.Cleanup(func() {
		close(w.down)
		listener.Close()
	})
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go w.serve(connection)
		}
	}()
	return w
}

func (w *wire) serve(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("unix", w.socket)
	if err != nil {
		return
	}
	defer to.Close()
	go func() {
		_, _ = io.Copy(from, to)
		from.Close()
	}()
	for commands := bufio.NewReader(from); ; {
		command, err := readCommand(commands)
		if err != nil {
			return
		}
		switch w.judge(command) {
		case hold:
			<-w.down
			return
		case cut:
			return
		}
		if _, err := to.Write(encode(command)); err != nil {
			return
		}
	}
}

func (w *wire) judge(command []string) verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rule == nil {
		return carry
	}
	return w.rule(command)
}

// obey replaces the rule; nil carries everything.
func (w *wire) obey(r rule) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rule = r
}

// holdAt holds the first command that fits, and tells when it has come.
func (w *wire) holdAt(fits func(command []string) bool) (reached <-chan struct{}) {
	held, tell := make(chan struct{}), sync.Once{}
	w.obey(func(command []string) verdict {
		if !fits(command) {
			return carry
		}
		tell.Do(func() { close(held) })
		return hold
	})
	return held
}

// sets fits the storing of a file, by the end of its name.
func sets(file string) func([]string) bool {
	return func(c []string) bool { return strings.EqualFold(c[0], "SET") && strings.HasSuffix(c[1], file) }
}

// removesMark fits the removal of a pending code's mark, of which the first
// step is to take it out of the list.
func removesMark(c []string) bool {
	return strings.EqualFold(c[0], "ZREM") && strings.HasSuffix(c[1], "/pending")
}

// Locks are taken, kept and released by scripts that differ in the number of
// their arguments (github.com/bsm/redislock).
const (
	taking    = 7
	releasing = 5
)

// locks fits a lock that is taken or released, by the end of its name.
func locks(length int, name string) func([]string) bool {
	return func(c []string) bool {
		return strings.HasPrefix(strings.ToUpper(c[0]), "EVAL") && len(c) == length && strings.HasSuffix(c[3], name)
	}
}

// readCommand reads an array of bulk strings, which is all that clients send.
func readCommand(r *bufio.Reader) ([]string, error) {
	length, err := readLength(r, '*')
	if err != nil {
		return nil, err
	}
	command := make([]string, length)
	for i := range command {
		size, err := readLength(r, '$')
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(r, text); err != nil {
			return nil, err
		}
		command[i] = string(text[:size])
	}
	return command, nil
}

func readLength(r *bufio.Reader, kind byte) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != kind {
		return 0, fmt.Errorf("%q does not begin with %c", line, kind)
	}
	return strconv.Atoi(strings.TrimRight(line[1:], "\r\n"))
}

func encode(command []string) []byte {
	text := fmt.Appendf(nil, "*%d\r\n", len(command))
	for _, argument := range command {
		text = fmt.Appendf(text, "$%d\r\n%s\r\n", len(argument), argument)
	}
	return text
}
