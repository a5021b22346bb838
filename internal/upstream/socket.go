// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"net"
	"syscall"
)

// socket is the connection below TLS. While probing is set, Read returns
// errNothing instead of waiting for data. So [conn.unused] can call Read
// through TLS, which sees only records that have arrived completely.
//
// One goroutine at a time may read: the one that has taken the connection from
// its host. Close and SetDeadline may be called from any goroutine.
type socket struct {
	net.Conn
	probing bool
	raw     syscall.RawConn // nil if Read cannot be called without waiting
	poll                    // reads from raw
}

// newSocket returns a socket over c. DialContext may return a connection that
// is not one of the operating system's; raw is nil then, and the connection is
// used for one call only.
func newSocket(c net.Conn) *socket {
	s := &socket{Conn: c}
	if under, ok := c.(syscall.Conn); ok {
		s.raw, _ = under.SyscallConn()
	}
	s.poll.prepare()
	return s
}

// Read reads from the connection, without waiting if probing is set.
func (s *socket) Read(p []byte) (int, error) {
	switch {
	case !s.probing:
		return s.Conn.Read(p)
	case s.raw == nil: // a new connection; others without raw are not kept
		return 0, errNothing
	}
	return s.now(s.raw, p)
}

// errNothing means that no data has arrived yet. Its method Temporary returns
// true: after any other error crypto/tls would return that error for ever.
var errNothing net.Error = nothing{}

// nothing is the type of errNothing, a net.Error.
type nothing struct{}

func (nothing) Error() string   { return "nothing to read" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }
