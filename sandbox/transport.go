// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"syscall"
)

// Transport is a way to the sandbox without a socket, whatever host a request
// names: for tests under testing/synctest, where a real connection would not
// count as idle. A cut connection is an error, or a body that ends in
// io.ErrUnexpectedEOF. One goroutine lives as long as a call.
func (s *Sandbox) Transport() http.RoundTripper { return memory{s} }

// memory serves requests by calling a handler.
type memory struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (m memory) RoundTrip(r *http.Request) (*http.Response, error) {
	served := r.Clone(r.Context())
	served.RequestURI = r.URL.RequestURI()
	served.RemoteAddr = "127.0.0.1:1"
	served.Host = or(r.Host, r.URL.Host)
	if served.Body == nil {
		served.Body = http.NoBody
	}
	content, pipe := io.Pipe()
	w := &memoryWriter{header: http.Header{}, pipe: pipe, began: make(chan *http.Response, 1), request: r, content: content}
	// A caller who gives up in the middle of a body unblocks the handler.
	stop := context.AfterFunc(r.Context(), func() { _ = content.CloseWithError(context.Cause(r.Context())) })
	failed := make(chan error, 1)
	go func() {
		defer stop()
		w.serve(m.handler, served, failed)
	}()
	select {
	case response := <-w.began:
		return response, nil
	case err := <-failed:
		select {
		case response := <-w.began: // it answered before it broke
			return response, nil
		default:
			return nil, err
		}
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// memoryWriter turns what a handler writes into a response.
type memoryWriter struct {
	header  http.Header
	pipe    *io.PipeWriter
	began   chan *http.Response
	sent    bool
	request *http.Request
	content io.ReadCloser
}

func (w *memoryWriter) serve(handler http.Handler, r *http.Request, failed chan<- error) {
	defer r.Body.Close()
	defer func() {
		if trouble := recover(); trouble != nil {
			if err, ok := trouble.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(trouble)
			}
			_ = w.pipe.CloseWithError(io.ErrUnexpectedEOF)
			failed <- syscall.ECONNRESET
			return
		}
		w.WriteHeader(http.StatusOK)
		_ = w.pipe.Close()
	}()
	handler.ServeHTTP(w, r)
}

func (w *memoryWriter) Header() http.Header { return w.header }

func (w *memoryWriter) WriteHeader(status int) {
	if w.sent {
		return
	}
	w.sent = true
	length, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64)
	if err != nil {
		length = -1
	}
	w.began <- &http.Response{
		Status:        strconv.Itoa(status) + " " + http.StatusText(status),
		StatusCode:    status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        w.header.Clone(),
		ContentLength: length,
		Body:          w.content,
		Request:       w.request,
	}
}

func (w *memoryWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(p)
}
