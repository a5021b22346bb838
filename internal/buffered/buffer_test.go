// SPDX-License-Identifier: Apache-2.0

package buffered

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sink is an output that remembers each write, and fails when it is told to.
type sink struct {
	mu     sync.Mutex
	writes []string
	err    error
	closed bool
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.writes = append(s.writes, string(p))
	return len(p), nil
}

func (s *sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// fail makes writes fail from now on; nil ends it.
func (s *sink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// taken returns the writes since the last time.
func (s *sink) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	writes := s.writes
	s.writes = nil
	return writes
}

func write(t *testing.T, b io.Writer, line string) {
	t.Helper()
	if n, err := b.Write([]byte(line)); n != len(line) || err != nil {
		t.Errorf("Write of %d bytes = %d, %v", len(line), n, err)
	}
}

func wantWrites(t *testing.T, s *sink, want ...string) {
	t.Helper()
	if got := s.taken(); !slices.Equal(got, want) {
		t.Errorf("the output got %d writes %.60q, want %d %.60q", len(got), got, len(want), want)
	}
}

// A line arrives after a tenth of a second, together with those of that time.
func TestLinesArriveTogetherInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(sink)
		b := newBuffer(s)
		defer b.Close()
		write(t, b, "one\n")
		time.Sleep(latest / 2)
		write(t, b, "two\n")
		wantWrites(t, s)
		time.Sleep(latest / 2)
		synctest.Wait()
		wantWrites(t, s, "one\ntwo\n")
		time.Sleep(10 * latest)
		wantWrites(t, s)
	})
}

// Where many lines come, none waits, none is split, and one that is longer than the buffer
// is written, too.
func TestFullBufferIsWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(sink)
		b := newBuffer(s)
		defer b.Close()
		most, long := strings.Repeat("a", size-10)+"\n", strings.Repeat("b", 3*size)+"\n"
		write(t, b, most)
		wantWrites(t, s)
		write(t, b, "a line that has no room\n")
		wantWrites(t, s, most)
		write(t, b, long)
		wantWrites(t, s, "a line that has no room\n", long)
	})
}

// Nobody who closes a log loses lines, and Caddy writes to logs that it has closed. A
// closed buffer leaves no goroutine behind: the bubble would not end.
func TestCloseWritesWhatWasCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(sink)
		b := newBuffer(s)
		write(t, b, "one\n")
		if err := b.Close(); err != nil || !s.closed {
			t.Errorf("Close: %v, and the output is closed: %v", err, s.closed)
		}
		wantWrites(t, s, "one\n")
		write(t, b, "late\n")
		wantWrites(t, s, "late\n")

		unused := newBuffer(s)
		if err := unused.Close(); err != nil {
			t.Error(err)
		}
		write(t, unused, "first of all, and late\n")
		wantWrites(t, s, "first of all, and late\n")
	})
}

// Each line that is written while a log is closed arrives once.
func TestLinesArriveOnceWhileTheLogIsClosed(t *testing.T) {
	const writers, each = 8, 500
	s := new(sink)
	b := newBuffer(s)
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				write(t, b, fmt.Sprintf("%d-%d\n", w, i))
				if w == 0 && i == each/2 {
					b.Close()
				}
			}
		})
	}
	writing.Wait()
	lines := strings.Fields(strings.Join(s.taken(), ""))
	slices.Sort(lines)
	if all := len(slices.Compact(slices.Clone(lines))); all != writers*each || len(lines) != all {
		t.Errorf("%d lines arrived, %d different ones, want %d", len(lines), all, writers*each)
	}
}

// The log that has a full disk says so once for each loss, and writes again when there is
// room.
func TestOutputThatFailsForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, full := new(sink), errors.New("no space left on device")
		b := newBuffer(s)
		s.fail(full)
		write(t, b, "lost\n")
		time.Sleep(latest)
		synctest.Wait()
		s.fail(nil)
		if _, err := b.Write([]byte("kept\n")); !errors.Is(err, full) {
			t.Errorf("the write after the loss: %v", err)
		}
		write(t, b, "after\n")
		time.Sleep(latest)
		synctest.Wait()
		wantWrites(t, s, "kept\nafter\n")

		s.fail(full)
		write(t, b, "lost\n")
		if err := b.Close(); !errors.Is(err, full) || !s.closed {
			t.Errorf("Close with lines that are lost: %v, and the output is closed: %v", err, s.closed)
		}
	})
}

// hung is an output that takes nothing until it is closed, as another machine may.
type hung struct{ free chan struct{} }

func (h hung) Write(p []byte) (int, error) { <-h.free; return len(p), nil }
func (h hung) Close() error                { close(h.free); return nil }

func TestExitDoesNotWaitForAnOutputThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := hung{make(chan struct{})}
		b := newBuffer(to)
		write(t, b, "a line\n")
		began := time.Now()
		b.endWithin(exitTime)
		if took := time.Since(began); took != exitTime {
			t.Errorf("it took %v, want %v", took, exitTime)
		}
		to.Close()
	})
}

// What a line costs that goes into a file, with the buffer and without.
func BenchmarkLine(b *testing.B) {
	line := []byte(strings.Repeat("x", 400) + "\n")
	for name, open := range map[string]func(io.WriteCloser) io.WriteCloser{
		"file":               func(file io.WriteCloser) io.WriteCloser { return file },
		"file behind buffer": func(file io.WriteCloser) io.WriteCloser { return newBuffer(file) },
	} {
		b.Run(name, func(b *testing.B) {
			file, err := os.Create(filepath.Join(b.TempDir(), "lines"))
			if err != nil {
				b.Fatal(err)
			}
			to := open(file)
			defer to.Close()
			b.SetBytes(int64(len(line)))
			for b.Loop() {
				if _, err := to.Write(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
