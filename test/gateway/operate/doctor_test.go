// SPDX-License-Identifier: Apache-2.0

package operate_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// diagnosed is what the doctor has found, by check.
type diagnosed struct {
	operate.Diagnosis
	found map[string]operate.Finding
}

// diagnose has the gateway examined, as caddy wechat doctor does. WeChat's pushes have
// stopped before, so that it pushes at once when it is asked. A storage that is slow is a
// busy machine's, and looked at again.
func (g operated) diagnose() (d diagnosed) {
	g.t.Helper()
	g.WeChat.StopTickets()
	g.eventually("the storage is fast enough", func() bool {
		d = g.examine()
		return !strings.Contains(d.found["storage"].Found, "it is slow")
	})
	return d
}

func (g operated) examine() diagnosed {
	g.t.Helper()
	_, config := g.Admin(http.MethodGet, "/config/")
	status, body := g.AdminBody(http.MethodPost, "/wechat/doctor", config)
	d := diagnosed{found: make(map[string]operate.Finding)}
	if err := json.Unmarshal(body, &d.Diagnosis); err != nil || status != http.StatusOK {
		g.t.Fatalf("%d %s: %v", status, body, err)
	}
	for _, f := range d.Items {
		if before, twice := d.found[f.Check]; !twice || before.OK {
			d.found[f.Check] = f
		}
	}
	return d
}

// wrong returns the checks that have found something.
func (d diagnosed) wrong() string {
	var checks []string
	for check, f := range d.found {
		if !f.OK {
			checks = append(checks, check)
		}
	}
	slices.Sort(checks)
	return strings.Join(checks, " ")
}

// want is how bad it should be, by which checks, and what one of them should say.
func (d diagnosed) want(t *testing.T, level int, checks, check, found, remedy string) {
	t.Helper()
	if got := d.wrong(); d.Level != level || got != checks {
		t.Errorf("level %d, found by %q, want %d and %q: %+v", d.Level, got, level, checks, d.Items)
	}
	if f := d.found[check]; !strings.Contains(f.Found, found) || !strings.Contains(f.Remedy, remedy) {
		t.Errorf("%s: %+v, want %q and %q", check, f, found, remedy)
	}
}

func TestTheDoctorFindsNothing(t *testing.T) {
	g := start(t, gwtest.Options{})
	d := g.diagnose()
	d.want(t, operate.LevelWell, "", "ticket", "one came when WeChat was asked", "")
	checks := make([]string, 0, len(d.Items))
	for _, f := range d.Items {
		checks = append(checks, f.Check)
	}
	if want := "clock dns app_secret ticket token aes_key white_list storage public_url logs"; strings.Join(checks, " ") != want {
		t.Errorf("checks are %q, want %q", checks, want)
	}
	if left, _ := filepath.Glob(filepath.Join(g.Storage, "wechat", "doctor", "*")); len(left) != 0 {
		t.Errorf("in the storage is left: %q", left)
	}
	const line = `"action":"doctor"`
	g.eventually("the audit has it", func() bool { return strings.Contains(g.Logs(), line) })
}

// Each of these is what an operator has to find out on the day it happens. Nothing else is
// found then but what follows from it.
func TestTheDoctorFindsWhatIsWrong(t *testing.T) {
	const broken, warnings = operate.LevelBroken, operate.LevelWarnings
	t.Run("wrong token", func(t *testing.T) {
		g := start(t, gwtest.Options{})
		_, _, key := g.WeChat.Keys()
		if err := g.WeChat.RotatePushKeys("", key); err != nil {
			t.Fatal(err)
		}
		d := g.diagnose()
		d.want(t, broken, "token", "token", "the signature of a push does not match", "消息校验Token")
		d.want(t, broken, "token", "ticket", "another one, for which WeChat was asked, was refused", "")
	})
	t.Run("wrong key", func(t *testing.T) {
		g := start(t, gwtest.Options{})
		_, token, _ := g.WeChat.Keys()
		if err := g.WeChat.RotatePushKeys(token, ""); err != nil {
			t.Fatal(err)
		}
		g.diagnose().want(t, broken, "aes_key", "aes_key", "a push with the right signature was refused", "消息加解密Key")
	})
	t.Run("clock off by 15 minutes", func(t *testing.T) {
		var off atomic.Int64
		g := start(t, gwtest.Options{Sandbox: sandbox.Config{Now: func() time.Time { return time.Now().Add(time.Duration(off.Load())) }}})
		off.Store(int64(15 * time.Minute))
		g.diagnose().want(t, broken, "clock", "clock", "behind WeChat's: pushes are refused", "NTP")
		off.Store(int64(-15 * time.Minute))
		g.diagnose().want(t, broken, "clock", "clock", "ahead of WeChat's: pushes are refused", "NTP")
	})
	t.Run("white list", func(t *testing.T) {
		g := start(t, gwtest.Options{})
		g.WeChat.SetAllowIPs("203.0.113.7")
		g.diagnose().want(t, broken, "white_list", "white_list", "127.0.0.1", "白名单IP地址列表")
	})
	t.Run("wrong app secret", func(t *testing.T) {
		g := start(t, gwtest.Options{})
		g.WeChat.RotateAppSecret("")
		g.diagnose().want(t, broken, "app_secret", "app_secret", "errcode 40125", "app_secret")
	})
	t.Run("storage read-only", func(t *testing.T) {
		g := start(t, gwtest.Options{})
		defer g.ReadOnlyStorage()()
		d := g.diagnose()
		d.want(t, broken, "app_secret storage", "storage", "permission denied", "Caddy's storage")
		d.want(t, broken, "app_secret storage", "app_secret", "cannot tell", "other findings")
	})
	t.Run("no ticket", func(t *testing.T) {
		// WeChat does not push because it is too busy to be asked: so nobody waits for it.
		g := start(t, gwtest.Options{Quiet: true, Upstream: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			errcode := 41001
			if strings.HasSuffix(r.URL.Path, "api_start_push_ticket") {
				errcode = -1
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"errcode":%d,"errmsg":"no"}`, errcode)
		})})
		d := g.diagnose()
		d.want(t, broken, "app_secret ticket", "ticket", "none has ever come", "app_secret")
		d.want(t, broken, "app_secret ticket", "white_list", "without a ticket", "")
	})
	t.Run("public_url missing behind a proxy", func(t *testing.T) {
		g := start(t, gwtest.Options{})
		launch := func() {
			request, err := http.NewRequest(http.MethodGet, g.Platform+"/wechat/authorize", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("X-Forwarded-Proto", "https")
			response, err := http.DefaultClient.Do(request)
			if err != nil || response.StatusCode != http.StatusOK {
				t.Fatal(err, response.StatusCode)
			}
			response.Body.Close()
		}
		launch()
		g.diagnose().want(t, warnings, "public_url", "public_url", "another scheme", "public_url")
		g.Change(func(o *gwtest.Options) { o.Platform = "public_url https://gw.test" })
		launch()
		g.diagnose().want(t, operate.LevelWell, "", "public_url", "no request", "")
	})
	t.Run("an API host that leads back here", func(t *testing.T) {
		g := start(t, gwtest.Options{})
		g.Change(func(o *gwtest.Options) { o.API = []string{g.Proxy, g.API} })
		d := g.diagnose()
		d.want(t, broken, "app_secret dns white_list", "dns", strings.TrimPrefix(g.Proxy, "http://")+" is answered by a gateway", "api2.weixin.qq.com")
		d.want(t, broken, "app_secret dns white_list", "clock", "WeChat's", "")
	})
	t.Run("a bare log", func(t *testing.T) {
		g := start(t, gwtest.Options{Sites: "http://localhost:18083 {\nlog bare {\noutput file " + filepath.Join(t.TempDir(), "log") + "\n}\nwechat_proxy\n}"})
		g.diagnose().want(t, warnings, "logs", "logs", `the log "bare"`, "format wechat")
	})
}

// The configuration that is sent may have secrets in it, which somebody has written there.
// The search at the end of each test looks for the others; this one is in no storage.
func TestTheDoctorRepeatsNothingOfTheConfiguration(t *testing.T) {
	const hidden = "hidden-0123456789abcdef0123456789abcdef"
	g := start(t, gwtest.Options{Secrets: []string{hidden}})
	g.WeChat.StopTickets()
	for _, config := range []string{
		`{"apps":{"wechat":{"components":{"a":{"app_secret":"` + hidden + `"}}},"http":{"servers":{"` + hidden + `":{"routes":[{"handle":[{"handler":"wechat_proxy"}]}],"logs":{"default_logger_name":"` + hidden + `"}}}}}}`,
		`{"apps":"` + hidden + `"}`,
		`{"logging":{"logs":{"default":{"encoder":"` + hidden + `"}}}}`,
		hidden,
	} {
		if _, body := g.AdminBody(http.MethodPost, "/wechat/doctor", []byte(config)); strings.Contains(string(body), hidden) {
			t.Errorf("%s is answered %s", config, body)
		}
	}
	if logged, err := os.ReadFile(g.Log); err != nil || strings.Contains(string(logged), hidden) {
		t.Errorf("the log has it, or is not there: %v", err)
	}
}
