// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"time"
)

// conn is a connection, which one call at a time uses.
type conn struct {
	host   *host
	socket *socket
	stream bounded
	in     *bufio.Reader // of stream
	out    *bufio.Writer
	close  func()    // see newConn
	since  time.Time // when it became idle; zero for never
}

// newConn returns a connection over stream, which is socket or TLS upon it.
// Closing it closes the socket alone: TLS would first say so to the other end,
// and wait for that.
func newConn(h *host, socket *socket, stream net.Conn) *conn {
	c := &conn{
		host: h, socket: socket, stream: bounded{stream, unlimited},
		out: bufio.NewWriter(stream), close: func() { _ = socket.Close() },
	}
	c.in = bufio.NewReader(&c.stream)
	return c
}

// call makes one call. The connection goes back to its host when the answer's
// body is closed after it was read to its end, else it is closed; it is also
// closed, which ends whatever waits for it, when the request's context ends.
func (c *conn) call(r *http.Request) (*http.Response, error) {
	stop := context.AfterFunc(r.Context(), c.close)
	response, err := c.exchange(r)
	if err != nil {
		stop()
		c.close()
		if r.Context().Err() != nil {
			err = context.Cause(r.Context())
		}
		return nil, err
	}
	response.Body = &answer{
		ReadCloser: response.Body, conn: c, stop: stop,
		whole: response.Body == http.NoBody,
		again: !response.Close && !r.Close && response.StatusCode > 199,
	}
	return response, nil
}

func (c *conn) exchange(r *http.Request) (*http.Response, error) {
	_ = c.socket.SetDeadline(c.host.deadline()) // fails only on what the first write fails on
	c.stream.left = c.host.headerLimit()        // 1xx included
	if err := r.Write(c.out); err != nil {
		return nil, err
	}
	if err := c.out.Flush(); err != nil {
		return nil, err
	}
	for {
		response, err := http.ReadResponse(c.in, r)
		if err != nil {
			return nil, err
		}
		if !informational(response.StatusCode) {
			c.stream.left = unlimited
			_ = c.socket.SetDeadline(time.Time{}) // fails if it has been closed, and then the body may be here already
			return response, nil
		}
	}
}

// informational reports whether another answer follows one with this status.
func informational(status int) bool {
	return 100 <= status && status <= 199 && status != http.StatusSwitchingProtocols
}

// unused reports whether an idle connection can be used again: it is open, and
// nothing whole has come that was not asked for, which would be taken for the
// next answer.
func (c *conn) unused() bool {
	c.socket.probing = true
	_, err := c.in.Peek(1)
	c.socket.probing = false
	return errors.Is(err, errNothing)
}

// bounded is a reader of which only so much may be read.
type bounded struct {
	io.Reader
	left int64 // bytes
}

const unlimited = math.MaxInt64

var errHeaderTooLong = errors.New("the header of the answer is too long")

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errHeaderTooLong
	}
	n, err := b.Reader.Read(p)
	b.left -= int64(n)
	return n, err
}

// answer is the body of an answer.
type answer struct {
	io.ReadCloser
	conn  *conn // nil once closed
	stop  func() bool
	whole bool // it was read to its end
	again bool // the connection can be used again after it
}

func (a *answer) Read(p []byte) (int, error) {
	if a.conn == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := a.ReadCloser.Read(p)
	a.whole = a.whole || err == io.EOF
	return n, err
}

// Close does not close what http.ReadResponse made: that would read on to the
// end of the answer, however far it is.
func (a *answer) Close() error {
	c := a.conn
	if c == nil {
		return nil
	}
	a.conn = nil
	if a.stop() && a.whole && a.again {
		c.host.release(c)
	} else {
		c.close()
	}
	return nil
}
