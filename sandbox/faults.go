// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is something that goes wrong. Its effects combine: first Latency, then
// Never or Reset; then an answer of its own (Echo, Status, HTML, Empty, ErrCode) or
// WeChat's, after it has acted, sent as Early says; then DropAfter, CutHalf or
// Surplus spoil it.
type Fault struct {
	// Path is the beginning of the paths concerned; empty means every path.
	Path string `json:"path,omitempty"`
	// Method concerned; empty means every method.
	Method string `json:"method,omitempty"`
	// Times it strikes; 0 means until ClearFaults.
	Times int `json:"times,omitempty"`

	// Latency before anything else, in nanoseconds in JSON.
	Latency time.Duration `json:"latency,omitempty"`
	// Never answers: the call hangs until its caller gives up.
	Never bool `json:"never,omitempty"`
	// Reset cuts the connection before WeChat acts.
	Reset bool `json:"reset,omitempty"`
	// Status is answered with an HTML page, or with nothing if Empty.
	Status int `json:"status,omitempty"`
	// HTML answers a gateway's HTML page, with status 200 unless Status says otherwise.
	HTML bool `json:"html,omitempty"`
	// Empty answers no body, with status 200 unless Status says otherwise.
	Empty bool `json:"empty,omitempty"`
	// ErrCode and ErrMsg are answered without acting.
	ErrCode int    `json:"errcode,omitempty"`
	ErrMsg  string `json:"errmsg,omitempty"`
	// Echo answers what was sent, token included, without acting: "plain", or
	// "percent", "json", "html", "base64", "hex", "gzip", "deflate", several of
	// which may follow each other ("gzip gzip").
	Echo string `json:"echo,omitempty"`
	// Early says when an answer is sent for which no body is needed, such as that to a
	// dead token: "no" after the body was read to its end, "read" before, and the body
	// is read on, "close" before, and the connection is closed. Without Early,
	// net/http decides: it reads a small body first, and closes the connection before
	// a large one.
	Early string `json:"early,omitempty"`
	// DropAfter loses the answer: WeChat has acted, the caller never learns.
	DropAfter bool `json:"drop_after,omitempty"`
	// CutHalf closes the connection in the middle of the answer.
	CutHalf bool `json:"cut_half,omitempty"`
	// Surplus sends another answer, that nobody has asked for, behind this one.
	Surplus bool `json:"surplus,omitempty"`
}

// Inject lets f happen to calls from now on. Of several faults that fit, the
// oldest strikes.
func (s *Sandbox) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// ClearFaults ends every injected fault.
func (s *Sandbox) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// takeFault finds the fault that strikes this call and uses it up; the zero Fault
// does nothing.
func (s *Sandbox) takeFault(x *exchange) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if !strings.HasPrefix(x.call.Path, f.Path) || f.Method != "" && f.Method != x.call.Method {
			continue
		}
		x.call.Fault = true
		taken := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return taken
	}
	return Fault{}
}

// delay makes the call wait, hang or break off before WeChat acts. It panics with
// http.ErrAbortHandler to cut the connection.
func (f Fault) delay(x *exchange, w http.ResponseWriter) {
	gone := x.r.Context().Done()
	if f.Latency > 0 {
		select {
		case <-time.After(f.Latency):
		case <-gone:
			panic(http.ErrAbortHandler)
		}
	}
	switch {
	case f.Never:
		<-gone
		panic(http.ErrAbortHandler)
	case f.Reset:
		reset(w)
	}
}

// answer is what the fault says in WeChat's place, or nothing.
func (f Fault) answer(x *exchange) (any, error) {
	status := or(f.Status, http.StatusOK)
	switch {
	case f.Echo != "":
		return f.echo(x), nil
	case f.Empty:
		return page{status, ""}, nil
	case f.Status != 0 || f.HTML:
		title := http.StatusText(status)
		return page{status, fmt.Sprintf("<html><head><title>%d %s</title></head><body><center><h1>%s</h1></center></body></html>",
			status, title, title)}, nil
	case f.ErrCode != 0:
		return nil, refuse(f.ErrCode, or(f.ErrMsg, "injected error"))
	}
	return nil, nil
}

// spoil makes the answer break off, at its first byte or in the middle.
func (f Fault) spoil(x *exchange, w http.ResponseWriter) http.ResponseWriter {
	switch {
	case f.DropAfter:
		x.call.Status = 0
		return &cutWriter{ResponseWriter: w}
	case f.CutHalf:
		return &cutWriter{ResponseWriter: w, half: true}
	}
	return w
}

// sendEarly sends the response at once, and does with the rest of the body what
// Early says. In HTTP/2 a connection is not closed; the body is read no further.
func (f Fault) sendEarly(x *exchange, w http.ResponseWriter, response *response) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // HTTP/2 is so by itself
	response.send(w)
	_ = control.Flush() // if it fails, the caller is gone
	if f.Early == "read" {
		_, _ = io.Copy(io.Discard, x.body)
		return
	}
	conn, _, err := control.Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	// If more of the body comes, Close throws away what of the answer is not sent yet.
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		time.Sleep(earlyPause)
	}
}

// earlyPause is how long an early answer has to get out before its connection is closed.
const earlyPause = 20 * time.Millisecond

// cutWriter cuts the connection at the first byte of the answer, or half way
// through what Content-Length announces.
type cutWriter struct {
	http.ResponseWriter
	half bool
	left int64 // bytes to let through
}

func (c *cutWriter) WriteHeader(status int) {
	if !c.half {
		panic(http.ErrAbortHandler)
	}
	length, _ := strconv.ParseInt(c.Header().Get("Content-Length"), 10, 64)
	c.left = length / 2
	c.ResponseWriter.WriteHeader(status)
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if int64(len(p)) < c.left {
		c.left -= int64(len(p))
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	if flusher, ok := c.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
	panic(http.ErrAbortHandler)
}

// reset cuts the connection with a TCP RST where there is a TCP connection, and
// otherwise as rudely as the server allows.
func reset(w http.ResponseWriter) {
	if hijacker, ok := w.(http.Hijacker); ok {
		if conn, _, err := hijacker.Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		}
	}
	panic(http.ErrAbortHandler)
}
