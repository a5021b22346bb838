// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// eventually waits for what happens in the background, over real sockets. If it does not
// happen, details are shown.
func eventually(t *testing.T, what string, condition func() bool, details ...func() string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			for _, show := range details {
				t.Log(show())
			}
			t.Fatalf("in vain: %s", what)
		}
	}
}

// held is a path of WeChat's API. While a test holds it, calls of it are not answered.
type held struct {
	mu     sync.RWMutex // locked for reading by each call, for writing by who holds the path
	wechat http.Handler
}

// startHolding starts a gateway that knows both accounts, with a path that can be held.
func startHolding(t *testing.T, o gwtest.Options, path string) (*gwtest.Gateway, *held) {
	t.Helper()
	h := new(held)
	h.mu.Lock()
	defer h.mu.Unlock()
	g := gwtest.StartThenRoutes(t, o, map[string]http.HandlerFunc{path: h.ServeHTTP})
	h.wechat = g.WeChat
	return g, h
}

func (h *held) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	h.wechat.ServeHTTP(w, r)
}

// hold holds the path until release is called, at the latest at the end of the test. It
// waits for the calls that WeChat is answering.
func (h *held) hold(t *testing.T) (release func()) {
	h.mu.Lock()
	release = sync.OnceFunc(h.mu.Unlock)
	t.Cleanup(release)
	return release
}
