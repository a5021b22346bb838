// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"expvar"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// lenient takes a test's errors without failing it.
type lenient struct {
	testing.TB
	mu     sync.Mutex
	errors []string
}

func (l *lenient) Error(args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errors = append(l.errors, fmt.Sprint(args...))
}

func (l *lenient) Errorf(format string, args ...any) { l.Error(fmt.Sprintf(format, args...)) }

func (l *lenient) has(parts ...string) bool {
	for _, text := range l.errors {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(text, part)
		}
		if all {
			return true
		}
	}
	return false
}

// plants are leaks, each of a credential of its own, and the place where the
// search at the end of a test has to find it. What t is outlives that test.
var plants = []struct {
	place string
	plant func(t *testing.T, g *Gateway, credential string)
}{
	{"the log, plain", func(_ *testing.T, _ *Gateway, credential string) {
		caddy.Log().Info("planted", zap.String("url", "http://x/?access_token="+credential))
	}},
	{"the log, in base64", func(_ *testing.T, _ *Gateway, credential string) {
		caddy.Log().Debug("planted", zap.Binary("body", []byte("<"+credential+">")))
	}},
	{"the access log", func(t *testing.T, g *Gateway, credential string) {
		ask(t, g, http.Header{"User-Agent": {credential}})
	}},
	{"stderr", func(_ *testing.T, _ *Gateway, credential string) { fmt.Fprintln(os.Stderr, credential) }},
	{"stderr", func(_ *testing.T, _ *Gateway, credential string) { log.Print(credential) }},
	{"the answer to GET " + userPath, func(t *testing.T, g *Gateway, credential string) {
		ask(t, g, http.Header{"X-Say": {credential}})
	}},
	{"the answer to GET " + userPath, func(t *testing.T, g *Gateway, credential string) {
		ask(t, g, http.Header{"X-Say-Header": {credential}})
	}},
	{"the answer to GET " + userPath, func(t *testing.T, g *Gateway, credential string) {
		ask(t, g, http.Header{"X-Say-Gzip": {credential}, "Accept-Encoding": {"gzip"}})
	}},
	{"the Caddy events", func(t *testing.T, _ *Gateway, credential string) {
		app, err := caddy.ActiveContext().App("events")
		if err != nil {
			t.Error(err)
			return
		}
		app.(*caddyevents.App).Emit(caddy.ActiveContext(), "planted", map[string]any{"token": credential})
	}},
	{"stored planted", func(t *testing.T, g *Gateway, credential string) {
		if err := os.WriteFile(filepath.Join(g.Storage, "planted"), []byte(credential), 0o600); err != nil {
			t.Error(err)
		}
	}},
	{"stored PLANTED", func(t *testing.T, g *Gateway, credential string) {
		if err := os.WriteFile(filepath.Join(g.Storage, credential), nil, 0o600); err != nil {
			t.Error(err)
		}
	}},
	{"the admin API's /metrics", func(t *testing.T, _ *Gateway, credential string) {
		label := prometheus.Labels{"token": credential}
		gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "planted", ConstLabels: label})
		ctx := caddy.ActiveContext()
		if err := ctx.GetMetricsRegistry().Register(gauge); err != nil {
			t.Error(err)
		}
	}},
	{"the admin API's /debug/vars", func(_ *testing.T, _ *Gateway, credential string) { planted.Set(credential) }},
	{"the admin API's /debug/pprof/goroutine?debug=1", func(t *testing.T, _ *Gateway, credential string) {
		begun := make(chan struct{})
		go pprof.Do(t.Context(), pprof.Labels("token", credential), func(ctx context.Context) {
			close(begun)
			<-ctx.Done()
		})
		<-begun
	}},
}

var planted = expvar.NewString("planted") // cannot be taken back

// userPath is one that WeChat is asked without a token of the gateway's.
const userPath = "/sns/userinfo"

func ask(t *testing.T, g *Gateway, header http.Header) {
	t.Helper()
	if response, _ := g.Do(http.MethodGet, userPath, "", header); response.StatusCode != http.StatusOK {
		t.Errorf("answered %s", response.Status)
	}
}

// indiscreet is an upstream that says what the request tells it to.
func indiscreet(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Said", r.Header.Get("X-Say-Header"))
	if say := r.Header.Get("X-Say-Gzip"); say != "" {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		_, _ = io.WriteString(z, say)
		return
	}
	_, _ = io.WriteString(w, "<"+r.Header.Get("X-Say")+">")
}

// The search that ends every watched test finds a credential wherever one can
// stand.
func TestEveryPlantedCredentialIsFound(t *testing.T) {
	errors := &lenient{}
	t.Run("planted", func(watched *testing.T) {
		errors.TB = watched
		g := Start(errors, Options{Watch: true, Quiet: true, Upstream: http.HandlerFunc(indiscreet)})
		for i, leak := range plants {
			leak.plant(t, g, g.WeChat.RotateAppSecret(fmt.Sprintf("PLANTED-%02d-abcdefghijklmnop", i)))
		}
	})
	for i, leak := range plants {
		if !errors.has(fmt.Sprintf("a real credential (PLANTED-%02d-abc…", i), "stands in "+leak.place) {
			t.Errorf("the one in %s was not found", leak.place)
		}
	}
	if t.Failed() {
		t.Logf("found: %s", strings.Join(errors.errors, "\n"))
	}
}

// A configuration with a secret in it is shown and saved.
func TestSecretInTheConfigurationIsFound(t *testing.T) {
	errors := &lenient{}
	t.Run("planted", func(t *testing.T) {
		errors.TB = t
		g := Start(errors, Options{Watch: true, Quiet: true})
		_, _, aesKey := g.WeChat.Keys()
		text := base64.StdEncoding.EncodeToString([]byte(aesKey)) // in plain it would be hidden
		g.Change(func(o *Options) { o.Proxy = "}\nreverse_proxy /planted " + text + ":80\nhandle /more {\n" })
	})
	for _, place := range []string{"/config/", "/reverse_proxy/upstreams", "the autosaved configuration"} {
		if !errors.has("a real credential (REALAESKEYsand…)", "stands in", place) {
			t.Errorf("the one in %s was not found: %s", place, strings.Join(errors.errors, "\n"))
		}
	}
}

// A client's secret and a gateway token are found in logs, and only there.
func TestClientsSecretsAreFoundInLogs(t *testing.T) {
	const other = "another-secret-0123456789abcdef"
	errors := &lenient{}
	t.Run("planted", func(t *testing.T) {
		errors.TB = t
		g := Start(errors, Options{Watch: true, Secrets: []string{other}})
		token := g.Token(OfficialAccount)
		g.SearchEverything()
		if len(errors.errors) != 0 {
			t.Errorf("found without a leak: %s", errors.errors)
		}
		caddy.Log().Info("planted " + ClientSecret)
		ask(t, g, http.Header{"User-Agent": {other}, "X-Hidden": {token}}) // format wechat hides the token
		log.Print(token)
	})
	for place, kind := range map[string]string{
		"the log": "a client secret (shop-secret-01…)", "the access log": "a client secret (another-secret…)", "stderr": "a gateway token",
	} {
		if !errors.has(kind + " stands in " + place) {
			t.Errorf("%s in %s was not found", kind, place)
		}
	}
	if len(errors.errors) != 3 {
		t.Errorf("found: %s", strings.Join(errors.errors, "\n"))
	}
}

// Every place is asked and has something to show, or a search of it would
// prove nothing.
func TestPlacesAreNotEmpty(t *testing.T) {
	g := Start(t, Options{Watch: true})
	want := map[string]string{
		"the log": `"level":"debug"`, "the access log": `"msg":"handled request"`, "stderr": "",
		"the Caddy events": `"name":"started"`, "the autosaved configuration": `{file.`, "stored ticket.json": `"box":`,
		"the answer to POST /wechat/events": "HTTP/1.1 200", "the admin API's /config/": `{file.`,
		"the admin API's /metrics": "caddy_http_requests_total", "the admin API's /wechat/events": `"items":[]`,
		"the admin API's /reverse_proxy/upstreams": "[]", "the admin API's /debug/vars": `"memstats"`,
		"the admin API's /debug/pprof/goroutine?debug=1": "goroutine profile", "the admin API's /debug/pprof/goroutine?debug=2": "[running]",
		"the admin API's /debug/pprof/heap?debug=1": "heap profile",
	}
	for _, place := range g.Places() {
		if !strings.Contains(string(place.Data), want[place.Name]) {
			t.Errorf("%s shows no %s: %.500s", place.Name, want[place.Name], place.Data)
		}
		delete(want, place.Name)
	}
	if len(want) != 0 {
		t.Errorf("not searched: %v", want)
	}
}

// A module that panics says so in the log. Who called sees the connection
// break, unless the answer was sent already.
func TestPanicsHappen(t *testing.T) {
	g := Start(t, Options{Watch: true})
	for _, when := range []string{"before", "after"} {
		r, err := http.NewRequest(http.MethodGet, g.Proxy+userPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(PanicHeader, when)
		if response, err := http.DefaultTransport.RoundTrip(r); err == nil {
			response.Body.Close()
			if when == "before" {
				t.Errorf("answered %s", response.Status)
			}
		}
		if !strings.Contains(g.Logs(), "a panic "+when+" the handler") {
			t.Errorf("%s: not logged: %s", when, g.Logs())
		}
	}
}

// What the whole process shares is as it was.
func TestWatchGivesBack(t *testing.T) {
	stderr, logged, autosave := os.Stderr, log.Writer(), caddy.ConfigAutosavePath
	t.Run("watched", func(t *testing.T) { Start(t, Options{Watch: true, Quiet: true}) })
	if os.Stderr != stderr || log.Writer() != logged || caddy.ConfigAutosavePath != autosave {
		t.Error("something is not as it was")
	}
}
