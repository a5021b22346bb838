// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"bytes"
	"io"
	"log"
)

// RedactStandardLog removes from the standard log of Go what net/http quotes in
// it: the bytes that a server has sent on an idle connection. If a server sends
// its requests back, these bytes contain real tokens. They would get into the
// log past all filters of Caddy, and http.Transport has no option against it.
//
// It must be called whenever a configuration starts, because each configuration
// may redirect that log. Calls must not run at the same time. A second call
// does nothing if the log was not redirected since the first.
func RedactStandardLog() {
	if _, guarded := log.Writer().(redacted); !guarded {
		log.SetOutput(redacted{log.Writer()})
	}
}

// redacted writes log lines to a Writer, without the bytes that they quote.
type redacted struct{ io.Writer }

// Write writes one line. Package log calls it once for each line, never from
// two goroutines at the same time.
func (q redacted) Write(line []byte) (int, error) {
	if before, _, found := bytes.Cut(line, []byte("idle HTTP channel starting with")); found {
		_, err := q.Writer.Write(append(bytes.Clone(before), "idle HTTP channel, withheld\n"...))
		return len(line), err
	}
	return q.Writer.Write(line)
}
