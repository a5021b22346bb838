// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// askHealth sends a request to a wechat_health of these settings.
func askHealth(t *testing.T, s *state, method, uri string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusTeapot)
		return nil
	})
	h := &Health{app: &App{state: s, drain: newDrain(func() {})}}
	if err := h.ServeHTTP(w, httptest.NewRequest(method, uri, nil), next); err != nil {
		t.Fatal(err)
	}
	return w
}

// A load balancer is told to send requests once the storage has answered, and from then
// on: a storage that hangs holds up no answer, and the public learns nothing else.
func TestHealthOfASite(t *testing.T) {
	storage := new(vaulttest.Memory)
	s := inPool(t, newTestSettings(t, storage))
	check := func(method, uri string, status int, want string) {
		t.Helper()
		got := askHealth(t, s, method, uri)
		if got.Code != status || strings.TrimSpace(got.Body.String()) != want {
			t.Errorf("%s %s: %d %s, want %d %s", method, uri, got.Code, got.Body, status, want)
		}
		if status < 300 && got.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be kept: %v", uri, got.Header())
		}
	}
	const well = `{"status":"ok"}`
	check("GET", "/wechat/health/live", 200, well)
	check("GET", "/wechat/health/ready", 503, `{"error":"storage has not answered since the start","remedy":"see whether Caddy's storage can be reached"}`)
	storeTicket(t, s.vault)
	check("GET", "/wechat/health/ready", 200, well)
	check("HEAD", "/x/ready?probe=1", 200, well)
	check("POST", "/wechat/health/ready", 405, "")
	check("GET", "/wechat/health/else", 418, "")
	over := make(chan struct{})
	defer close(over)
	storage.Intercept(func(context.Context, vaulttest.Op, string) error {
		<-over
		return errors.New("storage fails")
	})
	check("GET", "/wechat/health/ready", 200, well)
	storage.Intercept(nil)
}
