// SPDX-License-Identifier: Apache-2.0

package buffered

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"go.uber.org/zap/zapcore"
)

// buffer collects what is written to an output. It is safe for concurrent use. Write
// waits for the output only when the buffer is full, or when the output is taking what
// was collected.
type buffer struct {
	lines zapcore.BufferedWriteSyncer
	to    *output
	ended atomic.Bool // nothing is collected any more
}

func newBuffer(to io.WriteCloser) *buffer {
	b := &buffer{to: &output{to: to}}
	b.lines = zapcore.BufferedWriteSyncer{WS: zapcore.AddSync(b.to), Size: size, FlushInterval: latest}
	_, _ = b.lines.Write(nil) // starts its goroutine, which a first line after end would start for ever
	return b
}

// Write takes lines. Its error is that of an earlier write to the output, of which the
// lines are lost; those of now are kept.
func (b *buffer) Write(lines []byte) (int, error) {
	n, _ := b.lines.Write(lines) // output hides its errors, here and below
	if b.ended.Load() {
		_ = b.lines.Sync()
	}
	return n, b.to.failure()
}

// end writes what was collected. Whatever is written later goes to the output at once. It
// waits for the output.
func (b *buffer) end() {
	b.ended.Store(true) // before Stop: one of the two sees what is written now
	_ = b.lines.Stop()
}

// endWithin is end, but waits no longer than limit: a log that is sent to another machine
// may hang for as long as that one likes, and must not keep the process from its exit.
func (b *buffer) endWithin(limit time.Duration) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.end()
	}()
	select {
	case <-ended:
	case <-time.After(limit):
	}
}

// Close writes what was collected, and closes the output, which decides what becomes of
// later lines: Caddy logs when it has closed its logs.
func (b *buffer) Close() error {
	b.end()
	return errors.Join(b.to.failure(), b.to.to.Close())
}

// output hides the errors of an output from the buffer before it, which writes nothing any
// more after the first one. A full disk is full for a while only.
type output struct {
	to     io.WriteCloser
	failed atomic.Pointer[error] // the last one that nobody was told of
}

// Write takes all, and keeps the error.
func (o *output) Write(lines []byte) (int, error) {
	if _, err := o.to.Write(lines); err != nil {
		o.failed.Store(&err)
	}
	return len(lines), nil
}

// failure returns the error that was kept, once.
func (o *output) failure() error {
	if o.failed.Load() == nil { // nearly always, and cheaper
		return nil
	}
	if err := o.failed.Swap(nil); err != nil {
		return *err
	}
	return nil
}
