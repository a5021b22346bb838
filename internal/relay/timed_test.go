// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// deadlines is a ResponseWriter that keeps the deadlines that were set.
type deadlines struct {
	http.ResponseWriter
	set []time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

// A transport may read the body when the handler has returned. The ResponseWriter is
// gone then: over HTTP/2 to use it would end the process.
func TestBodyUsesNoResponseWriterAfterItsCall(t *testing.T) {
	w := &deadlines{ResponseWriter: httptest.NewRecorder()}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", smallBody+1)))
	var body timedBody
	body.limitTime(w, r)
	if _, err := r.Body.Read(make([]byte, 1)); err != nil || len(w.set) != 1 {
		t.Fatalf("%v, %d deadlines", err, len(w.set))
	}
	body.stop()
	if _, err := io.ReadAll(r.Body); err != nil || len(w.set) != 1 {
		t.Errorf("%v, %d deadlines", err, len(w.set))
	}
}

// A small body has one deadline, which ends with it: one that passes later would cancel
// the request.
func TestDeadlineOfASmallBodyEndsWithIt(t *testing.T) {
	w := &deadlines{ResponseWriter: httptest.NewRecorder()}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("content"))
	var body timedBody
	body.limitTime(w, r)
	_, err := io.ReadAll(r.Body)
	if err != nil || len(w.set) != 2 || time.Until(w.set[0]) > bodyTimeout || !w.set[1].IsZero() {
		t.Errorf("%v, deadlines %v", err, w.set)
	}
}

// What is announced takes no memory before it has arrived.
func TestReadAllTakesWhatArrives(t *testing.T) {
	for _, length := range []int64{0, 1, 4096, 4097, 65536} {
		content := strings.Repeat("x", int(length))
		if got, err := readAll(strings.NewReader(content), length); err != nil || string(got) != content {
			t.Errorf("%d bytes: %d, %v", length, len(got), err)
		}
	}
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = readAll(strings.NewReader("x"), 65536)
		}
	}).AllocedBytesPerOp()
	if allocated > 8<<10 {
		t.Errorf("one byte of 64 KiB takes %d bytes", allocated)
	}
}

// A caller that begins bodies without an end takes a bounded memory, and no other's
// place.
func TestUnfinishedBodiesOfOneCallerAreBounded(t *testing.T) {
	var bodies Bodies
	for i := range 2 * maxBodies {
		if got := bodies.Begin("villain"); got != (i < maxBodies) {
			t.Fatalf("%d: %v", i, got)
		}
	}
	if !bodies.Begin("honest") {
		t.Error("another caller waits for it")
	}
	bodies.End("honest")
	for range maxBodies {
		bodies.End("villain")
	}
	if len(bodies.of) != 0 || !bodies.Begin("villain") {
		t.Errorf("%d callers are remembered", len(bodies.of))
	}
}
