// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"bytes"
	"io"
	"log"
)

// RedactStandardLog keeps out of Go's own log what net/http quotes there: bytes
// that a server has sent unasked on an idle connection. One that echoes what it
// gets would so write real tokens into it, past all filters, and no transport
// can be told otherwise. It is called when a configuration starts, because
// Caddy may redirect that log in every one.
func RedactStandardLog() {
	if _, guarded := log.Writer().(redacted); !guarded {
		log.SetOutput(redacted{log.Writer()})
	}
}

// redacted passes log lines on without what they quote of such bytes.
type redacted struct{ io.Writer }

func (q redacted) Write(line []byte) (int, error) {
	if before, _, found := bytes.Cut(line, []byte("idle HTTP channel starting with")); found {
		_, err := q.Writer.Write(append(bytes.Clone(before), "idle HTTP channel, withheld\n"...))
		return len(line), err
	}
	return q.Writer.Write(line)
}
