// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// weChat is a sandbox whose component API can be stopped in the middle of a
// call, and tells when it has answered.
type weChat struct {
	*sandbox.Sandbox
	server *httptest.Server
	url    string

	mu    sync.Mutex
	stops []*stop
	spans map[string][]span
	about map[[2]string]int // path and account → calls
}

// span is how long a call took.
type span struct{ asked, answered time.Time }

// moment is one within a call.
type moment string

const (
	asked    moment = "asked"    // WeChat has not acted
	answered moment = "answered" // it has, and its answer is not sent yet
)

// stop holds up the next call of a path.
type stop struct {
	path          string
	at            moment
	reached, goOn chan struct{}
}

func newWeChat(t *testing.T, config sandbox.Config) *weChat {
	t.Helper()
	s, err := sandbox.New(config)
	if err != nil {
		t.Fatal(err)
	}
	w := &weChat{Sandbox: s, spans: make(map[string][]span), about: make(map[[2]string]int)}
	w.server = httptest.NewServer(w)
	t.Cleanup(w.server.Close)
	w.url = w.server.URL
	return w
}

// hold makes the next call of an endpoint wait until release is called, or its
// caller gives up or dies, and tells when that call has come so far.
func (w *weChat) hold(endpoint string, at moment) (reached <-chan struct{}, release func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &stop{componentAPI + endpoint, at, make(chan struct{}), make(chan struct{})}
	w.stops = append(w.stops, s)
	return s.reached, func() { close(s.goOn) }
}

// pass holds the call up if it is to be held up here.
func (w *weChat) pass(r *http.Request, at moment) {
	w.mu.Lock()
	var found *stop
	w.stops = slices.DeleteFunc(w.stops, func(s *stop) bool {
		if found != nil || s.path != r.URL.Path || s.at != at {
			return false
		}
		found = s
		return true
	})
	w.mu.Unlock()
	if found == nil {
		return
	}
	close(found.reached)
	select {
	case <-found.goOn:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// ServeHTTP implements http.Handler.
func (w *weChat) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, componentAPI) {
		w.Sandbox.ServeHTTP(rw, r)
		return
	}
	body, _ := io.ReadAll(r.Body) // or the server would not notice a caller that dies
	r.Body = io.NopCloser(bytes.NewReader(body))
	w.noteAccount(r.URL.Path, body)
	taken := span{asked: time.Now()}
	w.pass(r, asked)
	answer := httptest.NewRecorder()
	w.Sandbox.ServeHTTP(answer, r)
	w.pass(r, answered)
	taken.answered = time.Now()
	w.mu.Lock()
	w.spans[r.URL.Path] = append(w.spans[r.URL.Path], taken)
	w.mu.Unlock()
	for name, values := range answer.Header() {
		rw.Header()[name] = values
	}
	rw.WriteHeader(answer.Code)
	_, _ = rw.Write(answer.Body.Bytes())
}

// noteAccount counts a call that names an account.
func (w *weChat) noteAccount(path string, body []byte) {
	var named struct {
		Authorizer string `json:"authorizer_appid"`
	}
	if json.Unmarshal(body, &named) == nil && named.Authorizer != "" {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.about[[2]string{path, named.Authorizer}]++
	}
}

// times tells how often an endpoint was asked about an account.
func (w *weChat) times(endpoint, appid string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.about[[2]string{componentAPI + endpoint, appid}]
}

// last tells when the last call of an endpoint was asked and answered.
func (w *weChat) last(endpoint string) span {
	w.mu.Lock()
	defer w.mu.Unlock()
	spans := w.spans[componentAPI+endpoint]
	if len(spans) == 0 {
		return span{}
	}
	return spans[len(spans)-1]
}
