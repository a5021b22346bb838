// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

func content(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i % 251)
	}
	return out
}

// wantNothingTaken fails the test if memory has not everything back.
func wantNothingTaken(t *testing.T, m *Memory) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.taken != 0 || len(m.of) != 0 {
		t.Errorf("%d bytes are taken, by client: %v", m.taken, m.of)
	}
}

// A second pass reads what the first has read, and then what comes, whatever the sizes
// of the pieces.
func TestSecondPassReadsTheSame(t *testing.T) {
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 5*chunkSize + 7} {
		for _, length := range []int64{int64(size), -1} {
			for _, first := range []int{0, 1, size / 2, size} { // read by the first pass
				for name, source := range map[string]io.Reader{
					"large pieces": bytes.NewReader(content(size)),
					"halves":       iotest.HalfReader(bytes.NewReader(content(size))),
					"EOF at once":  iotest.DataErrReader(bytes.NewReader(content(size))),
				} {
					m := NewMemory(16 << 20)
					u := newUpload(source, length, int64(size), m, "a")
					if _, err := io.ReadFull(u.next(), make([]byte, min(first, size))); err != nil {
						t.Fatal(err)
					}
					if !u.repeatable() {
						t.Fatalf("%d bytes, %s: not repeatable", size, name)
					}
					got, err := io.ReadAll(u.next())
					if err != nil || !bytes.Equal(got, content(size)) {
						t.Errorf("%d bytes, %s, after %d: %d other bytes, %v", size, name, first, len(got), err)
					}
					if want := int64(size+chunkSize-1) / chunkSize * chunkSize; m.taken != want {
						t.Errorf("%d bytes count as %d", size, m.taken)
					}
					u.stop()
					wantNothingTaken(t, m)
				}
			}
		}
	}
}

// A body that is too long, or for which there is no room, is read once to its end; what
// was kept of it is given back at once.
func TestUploadThatDoesNotFit(t *testing.T) {
	for _, row := range []struct {
		name          string
		length, limit int64
		memory        int64
	}{
		{"announced as too long", 3 * chunkSize, 2 * chunkSize, 64 << 20},
		{"turns out to be too long", -1, 3*chunkSize - 1, 64 << 20},
		{"more than a quarter", 3 * chunkSize, 64 << 20, 11 * chunkSize},
		{"more than the memory", -1, 64 << 20, chunkSize},
		{"never repeated", -1, 0, 64 << 20},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := NewMemory(row.memory)
			u := newUpload(bytes.NewReader(content(3*chunkSize)), row.length, row.limit, m, "a")
			got, err := io.ReadAll(u.next())
			if err != nil || !bytes.Equal(got, content(3*chunkSize)) {
				t.Errorf("%d other bytes, %v", len(got), err)
			}
			if u.repeatable() || u.failure() != nil {
				t.Errorf("repeatable: %v, failure: %v", u.repeatable(), u.failure())
			}
			wantNothingTaken(t, m)
		})
	}
}

// One client gets a quarter, calls without one count as one, and all together get no
// more than there is, also when there is less than before.
func TestMemoryIsShared(t *testing.T) {
	m := NewMemory(8*chunkSize + 1)
	var taken []*chunk
	for _, step := range []struct {
		client string
		fits   bool
	}{
		{"a", true}, {"a", true}, {"a", false},
		{"", true}, {"", true}, {"", false},
		{"b", true}, {"c", true}, {"b", true}, {"c", true}, {"d", false},
	} {
		c := m.take(step.client)
		if (c != nil) != step.fits {
			t.Fatalf("%q gets a chunk: %v", step.client, c != nil)
		}
		if step.client == "a" && c != nil {
			taken = append(taken, c)
		}
	}
	m.Resize(7 * chunkSize)
	m.give("a", taken[:1])
	if m.take("d") != nil {
		t.Error("there is less than before, and a chunk all the same")
	}
	m.give("a", taken[1:])
	if m.take("d") == nil {
		t.Error("two were given back, and there is none")
	}
}

// blocking is a caller that sends a piece when it is asked for one.
type blocking struct {
	asked chan struct{}
	piece chan []byte
}

func (b blocking) Read(p []byte) (int, error) {
	b.asked <- struct{}{}
	piece, ok := <-b.piece
	if !ok {
		return 0, io.EOF
	}
	return copy(p, piece), nil
}

// The transport of the first attempt waits for the caller while the second attempt
// begins: what then comes is for the second one.
func TestPieceThatComesForThePassBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := blocking{make(chan struct{}), make(chan []byte)}
		u := newUpload(source, -1, 64<<20, NewMemory(16<<20), "a")
		first, second, got := make(chan error), make(chan error), new(bytes.Buffer)
		go func() {
			_, err := io.Copy(io.Discard, u.next())
			first <- err
		}()
		<-source.asked
		source.piece <- content(100)
		<-source.asked // and waits
		go func() {
			_, err := io.Copy(got, u.next())
			second <- err
		}()
		synctest.Wait() // it has what is kept, and waits for the reader of the first
		source.piece <- content(100)
		if err := <-first; !errors.Is(err, errStopped) {
			t.Errorf("the first pass ends with %v", err)
		}
		<-source.asked
		close(source.piece)
		if err := <-second; err != nil || got.String() != strings.Repeat(string(content(100)), 2) {
			t.Errorf("the second pass got %d bytes, %v", got.Len(), err)
		}
		u.stop()
	})
}

// What came for the pass before does not fit: the second one must not go on without it.
func TestPieceThatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := blocking{make(chan struct{}), make(chan []byte)}
		m := NewMemory(16 << 20)
		u := newUpload(source, -1, 150, m, "a") // 200 bytes are too long
		go func() { _, _ = io.Copy(io.Discard, u.next()) }()
		<-source.asked
		source.piece <- content(100)
		<-source.asked
		failed := make(chan error)
		go func() {
			_, err := io.Copy(io.Discard, u.next())
			failed <- err
		}()
		synctest.Wait()
		source.piece <- content(100)
		if err := <-failed; !errors.Is(err, problem.ErrNotKept) {
			t.Errorf("the second pass ends with %v", err)
		}
		wantNothingTaken(t, m)
		u.stop()
	})
}

// WeChat may answer the second attempt before that has read what came for the first. It
// is sent all the same: WeChat may still be reading.
func TestReleaseLeavesASecondPassWhatItNeeds(t *testing.T) {
	m := NewMemory(16 << 20)
	u := newUpload(bytes.NewReader(content(3*chunkSize)), -1, 64<<20, m, "a")
	if _, err := io.CopyN(io.Discard, u.next(), 2*chunkSize); err != nil {
		t.Fatal(err)
	}
	second := u.next()
	u.release()
	if got, err := io.ReadAll(second); err != nil || !bytes.Equal(got, content(3*chunkSize)) {
		t.Errorf("%d other bytes, %v", len(got), err)
	}
	u.release()
	wantNothingTaken(t, m)
}

// To stop or to release an upload does not wait for its caller, and what is left can be
// read when the transport has gone.
func TestStopDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := blocking{make(chan struct{}), make(chan []byte)}
		m := NewMemory(16 << 20)
		u := newUpload(source, -1, 1<<20, m, "a")
		stopped := make(chan error)
		go func() {
			_, err := io.Copy(io.Discard, u.next())
			stopped <- err
		}()
		<-source.asked
		source.piece <- content(100)
		<-source.asked
		u.release()
		wantNothingTaken(t, m)
		u.stop()
		rest, begun := u.rest()
		left := make(chan int64)
		go func() {
			n, _ := io.Copy(io.Discard, rest)
			left <- n
		}()
		synctest.Wait()
		source.piece <- content(30) // thrown away: it is nobody's
		if err := <-stopped; !errors.Is(err, errStopped) || !begun {
			t.Errorf("the pass ends with %v, begun: %v", err, begun)
		}
		<-source.asked
		source.piece <- content(40)
		<-source.asked
		close(source.piece)
		if n := <-left; n != 40 {
			t.Errorf("%d bytes were left", n)
		}
		wantNothingTaken(t, m)
	})
}

// panicking is a transport that panics when it has read some of a body.
type panicking struct{ body io.Reader }

func (p *panicking) RoundTrip(r *http.Request) (*http.Response, error) {
	p.body = r.Body
	_, _ = io.ReadFull(r.Body, make([]byte, 100))
	panic("transport")
}

// After a panic nothing reads the body of the request any more.
func TestPanicStopsTheUpload(t *testing.T) {
	transport := new(panicking)
	l := &Relay{
		Hosts: []*url.URL{{Scheme: "http", Host: "a.test"}}, Standard: transport, MaxReplayBody: 1 << 20, Memory: NewMemory(16 << 20),
		HasCredential: func(string) bool { return false },
	}
	func() {
		defer func() { _ = recover() }()
		l.Forward(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/sns/auth", bytes.NewReader(content(100_000))), &Call{Path: "/sns/auth"})
		t.Error("it did not panic")
	}()
	if _, err := transport.body.Read(make([]byte, 1)); !errors.Is(err, errStopped) {
		t.Errorf("the body can still be read, %v", err)
	}
}

// A body that has broken off is not repeated, nor one that ends too early.
func TestUploadThatBreaksOffIsNotRepeatable(t *testing.T) {
	broken := errors.New("broken off")
	for name, source := range map[string]io.Reader{
		"broken off": io.MultiReader(bytes.NewReader(content(100)), iotest.ErrReader(broken)),
		"too short":  bytes.NewReader(content(100)),
	} {
		u := newUpload(source, 200, 1<<20, NewMemory(16<<20), "a")
		_, _ = io.ReadAll(u.next())
		if err := u.failure(); !errors.Is(err, broken) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: failure %v", name, err)
		}
		if u.repeatable() {
			t.Errorf("%s: repeatable", name)
		}
		u.stop()
	}
}

// Many uploads of many clients at once never take more than there is, and all of it
// comes back.
func TestMemoryIsGivenBack(t *testing.T) {
	m := NewMemory(40 * chunkSize)
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			u := newUpload(bytes.NewReader(content(20*chunkSize)), -1, 64<<20, m, string(rune('a'+i%8)))
			defer u.stop()
			pass := u.next()
			for _, err := io.CopyN(io.Discard, pass, chunkSize/2); err == nil; _, err = io.CopyN(io.Discard, pass, chunkSize/2) {
				m.mu.Lock()
				if m.taken > m.limit {
					t.Errorf("%d bytes are taken of %d", m.taken, m.limit)
				}
				m.mu.Unlock()
			}
		})
	}
	all.Wait()
	wantNothingTaken(t, m)
}
