// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// answerTimeout is how long a write that has failed waits for the end of its
// connection. Whatever the server has sent before is in this system already.
const answerTimeout = time.Second

// KeepEarlyAnswers makes the connections of an http.Transport such that an answer is
// not lost if the server answers a long request before it has read all of it, and
// closes the connection. The request cannot be written to its end then, and the
// http.Transport would take that error if it comes before the answer is read: the
// goroutine that writes and the one that reads do not wait for each other. So here a
// write that fails returns its error only when the connection is closed, which the
// goroutine that reads does as soon as it has the answer, or none.
//
// It must be called before the transport is used. Connections that DialTLSContext
// makes are not changed.
func KeepEarlyAnswers(options *http.Transport) {
	dial := options.DialContext
	if dial == nil {
		return
	}
	options.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &patient{Conn: conn, closed: make(chan struct{})}, nil
	}
}

// patient is a connection whose failed writes wait, see KeepEarlyAnswers. One
// goroutine may write while another one reads.
type patient struct {
	net.Conn
	once   sync.Once
	closed chan struct{} // closed by Close
}

// Write writes. If that fails for another reason than a deadline, it returns when the
// connection is closed, or after answerTimeout.
func (p *patient) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	var network net.Error
	if err == nil || errors.As(err, &network) && network.Timeout() {
		return n, err
	}
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	select {
	case <-p.closed:
	case <-timer.C:
	}
	return n, err
}

// Close closes the connection, and ends the waiting. It may be called again.
func (p *patient) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Conn.Close()
}

// impatient returns the connection below: package upstream reads after it has
// written, on one goroutine.
func impatient(conn net.Conn) net.Conn {
	if p, ok := conn.(*patient); ok {
		return p.Conn
	}
	return conn
}
