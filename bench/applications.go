// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// answerTime is what an application takes for a message.
const answerTime = 50 * time.Millisecond

// applications are the targets of a gateway, at one address: the path says which.
type applications struct {
	address string
	server  *http.Server
	client  http.Client   // for post
	ended   chan struct{} // closed by release
	once    sync.Once

	mu      sync.Mutex      // guards all below
	hanging int             // from which target on they never answer
	taken   [][]int         // by target and message: how often it was taken
	fastest []time.Duration // by message: what the fastest application has taken
	excused []bool          // by message, see excuse
}

// serveApplications serves so many targets, for n messages.
func serveApplications(targets, n int) (*applications, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &applications{address: listener.Addr().String(), ended: make(chan struct{}), hanging: targets, fastest: make([]time.Duration, n), excused: make([]bool, n)}
	for range targets {
		a.taken = append(a.taken, make([]int, n))
	}
	a.client.Transport = &http.Transport{MaxIdleConnsPerHost: idle}
	a.server = &http.Server{Handler: a}
	go func() { _ = a.server.Serve(listener) }()
	return a, nil
}

func (a *applications) close() {
	a.release()
	_ = a.server.Close()
}

// post sends a message to the first target, past the gateway.
func (a *applications) post(ctx context.Context, message string) (answer sandbox.PushAnswer, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+a.address+"/0", strings.NewReader(message))
	if err != nil {
		return answer, err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	reply, err := io.ReadAll(response.Body)
	return sandbox.PushAnswer{Attempts: 1, Reply: string(reply)}, err
}

// excuse notes that a message was not acknowledged: it may be lost.
func (a *applications) excuse(message int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.excused[message] = true
}

// hang lets a target, and those behind it, accept what comes and never answer, until
// release is called.
func (a *applications) hang(target int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hanging = target
}

// release lets all targets answer, those at once that have been hanging.
func (a *applications) release() {
	a.once.Do(func() { close(a.ended) })
	a.hang(len(a.taken))
}

// ServeHTTP takes a message and replies to it.
func (a *applications) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	target, _ := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
	body, err := io.ReadAll(r.Body)
	text := string(body)
	message, noNumber := strconv.Atoi(between(text, "<Content><![CDATA[", "]]>"))
	if err != nil || noNumber != nil || target >= len(a.taken) || message >= len(a.fastest) {
		http.Error(w, "not a message of the bench", http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	hanging := target >= a.hanging
	a.mu.Unlock()
	pause := time.After(answerTime)
	if hanging {
		pause = nil
	}
	select {
	case <-pause:
	case <-a.ended:
	case <-r.Context().Done():
		return
	}
	a.mu.Lock()
	a.taken[target][message]++
	if took := time.Since(began); a.fastest[message] == 0 || took < a.fastest[message] {
		a.fastest[message] = took
	}
	a.mu.Unlock()
	fmt.Fprintf(w, "<xml><ToUserName><![CDATA[%s]]></ToUserName><FromUserName><![CDATA[%s]]></FromUserName><CreateTime>%d</CreateTime>"+
		"<MsgType><![CDATA[text]]></MsgType>%s</xml>", between(text, "<FromUserName><![CDATA[", "]]>"), between(text, "<ToUserName><![CDATA[", "]]>"),
		began.Unix(), replyTo(message))
}

// replyTo is what a reply says.
func replyTo(message int) string { return fmt.Sprintf("<Content><![CDATA[re %d]]></Content>", message) }

// between returns the text between two marks.
func between(text, left, right string) string {
	_, rest, _ := strings.Cut(text, left)
	found, _, _ := strings.Cut(rest, right)
	return found
}

// added returns by how many milliseconds each message has taken longer than the fastest
// application.
func (a *applications) added(took []time.Duration) []float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	added := make([]float64, len(took))
	for i := range took {
		added[i] = float64((took[i] - a.fastest[i]).Microseconds()) / 1000
	}
	return added
}

// count returns how many deliveries were never taken, and how many more than once.
func (a *applications) count() (lost, twice int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, times := range a.taken {
		for message, n := range times {
			switch {
			case n == 0 && !a.excused[message]:
				lost++
			case n > 1:
				twice++
			}
		}
	}
	return lost, twice
}
