// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"net"
	"syscall"
)

// socket is the connection below TLS. It can be asked whether something has
// come, without waiting for it.
type socket struct {
	net.Conn
	probing bool
	raw     syscall.RawConn // nil if it cannot be asked
	poll                    // of raw
}

func newSocket(c net.Conn) *socket {
	s := &socket{Conn: c}
	if under, ok := c.(syscall.Conn); ok {
		s.raw, _ = under.SyscallConn()
	}
	s.poll.prepare()
	return s
}

func (s *socket) Read(p []byte) (int, error) {
	switch {
	case !s.probing:
		return s.Conn.Read(p)
	case s.raw == nil: // it is new, or it would not have been kept
		return 0, errNothing
	}
	return s.now(s.raw, p)
}

// errNothing says that nothing has come yet. It calls itself temporary, or
// crypto/tls would take the connection for broken.
var errNothing net.Error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "nothing to read" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }
