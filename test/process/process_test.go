// SPDX-License-Identifier: Apache-2.0

// Package process_test runs the program as its users do: as a process with a
// command line, a Caddyfile and a folder on disk, which may die at any moment.
package process_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/caddy-wechat/caddy-wechat" // run again when it changes
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	officialAccount = "wxaaaaaaaaaaaaaaaa"
	clientSecret    = "shop-secret-0123456789abcdef0123456789"
	sendPath        = "/cgi-bin/message/custom/send"
	message         = `{"touser":"o123","msgtype":"text","text":{"content":"你好 🎉"}}`
)

// binary is the program, built from this tree.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "caddy-wechat-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binary = filepath.Join(folder, "caddy")
	build := exec.Command("go", "build", "-tags", "nobadger,nomysql,nopgx", "-o", binary, "./cmd/caddy")
	build.Dir = filepath.Join("..", "..")
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, output)
		return 1
	}
	return m.Run()
}

// process is the program at work.
type process struct {
	*exec.Cmd
	t      *testing.T
	output *output
	ended  chan struct{}
}

// launch runs the program until the test ends.
func launch(t *testing.T, arguments ...string) *process {
	t.Helper()
	home := t.TempDir()
	p := &process{Cmd: exec.Command(binary, arguments...), t: t, output: new(output), ended: make(chan struct{})}
	p.Stdout, p.Stderr = p.output, p.output
	p.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s printed\n%s", p, p.output)
		}
	})
	return p
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	_ = p.Process.Kill()
	<-p.ended
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.t.Fatalf("%s still runs", p)
	}
	return p.ProcessState.ExitCode()
}

// until asks again and again until the answer is yes.
func (p *process) until(what string, yes func() bool) {
	p.t.Helper()
	for range 300 {
		if yes() {
			return
		}
		select {
		case <-p.ended:
			p.t.Fatalf("%s ended before %s", p, what)
		case <-time.After(100 * time.Millisecond):
		}
	}
	p.t.Fatalf("%s: not %s", p, what)
}

// output collects what a process prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// freeAddress returns an address nobody listens on at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// node is what the Caddyfile of one gateway says.
type node struct {
	admin                   string // address of the admin API, or off
	storage                 string // folder
	weChat, platform, proxy string // addresses
	clients                 string // blocks
}

// shop is a client with every account.
const shop = "client shop {\nsecret " + clientSecret + "\nauthorizers *\n}"

// caddyfile writes a Caddyfile for a gateway before a sandbox with its default
// credentials.
func caddyfile(t *testing.T, weChat, platform, proxy string) (path string) {
	t.Helper()
	folder := t.TempDir()
	path = filepath.Join(folder, "Caddyfile")
	node{"off", filepath.Join(folder, "storage"), weChat, platform, proxy, shop}.write(t, path)
	return path
}

func (n node) write(t *testing.T, path string) {
	t.Helper()
	text := fmt.Sprintf(`{
	admin %s
	auto_https off
	storage file_system %q
	wechat {
		component %s {
			app_secret       %s
			token            %s
			encoding_aes_key %s
		}
		%s
		api   %[8]s
		pages %[8]s
	}
}
http://%[9]s {
	wechat_platform
}
http://%[10]s {
	wechat_proxy
}
`, n.admin, n.storage, sandbox.DefaultComponent, sandbox.DefaultAppSecret, sandbox.DefaultToken,
		sandbox.DefaultEncodingAESKey, n.clients, n.weChat, n.platform, n.proxy)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// gateway runs the program with a Caddyfile until it serves.
func gateway(t *testing.T, caddyfile, platform, proxy string) *process {
	t.Helper()
	p := launch(t, "run", "--config", caddyfile)
	for _, address := range []string{platform, proxy} {
		p.until("serving "+address, func() bool {
			connection, err := net.Dial("tcp", address)
			if err != nil {
				return false
			}
			connection.Close()
			return true
		})
	}
	return p
}

// call makes an HTTP request, a POST if there is content, and returns the body.
func call(t *testing.T, url, content string) string {
	t.Helper()
	method := http.MethodGet
	if content != "" {
		method = http.MethodPost
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// token fetches a gateway token for the official account.
func token(t *testing.T, proxy string) string {
	t.Helper()
	answer := call(t, "http://"+proxy+"/cgi-bin/token?grant_type=client_credential&appid="+officialAccount+"&secret="+clientSecret, "")
	_, rest, _ := strings.Cut(answer, `"access_token":"`)
	token, _, found := strings.Cut(rest, `"`)
	if !found {
		t.Fatalf("no token in %s", answer)
	}
	return token
}

// send sends a customer message and fails the test if WeChat did not take it.
func send(t *testing.T, proxy, token string) {
	t.Helper()
	if answer := call(t, "http://"+proxy+sendPath+"?access_token="+token, message); !strings.Contains(answer, `"errcode":0`) {
		t.Fatalf("the message was answered %s", answer)
	}
}
