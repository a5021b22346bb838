// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/goleak"

	wechat "github.com/caddy-wechat/caddy-wechat"
)

// running loads configurations into the Caddy of this process, which is
// stopped when the test ends. Its admin API listens on a socket of its own.
type running struct{ dir string }

func startRunning(t *testing.T) *running {
	t.Helper()
	before := goleak.IgnoreCurrent()
	r := &running{dir: t.TempDir()}
	t.Cleanup(func() {
		// A configuration without admin API ends the one before.
		if err := caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}},"logging":{"logs":{"default":{"writer":{"output":"discard"}}}}}`), true); err != nil {
			t.Error(err)
		}
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
		if references := wechat.SharedReferences(); references != 0 {
			t.Errorf("%d references to the shared state are left", references)
		}
		// File system storage lets a goroutine sleep on for each lock it had.
		noneLeft(t, before, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
			goleak.IgnoreAnyFunction("github.com/DeRuina/timberjack.(*Logger).millRun"))
	})
	return r
}

func (r *running) logs() string { return filepath.Join(r.dir, "log") }

// load runs an adapted configuration. All is logged to r.logs. The last
// argument is put among the settings of the admin API.
func (r *running) load(t *testing.T, adapted []byte, admin string) error {
	t.Helper()
	var config map[string]json.RawMessage
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	if config["logging"] == nil {
		config["logging"] = json.RawMessage(fmt.Sprintf(`{"logs": {"default": {"level": "DEBUG", "writer": {"output": "file", "roll": false, "filename": %q}}}}`, r.logs()))
	}
	config["admin"] = json.RawMessage(fmt.Sprintf(`{"listen": "unix/%s", "config": {"persist": false%s}}`, filepath.Join(r.dir, "admin"), admin))
	config["storage"] = json.RawMessage(fmt.Sprintf(`{"module": "file_system", "root": %q}`, filepath.Join(r.dir, "storage")))
	whole, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return caddy.Load(whole, true)
}

// get asks the admin API.
func (r *running) get(t *testing.T, path string) string {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.dir, "admin"))
	}}
	response, err := (&http.Client{Transport: transport}).Get("http://127.0.0.1" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: HTTP %d, %v", path, response.StatusCode, err)
	}
	return string(body)
}

// offline is goodCaddyfile with an API that nothing listens at.
var offline = strings.Replace(goodCaddyfile, "seal_key", "api http://127.0.0.1:1\n seal_key", 1)

func TestNoDumpTellsASecret(t *testing.T) {
	secrets := goodSecrets(t)
	r := startRunning(t)
	if err := r.load(t, mustAdaptText(t, offline), ""); err != nil {
		t.Fatal(err)
	}
	app, err := caddy.ActiveContext().App("wechat")
	if err != nil {
		t.Fatal(err)
	}
	marshalled, err := json.Marshal(app)
	if err != nil {
		t.Fatal(err)
	}
	for place, dump := range map[string]string{"the app as JSON": string(marshalled), "/config/": r.get(t, "/config/")} {
		if strings.Count(dump, "{env.TEST_") != len(secrets) {
			t.Errorf("%s does not show every placeholder: %s", place, dump)
		}
		wantNone(t, dump, secrets)
	}
	if err := caddy.Stop(); err != nil { // waits for all that still changes what the App holds: a dump takes no locks
		t.Fatal(err)
	}
	wantNone(t, fmt.Sprintf("%+v %#v %s", app, app, app), secrets)
	logged, err := os.ReadFile(r.logs())
	if err != nil {
		t.Fatal(err)
	}
	wantNone(t, string(logged), secrets)
}

func TestConfigurationThatFailsLeavesTheOldOneInForce(t *testing.T) {
	goodSecrets(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r := startRunning(t)
	if err := r.load(t, mustAdaptText(t, offline), ""); err != nil {
		t.Fatal(err)
	}
	before, _ := caddy.ActiveContext().App("wechat")
	for name, fail := range map[string]func() error{
		"a secret that is missing": func() error {
			return r.load(t, mustAdaptText(t, strings.Replace(offline, "{env.TEST_TOKEN}", "{env.TEST_MISSING}", 1)), "")
		},
		"a module that fails after the app was provisioned": func() error {
			return r.load(t, mustAdaptText(t, strings.Replace(offline, "wechat_proxy", "wechat_proxy {\n transport http {\n tls_trusted_ca_certs /nowhere/ca.pem\n }\n }", 1)), "")
		},
		"an HTTP server that cannot start": func() error {
			site := "bind 127.0.0.1\n wechat_proxy"
			text := strings.Replace(offline, "127.0.0.1:0", taken.Addr().String(), 1)
			return r.load(t, mustAdaptText(t, strings.Replace(text, "wechat_proxy", site, 1)), "")
		},
		"a failure after every app has started": func() error {
			return r.load(t, mustAdaptText(t, offline), `, "load": {"module": "nonexistent"}, "load_delay": "1h"`)
		},
	} {
		for range 3 { // apps start in the order of a map
			if err := fail(); err == nil {
				t.Fatalf("%s: it was loaded", name)
			}
			if references := wechat.SharedReferences(); references != 1 {
				t.Errorf("%s: %d references to the shared state, want that of the old configuration alone", name, references)
			}
			if !wechat.InForce(before.(*wechat.App)) {
				t.Errorf("%s: the old configuration is not in force", name)
			}
		}
	}
}

func TestFirstConfigurationThatFailsLeavesNothing(t *testing.T) {
	goodSecrets(t)
	r := startRunning(t)
	err := r.load(t, mustAdaptText(t, offline), `, "load": {"module": "nonexistent"}, "load_delay": "1h"`)
	if err == nil {
		t.Fatal("it was loaded")
	}
	if references := wechat.SharedReferences(); references != 0 {
		t.Errorf("%d references to the shared state are left", references)
	}
}

func TestReloadHandsTheSharedStateOver(t *testing.T) {
	goodSecrets(t)
	r := startRunning(t)
	for range 3 {
		if err := r.load(t, mustAdaptText(t, strings.Replace(offline, "seal_key", "cache_size 10\n seal_key", 1)), ""); err != nil {
			t.Fatal(err)
		}
		if err := r.load(t, mustAdaptText(t, offline), ""); err != nil {
			t.Fatal(err)
		}
		app, _ := caddy.ActiveContext().App("wechat")
		if references := wechat.SharedReferences(); references != 1 || !wechat.InForce(app.(*wechat.App)) {
			t.Errorf("%d references to the shared state; the new configuration in force: %t", references, wechat.InForce(app.(*wechat.App)))
		}
	}
	if err := r.load(t, []byte(`{"apps":{}}`), ""); err != nil {
		t.Fatal(err)
	}
	if references := wechat.SharedReferences(); references != 0 {
		t.Errorf("%d references to the shared state after the app was removed", references)
	}
}

// The example promises that no credential gets into a log: not from the
// address, the page before it or a header, not into the access log of a site
// nor, of a request that fails, into the error log.
func TestExampleKeepsCredentialsOutOfLogs(t *testing.T) {
	r := startRunning(t)
	address := freeAddress(t)
	text := strings.NewReplacer(
		":8080 {", "http://"+address+" {",
		"open.example.com {", "http://"+freeAddress(t)+" {",
		"\twechat_proxy {", "\trewrite /old /new?{query}\n\terror /fails 503\n\tredir /moves /moved?{query}\n\twechat_proxy {",
		"\tlog default {\n", "\tlog default {\n\t\tlevel DEBUG\n\t\toutput file "+r.logs()+" {\n\t\t\troll_disabled\n\t\t}\n",
		"\tlog {\n", "\tlog {\n\t\toutput file "+r.logs()+".access {\n\t\t\troll_disabled\n\t\t}\n",
		"\tapi https://api.weixin.qq.com https://api2.weixin.qq.com", "\tapi http://127.0.0.1:1",
	).Replace(exampleCaddyfile(t))
	if err := r.load(t, mustAdaptText(t, text), ""); err != nil {
		t.Fatal(err)
	}
	query := url.Values{}
	for _, name := range []string{
		"access_token", "component_access_token", "authorizer_access_token", "refresh_token", "authorizer_refresh_token",
		"secret", "appsecret", "component_appsecret", "auth_code", "authorization_code", "pre_auth_code", "code", "js_code",
		"session_key", "ticket", "state",
	} {
		query.Set(name, hushed["short"])
	}
	for _, path := range []string{"/cgi-bin/user/info", "/fails", "/moves", "/old"} {
		request, err := http.NewRequest(http.MethodGet, "http://"+address+path+"?appid=wxaaaaaaaaaaaaaaaa&"+query.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Referer", "https://open.example.com/wechat/authorize/callback?"+query.Encode())
		request.Header.Set("Authorization", "Bearer "+hushed["short"])
		request.Header.Set("Cookie", "wechat_authorize="+hushed["short"])
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	for _, file := range []string{r.logs(), r.logs() + ".access"} {
		logged, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(logged), "appid=wxaaaaaaaaaaaaaaaa") {
			t.Errorf("%s does not show the requests at all: %s", filepath.Base(file), logged)
		}
		for line := range strings.Lines(string(logged)) {
			if strings.Contains(line, hushed["short"]) {
				t.Errorf("%s tells a credential: %s", filepath.Base(file), line)
			}
		}
	}
}

// freeAddress returns an address of this machine where nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
