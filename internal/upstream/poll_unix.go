// SPDX-License-Identifier: Apache-2.0

//go:build unix

package upstream

import (
	"errors"
	"io"
	"syscall"
)

// canProbe tells whether idle connections can be asked for what has come.
const canProbe = true

// poll reads without waiting. Its function is made once: a closure for each
// read would be allocated.
type poll struct {
	into []byte
	n    int
	err  error
	read func(fd uintptr) (done bool)
}

func (p *poll) prepare() {
	p.read = func(fd uintptr) bool {
		p.n, p.err = syscall.Read(int(fd), p.into)
		return true
	}
}

// now reads what has come, errNothing if that is nothing.
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
