// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"bytes"
	"io"
	"log"
)

// guardStandardLog keeps out of Go's own log what net/http quotes there: bytes
// that a server has sent unasked on an idle connection. One that echoes what it
// gets would so write real tokens into it, past all filters, and no transport
// can be told otherwise. It is called when a configuration starts, because
// Caddy may redirect that log in every one.
func guardStandardLog() {
	if _, guarded := log.Writer().(quoteless); !guarded {
		log.SetOutput(quoteless{log.Writer()})
	}
}

// quoteless passes log lines on without what they quote of such bytes.
type quoteless struct{ io.Writer }

func (q quoteless) Write(line []byte) (int, error) {
	if before, _, found := bytes.Cut(line, []byte("idle HTTP channel starting with")); found {
		_, err := q.Writer.Write(append(bytes.Clone(before), "idle HTTP channel, withheld\n"...))
		return len(line), err
	}
	return q.Writer.Write(line)
}
