// SPDX-License-Identifier: Apache-2.0

package sdk_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// clients is the one client of all tests. What it may call is listed, so that
// every SDK has a path left which is denied: menus, for example.
const clients = `client shop {
	secret      ` + gwtest.ClientSecret + `
	authorizers *
	allow       /cgi-bin/user/* /cgi-bin/message/* /cgi-bin/media/* /cgi-bin/ticket/* /cgi-bin/account/*
	allow       /datacube/* /wxaapi/* /wxa/getwxacodeunlimit /cgi-bin/component/* /sns/*
	component_api
}`

// world is a gateway whose ways from the SDK and to WeChat are tapped.
type world struct {
	*gwtest.Gateway
	url  string // what the SDK is told in place of https://api.weixin.qq.com
	sent *letters
	tap  *wiretap
}

func startWorld(t *testing.T) *world {
	t.Helper()
	tap := new(wiretap)
	g := gwtest.Start(t, gwtest.Options{Clients: clients, Upstream: tap, Quiet: true, Watch: true})
	tap.wechat.Store(g.WeChat)
	g.Authorize()
	g.Settle()
	sent := new(letters)
	gateway := passTo(t, g)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one, err := readLetter(r)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		sent.add(one)
		gateway.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return &world{g, front.URL, sent, tap}
}

// reset forgets what came before a step, save for leaks.
func (w *world) reset() {
	w.WeChat.ResetCounts()
	w.sent.reset()
	w.tap.arrived.reset()
}

// wantIntact fails the test if WeChat saw something of the gateway's own, or if
// what it saw is not what the SDK has sent, byte for byte.
func (w *world) wantIntact(t *testing.T) {
	t.Helper()
	for _, leak := range w.tap.taken() {
		t.Errorf("WeChat saw %s", leak)
	}
	sent := w.sent.list()
	for _, arrived := range w.tap.arrived.list() {
		if !slices.ContainsFunc(sent, arrived.equal) {
			t.Errorf("WeChat saw %s, which the SDK has not sent: %s", arrived, sent)
		}
	}
}

// startGateway starts a gateway that is not tapped.
func startGateway(t *testing.T) *gwtest.Gateway {
	t.Helper()
	return gwtest.StartSettled(t, gwtest.Options{Clients: clients, Watch: true})
}

// issue makes a gateway token of the client that nobody has asked for; an
// empty appid makes it the component's.
func issue(t *testing.T, g *gwtest.Gateway, appid string, expires time.Time) string {
	t.Helper()
	return g.Issue(t, "shop", gwtest.ClientSecret, appid, expires)
}

// refused is how many calls the gateway has refused for this reason.
func (w *world) refused(slug string) int {
	return strings.Count(w.Logs(), `"msg":"call refused: `+slug+`"`)
}

// livenessPath is what the gateway asks with a token that was rejected.
const livenessPath = "/cgi-bin/get_api_domain_ip"

// calls is what WeChat saw of the SDK's calls, without the gateway's own.
func (w *world) calls() []sandbox.Call {
	return slices.DeleteFunc(w.WeChat.Calls(), func(c sandbox.Call) bool {
		return strings.HasPrefix(c.Path, "/cgi-bin/component/") || c.Path == livenessPath
	})
}

// wiretap passes all calls to WeChat and notes what of the gateway's own is in
// them: in the address, in a header, or in the body.
type wiretap struct {
	wechat  atomic.Pointer[sandbox.Sandbox] // nil until the gateway runs
	arrived letters

	mu    sync.Mutex
	leaks []string
}

func (w *wiretap) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	wechat := w.wechat.Load()
	one, err := readLetter(r)
	if wechat == nil || err != nil {
		panic(http.ErrAbortHandler)
	}
	header, _ := json.Marshal(r.Header)
	for where, content := range map[string][]byte{"address": []byte(r.RequestURI), "header": header, "body": one.body} {
		for what, ours := range map[string]string{"gateway token": "gw1.", "refresh label": "gwr1.", "client secret": gwtest.ClientSecret} {
			if bytes.Contains(content, []byte(ours)) {
				w.note("a " + what + " in the " + where + " of " + r.Method + " " + r.URL.Path)
			}
		}
	}
	if !exchanged(r.URL.Path) {
		w.arrived.add(one)
	}
	wechat.ServeHTTP(rw, r)
}

func (w *wiretap) note(leak string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leaks = append(w.leaks, leak)
}

// taken returns what was noted since the last time.
func (w *wiretap) taken() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	leaks := w.leaks
	w.leaks = nil
	return leaks
}
