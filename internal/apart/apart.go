// SPDX-License-Identifier: Apache-2.0

// Package apart serves single connections on servers of their own, which are not shut
// down with the server that has accepted them, and tells when no requests come any more.
package apart

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Move returns the same connection with another file descriptor, and closes
// conn, with which the loop of net/http continues. Nothing has been read from it
// yet, so the TLS handshake, if any, begins on the one that is returned. It
// returns nil if that is not possible, and leaves conn as it is: if a listener
// wrapper such as proxy_protocol has it, or without a free descriptor.
func Move(conn net.Conn, config func() *tls.Config) net.Conn {
	secure, overTLS := conn.(*tls.Conn)
	if overTLS {
		conn = secure.NetConn()
	}
	socket, ok := conn.(interface{ File() (*os.File, error) }) // TCP or Unix
	if !ok {
		return nil
	}
	file, err := socket.File()
	if err != nil {
		return nil
	}
	defer file.Close()
	moved, err := net.FileConn(file)
	if err != nil {
		return nil
	}
	conn.Close()
	if overTLS {
		return tls.Server(moved, config())
	}
	return moved
}

// Serve serves one connection with the handler of old, on a server of its own that is
// not shut down. It returns when the connection is closed: after one request, because
// keep-alive is off, or when the TLS handshake and the header of a request have not
// arrived within limit. How long the body of the request may take is up to the handler,
// as on any server.
func Serve(ctx context.Context, old *http.Server, conn net.Conn, limit time.Duration) {
	once := &onceListener{conn: make(chan net.Conn, 1), closed: make(chan struct{}), addr: conn.LocalAddr()}
	once.conn <- conn
	server := &http.Server{
		Handler:           old.Handler,
		ErrorLog:          old.ErrorLog,
		MaxHeaderBytes:    old.MaxHeaderBytes,
		ReadTimeout:       old.ReadTimeout,
		WriteTimeout:      old.WriteTimeout,
		ReadHeaderTimeout: limit, // ends a connection without a request
		IdleTimeout:       limit, // the same for HTTP/2
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				once.Close()
			}
		},
	}
	server.SetKeepAlivesEnabled(false)
	_ = server.Serve(once)
}

// onceListener is a listener that accepts one connection. Its server then waits
// in Accept until Close is called.
type onceListener struct {
	conn   chan net.Conn // capacity 1
	closed chan struct{} // closed by Close
	once   sync.Once
	addr   net.Addr
}

// Accept returns the connection at the first call. Later calls wait until
// Close.
func (l *onceListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conn:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. It does not close the connection, and may be called again.
func (l *onceListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns the local address of the connection.
func (l *onceListener) Addr() net.Addr { return l.addr }
