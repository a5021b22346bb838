// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// watch keeps what leaves the gateway, for Options.Watch. Caddy runs as it does
// with Caddyfile.example, with everything on that could tell a secret: admin
// API, metrics, access logs, DEBUG logs, autosaved configuration.
type watch struct {
	extras    extras
	responses recorder

	t       testing.TB
	folder  string
	secrets map[string]string // secret → the placeholder that stands for it
}

// extras are the parts of the Caddyfile that Options.Watch changes.
type extras struct {
	Global string // options
	Log    string // options of the default log
	Site   string // directives of each site
}

func startWatch(t testing.TB, folder string) *watch {
	t.Helper()
	w := &watch{t: t, folder: folder, secrets: make(map[string]string)}
	if err := os.Mkdir(w.path("secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.extras = extras{
		Global: fmt.Sprintf(`admin unix/%s
	metrics
	order gwtest_panic first
	events {
		on * gwtest_events %s
	}`, w.path("admin"), w.path("events")),
		Log: "format wechat",
		Site: fmt.Sprintf(`log {
		output file %s {
			roll_disabled
		}
		level DEBUG
		format wechat
	}
	gwtest_panic`, w.path("access")),
	}
	autosave := caddy.ConfigAutosavePath
	caddy.ConfigAutosavePath = w.path("autosave")
	t.Cleanup(func() { caddy.ConfigAutosavePath = autosave })
	w.captureStderr()
	return w
}

func (w *watch) path(name string) string { return filepath.Join(w.folder, name) }

// captureStderr takes what is written with package log, as by net/http, and to
// os.Stderr. What the Go runtime writes when it dies still shows.
func (w *watch) captureStderr() {
	w.t.Helper()
	file, err := os.OpenFile(w.path("stderr"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	stderr, logged := os.Stderr, log.Writer()
	os.Stderr = file
	log.SetOutput(io.MultiWriter(file, logged))
	w.t.Cleanup(func() {
		os.Stderr = stderr
		log.SetOutput(logged)
		file.Close()
	})
}

// hide puts placeholders into a configuration in place of secrets, as an
// operator would write it.
func (w *watch) hide(text string, secrets []string) string {
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // one may be part of another
	for _, secret := range secrets {
		if secret != "" && strings.Contains(text, secret) {
			text = strings.ReplaceAll(text, secret, w.placeholder(secret))
		}
	}
	return text
}

func (w *watch) placeholder(secret string) string {
	if w.secrets[secret] == "" {
		file := filepath.Join(w.path("secrets"), fmt.Sprint(len(w.secrets)))
		if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
			w.t.Fatal(err)
		}
		w.secrets[secret] = "{file." + file + "}"
	}
	return w.secrets[secret]
}

// adminPaths are where Caddy's admin API shows what goes on inside.
var adminPaths = []string{
	"/config/", "/metrics", "/wechat/events", "/reverse_proxy/upstreams", "/debug/vars",
	"/wechat/status", "/wechat/health/ready", "/wechat/accounts", "/wechat/accounts/" + OfficialAccount, "/wechat/accounts/" + MiniProgram,
	"/wechat/pushes?limit=1000", "/wechat/usage?limit=10000",
	"/debug/pprof/goroutine?debug=1", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1",
}

// shown is what the admin API shows while the gateway runs.
func (g *Gateway) shown() (places []Place) {
	g.t.Helper()
	for _, path := range adminPaths {
		_, body := g.Admin(http.MethodGet, path)
		places = append(places, Place{Name: "the admin API's " + path, Data: body})
	}
	return places
}

// Admin makes a request to the admin API, without a body, and returns the status and
// the body of the answer. It needs Options.Watch.
func (g *Gateway) Admin(method, uri string) (status int, body []byte) {
	g.t.Helper()
	return g.AdminBody(method, uri, nil)
}

// AdminBody is Admin with a body.
func (g *Gateway) AdminBody(method, uri string, content []byte) (status int, body []byte) {
	g.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", g.watch.path("admin"))
	}}
	request, err := http.NewRequest(method, "http://caddy"+uri, bytes.NewReader(content))
	if err != nil {
		g.t.Fatal(err)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		g.t.Errorf("asking the admin API: %v", err)
		return 0, nil
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		g.t.Errorf("asking the admin API: %s: %v", uri, err)
	}
	return response.StatusCode, body
}

// written is what is left when the gateway has stopped, beside its log and its
// storage.
func (w *watch) written() []Place {
	w.t.Helper()
	places := []Place{
		{Name: "the access log", Log: true},
		{Name: "stderr", Log: true},
		{Name: "the Caddy events"},
		{Name: "the autosaved configuration"},
	}
	for i, file := range []string{"access", "stderr", "events", "autosave"} {
		data, err := os.ReadFile(w.path(file))
		if err != nil {
			w.t.Errorf("searching %s: %v", places[i].Name, err)
		}
		places[i].Data = data
	}
	return append(places, w.responses.places()...)
}

// close ends the admin API, which outlives Caddy's other servers.
func (w *watch) close() {
	w.t.Helper()
	end := `{"admin":{"disabled":true,"config":{"persist":false}},"logging":{"logs":{"default":{"writer":{"output":"discard"}}}}}`
	if err := caddy.Load([]byte(end), true); err != nil {
		w.t.Errorf("ending the admin API: %v", err)
	}
	if err := caddy.Stop(); err != nil {
		w.t.Errorf("stopping: %v", err)
	}
}
