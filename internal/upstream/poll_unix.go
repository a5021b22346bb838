// SPDX-License-Identifier: Apache-2.0

//go:build unix

package upstream

import (
	"errors"
	"io"
	"syscall"
)

// canProbe tells whether a connection can be read without waiting.
const canProbe = true

// poll reads without waiting. The fields into, n and err pass the arguments and
// the result of one read to and from the function read. That function is made
// once for each connection: a closure for each call would be allocated.
type poll struct {
	into []byte
	n    int
	err  error
	read func(fd uintptr) (done bool)
}

// prepare makes the function read. It must be called once, before now.
//
// The function always returns true. That tells RawConn.Read not to wait until
// the socket is readable. Sockets of Go are non-blocking, so syscall.Read does
// not wait either.
func (p *poll) prepare() {
	p.read = func(fd uintptr) bool {
		p.n, p.err = syscall.Read(int(fd), p.into)
		return true
	}
}

// now reads what has arrived, without waiting. The error is errNothing if that
// is nothing, and io.EOF if the other side has closed the connection.
func (p *poll) now(raw syscall.RawConn, into []byte) (int, error) {
	p.into = into
	err := raw.Read(p.read)
	p.into = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(p.err, syscall.EAGAIN):
		return 0, errNothing
	case p.err != nil:
		return 0, p.err
	case p.n == 0:
		return 0, io.EOF
	}
	return p.n, nil
}
