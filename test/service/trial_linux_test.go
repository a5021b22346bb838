// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

const (
	account     = "wxaaaaaaaaaaaaaaaa"
	credentials = "/etc/caddy/credentials"
	caddyfile   = "/etc/caddy/Caddyfile"
	sendPath    = "/cgi-bin/message/custom/send"

	// Where applications call.
	plain, secure = "http://127.0.0.1:8080", "https://localhost:8443"
)

// trialCaddyfile takes every secret out of the credentials of the service. WeChat's
// side is at a port below 1024, and applications come over HTTP and HTTPS: that needs
// DNS, sockets of TCP and UDP, and folders for certificates and logs. The admin API is
// where docs/deploying.md has it. Its first parameter is the base URL of the sandbox, the
// second a further site.
const trialCaddyfile = `{
	admin unix//run/caddy/admin.sock
	grace_period 40s
	auto_https disable_redirects
	skip_install_trust
	wechat {
		component ` + sandbox.DefaultComponent + ` {
			app_secret       {file.{$CREDENTIALS_DIRECTORY}/wechat_app_secret}
			token            {file.{$CREDENTIALS_DIRECTORY}/wechat_token}
			encoding_aes_key {file.{$CREDENTIALS_DIRECTORY}/wechat_aes_key}
		}
		client shop {
			secret      {file.{$CREDENTIALS_DIRECTORY}/wechat_shop_secret}
			authorizers *
		}
		api   %[1]s
		pages %[1]s
	}
}
http://127.0.0.1:80 {
	wechat_platform
}
http://127.0.0.1:8080 {
	log {
		output file /var/log/caddy/access.log {
			roll_size 1MiB
		}
		format wechat
	}
	wechat_proxy
}
https://localhost:8443 {
	tls internal
	wechat_proxy
}
%[2]s
`

// weChat is the sandbox. It keeps one message waiting if it is told to.
type weChat struct {
	*sandbox.Sandbox
	hold            atomic.Bool
	arrived, answer chan struct{} // closed when that message has come, and to let it go
}

func (w *weChat) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == sendPath && w.hold.CompareAndSwap(true, false) {
		close(w.arrived)
		<-w.answer
	}
	w.Sandbox.ServeHTTP(rw, r)
}

// trial is what an operator does with the service.
func trial(t *testing.T) {
	api := &weChat{arrived: make(chan struct{}), answer: make(chan struct{})}
	var err error
	if api.Sandbox, err = sandbox.New(sandbox.Config{EventsURL: "http://127.0.0.1:80/wechat/events"}); err != nil {
		t.Fatal(err)
	}
	if err := api.AddAccount(sandbox.Account{AppID: account}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(api)
	defer server.Close()
	url := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	install(t, url)

	do(t, "systemctl", "start", "caddy-wechat")
	if err := api.PushTicket(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, do(t, "journalctl", "--no-pager", "-u", "caddy-wechat"))
	}
	if _, err := api.Authorize(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	wantSent(t, plain, caddy.ClientSecret)
	wantSent(t, secure, caddy.ClientSecret)
	do(t, "caddy", "wechat", "health", "--config", caddyfile)
	wantRestricted(t, show(t, "MainPID"))
	reloaded(t, url)
	next := newSecret(t)
	stopped(t, api, next)
	journal := do(t, "journalctl", "--no-pager", "-u", "caddy-wechat")
	caddy.WantNoCredential(t, append(api.Credentials(), next, caddy.ClientSecret), "the journal", journal)
	rotated(t, journal)
}

// rotated finds the log file that was full when the service started put aside, without a
// complaint in the journal.
func rotated(t *testing.T, journal string) {
	t.Helper()
	if full, err := filepath.Glob("/var/log/caddy/access-*"); err != nil || len(full) == 0 {
		t.Errorf("no log file was rotated, %v", err)
	}
	for line := range strings.Lines(journal) {
		if strings.Contains(line, "timberjack") {
			t.Errorf("rotating log files: %s", line)
		}
	}
}

// stopped stops the service while a call is under way, which must be finished.
func stopped(t *testing.T, api *weChat, secret string) {
	t.Helper()
	api.hold.Store(true)
	sent := make(chan string, 1)
	go func() { sent <- send(plain, secret) }()
	select {
	case <-api.arrived:
	case answer := <-sent:
		t.Fatalf("a message that was to wait was answered %s", answer)
	}
	do(t, "systemctl", "stop", "--no-block", "caddy-wechat")
	if !until(func() bool { return show(t, "ActiveState") == "deactivating" }) {
		t.Errorf("the service is not stopping, but %s", show(t, "ActiveState"))
	}
	close(api.answer)
	if answer := <-sent; !strings.Contains(answer, `"errcode":0`) {
		t.Errorf("the call that was under way was answered %s", answer)
	}
	do(t, "systemctl", "stop", "caddy-wechat")
	if result := show(t, "Result"); result != "success" {
		t.Errorf("the service stopped with %s", result)
	}
}

// install does what docs/production.md tells.
func install(t *testing.T, api string) {
	t.Helper()
	if _, err := user.Lookup("caddy"); err != nil {
		do(t, "useradd", "--system", "--create-home", "--home-dir", "/var/lib/caddy", "--shell", "/usr/sbin/nologin", "caddy")
	}
	do(t, "install", "-d", "-m", "0700", credentials)
	for name, secret := range map[string]string{
		"app_secret": sandbox.DefaultAppSecret, "token": sandbox.DefaultToken,
		"aes_key": sandbox.DefaultEncodingAESKey, "shop_secret": caddy.ClientSecret,
	} {
		write(t, filepath.Join(credentials, name), secret+"\n", 0o600)
	}
	write(t, caddyfile, fmt.Sprintf(trialCaddyfile, api, ""), 0o644)
	do(t, "install", "-d", "-o", "caddy", "-m", "0750", "/var/log/caddy")
	write(t, "/var/log/caddy/access.log", strings.Repeat("x", 1<<20), 0o600)
	do(t, "chown", "caddy:", "/var/log/caddy/access.log")
	do(t, "systemd-run", "--quiet", "--pipe", "--wait", "--property=LoadCredential=wechat:"+credentials, "caddy", "validate", "--config", caddyfile)
	do(t, "systemctl", "daemon-reload")
}

// wantRestricted reads in /proc what systemd has set for a process.
func wantRestricted(t *testing.T, pid string) {
	t.Helper()
	proc := func(name string) string {
		content, err := os.ReadFile(filepath.Join("/proc", pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	status := proc("status")
	for _, line := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000400", "CapBnd:\t0000000000000400"} { // 1<<10: CAP_NET_BIND_SERVICE
		if !strings.Contains(status, line+"\n") {
			t.Errorf("no %q in the status of the process:\n%s", line, status)
		}
	}
	if limits := strings.Join(strings.Fields(proc("limits")), " "); !strings.Contains(limits, "Max core file size 0 0") {
		t.Errorf("it may leave a core file: %s", limits)
	}
	if mounts := proc("mountinfo"); !strings.Contains(mounts, " / / ro,") {
		t.Errorf("it may write everywhere:\n%s", mounts)
	}
	caddy.WantNoCredential(t, []string{sandbox.DefaultAppSecret, sandbox.DefaultToken, sandbox.DefaultEncodingAESKey, caddy.ClientSecret}, "its environment", proc("environ"))
	const secret = "/run/credentials/" + unitName + "/wechat_app_secret"
	if _, err := os.Stat(secret); err != nil {
		t.Error(err)
	}
	if stranger := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", secret); stranger.Run() == nil {
		t.Error("any user may read the app secret")
	}
}

// reloaded puts another Caddyfile in force, and then a wrong one, which must fail and
// change nothing.
func reloaded(t *testing.T, api string) {
	t.Helper()
	pid := show(t, "MainPID")
	write(t, caddyfile, fmt.Sprintf(trialCaddyfile, api, "http://127.0.0.1:8090 {\nrespond reloaded\n}"), 0o644)
	do(t, "systemctl", "reload", "caddy-wechat")
	if got := get("http://127.0.0.1:8090/"); got != "reloaded" {
		t.Errorf("after a reload the new site answers %q", got)
	}
	write(t, caddyfile, fmt.Sprintf(trialCaddyfile, api, "http://127.0.0.1:8090 {\nno_such_directive\n}"), 0o644)
	if err := exec.Command("systemctl", "reload", "caddy-wechat").Run(); err == nil {
		t.Error("a wrong Caddyfile was loaded")
	}
	wantSent(t, plain, caddy.ClientSecret)
	write(t, caddyfile, fmt.Sprintf(trialCaddyfile, api, ""), 0o644)
	if now := show(t, "MainPID"); now != pid {
		t.Errorf("the process was %s and is %s", pid, now)
	}
}

// newSecret replaces a credential. systemd reads credentials when the service starts:
// after a reload the old one is in force. What is stored survives the restart.
func newSecret(t *testing.T) string {
	t.Helper()
	const next = "shop-secret-of-tomorrow-0123456789abcdef"
	write(t, filepath.Join(credentials, "shop_secret"), next+"\n", 0o600)
	do(t, "systemctl", "reload", "caddy-wechat")
	wantSent(t, plain, caddy.ClientSecret)
	do(t, "systemctl", "restart", "caddy-wechat")
	wantSent(t, plain, next)
	if answer := send(plain, caddy.ClientSecret); !strings.Contains(answer, `"errcode":40`) {
		t.Errorf("with the secret of yesterday a call is answered %s", answer)
	}
	return next
}

// wantSent sends a customer message, again until the account's authorisation is known,
// and Caddy has made its certificate.
func wantSent(t *testing.T, gateway, secret string) {
	t.Helper()
	var answer string
	if !until(func() bool { answer = send(gateway, secret); return strings.Contains(answer, `"errcode":0`) }) {
		t.Fatalf("a message was answered %s", answer)
	}
}

// client takes the certificate that Caddy makes for itself.
var client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// send sends one as an application does.
func send(gateway, secret string) string {
	body := strings.NewReader(`{"touser":"o123","msgtype":"text","text":{"content":"你好"}}`)
	r, err := http.NewRequest(http.MethodPost, gateway+sendPath, body)
	if err != nil {
		return err.Error()
	}
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Wechat-Appid", account)
	return answer(client.Do(r))
}

func get(url string) string { return answer(client.Get(url)) }

// answer returns the body, or the error.
func answer(response *http.Response, err error) string {
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// do runs a command and returns what it prints.
func do(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	output, err := exec.Command(name, arguments...).CombinedOutput()
	if err != nil {
		journal, _ := exec.Command("journalctl", "--no-pager", "-n", "50").Output()
		t.Fatalf("%s %q: %v\n%s\n%s", name, arguments, err, output, journal)
	}
	return string(output)
}

// show returns a property of the service.
func show(t *testing.T, property string) string {
	t.Helper()
	return strings.TrimSpace(do(t, "systemctl", "show", "--value", "-p", property, "caddy-wechat"))
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// until asks again for a minute, until the answer is yes, and reports whether it was.
func until(yes func() bool) bool {
	for range 1200 {
		if yes() {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}
