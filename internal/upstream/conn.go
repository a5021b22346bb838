// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"time"
)

// conn is one connection. Only its owner uses it, see host; but close may be
// called from any goroutine, and more than once.
type conn struct {
	host   *host
	socket *socket       // below TLS
	stream bounded       // the socket, or TLS on it
	in     *bufio.Reader // reads from stream
	out    *bufio.Writer // writes to stream, without the limit of bounded
	close  func()        // closes the socket, see newConn
	since  time.Time     // when it became idle; zero for a new connection
}

// newConn returns a connection over stream, which is socket, or TLS on socket.
// Its function close closes only the socket. To close the TLS connection would
// send an alert to the other side first, which can take seconds if that side
// does not read.
func newConn(h *host, socket *socket, stream net.Conn) *conn {
	c := &conn{
		host: h, socket: socket, stream: bounded{stream, unlimited},
		out: bufio.NewWriter(stream), close: func() { _ = socket.Close() },
	}
	c.in = bufio.NewReader(&c.stream)
	return c
}

// call makes one call. With an error the connection is closed. Without one, the
// answer owns the connection until its body is closed: if the body was read to
// its end, the connection is released to its host, otherwise it is closed.
//
// If the request's context ends before that, the connection is closed. That
// ends every read and write on it with an error.
func (c *conn) call(r *http.Request) (*http.Response, error) {
	stop := context.AfterFunc(r.Context(), c.close)
	response, again, err := c.exchange(r)
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
		again: again && !r.Close,
	}
	return response, nil
}

// exchange writes the request and reads the header of its answer. It waits for
// ResponseHeaderTimeout at most. Answers with a status of 1xx are skipped; the
// limits of time and size hold for all of them together, so a server cannot
// hold a call by sending them for ever. It reports whether the connection may be
// used again after the answer.
func (c *conn) exchange(r *http.Request) (response *http.Response, again bool, err error) {
	_ = c.socket.SetDeadline(c.host.deadline()) // if it fails, the first write fails too
	c.stream.left = c.host.headerLimit()
	if err := r.Write(c.out); err != nil {
		return nil, false, err
	}
	if err := c.out.Flush(); err != nil {
		return nil, false, err
	}
	for again := true; ; {
		header := c.arrivedHeader()
		response, err := http.ReadResponse(c.in, r)
		if err != nil {
			return nil, false, err
		}
		again = again && framedClearly(response, header)
		if !informational(response.StatusCode) {
			c.stream.left = unlimited
			_ = c.socket.SetDeadline(time.Time{}) // if it fails, the socket is closed; the body may be in the buffer already
			return response, again, nil
		}
	}
}

// arrivedHeader waits for an answer and returns its header, nil if it has not
// arrived in one piece. The bytes are those in the buffer, and stay until more is
// read into it. An error shows when the header is read.
func (c *conn) arrivedHeader() []byte {
	_, _ = c.in.Peek(1)
	arrived, _ := c.in.Peek(c.in.Buffered())
	if end := bytes.Index(arrived, []byte("\r\n\r\n")); end >= 0 {
		return arrived[:end]
	}
	return nil
}

// informational reports whether another answer to the same request follows an
// answer with this status (RFC 9110, 15.2).
func informational(status int) bool {
	return 100 <= status && status <= 199 && status != http.StatusSwitchingProtocols
}

// unused reports whether a connection may be used for a call: it is open, and
// nothing has arrived on it. It does not wait. If a server has sent an answer
// that no request asked for, that answer would be taken for the answer to the
// next request, which may be a call of another client for another account.
func (c *conn) unused() bool {
	c.socket.probing = true
	_, err := c.in.Peek(1)
	c.socket.probing = false
	return errors.Is(err, errNothing)
}

// bounded is a reader with a limit, for the header of an answer.
type bounded struct {
	io.Reader
	left int64 // number of bytes that may still be read
}

// unlimited is the limit for the body of an answer.
const unlimited = math.MaxInt64

// errHeaderTooLong means that the header is longer than headerLimit.
var errHeaderTooLong = errors.New("the header of the answer is too long")

// Read reads, and fails once the limit is used up. One read may exceed it, at
// most by the size of the buffer.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errHeaderTooLong
	}
	n, err := b.Reader.Read(p)
	b.left -= int64(n)
	return n, err
}

// answer is the body of an answer. It owns the connection until Close. Read and
// Close must be called from one goroutine.
type answer struct {
	io.ReadCloser
	conn  *conn       // nil after Close
	stop  func() bool // stops waiting for the end of the context; false if it has ended
	whole bool        // the body was read to its end
	again bool        // the connection may be used again after this answer
}

// Read reads from the body. It ends with an error if the request's context
// ends. There is no other limit of time.
func (a *answer) Read(p []byte) (int, error) {
	if a.conn == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := a.ReadCloser.Read(p)
	a.whole = a.whole || err == io.EOF
	return n, err
}

// Close releases the connection, or closes it if the body was not read to its
// end. It never blocks, and may be called again. It does not close the body
// that http.ReadResponse has made: that would read the rest of the answer,
// however long it is.
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
