// SPDX-License-Identifier: Apache-2.0

package sdk_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/test/need"
)

// nodeDrivers are the SDKs in JavaScript, each as unmodified as npm installs it.
func nodeDrivers() []driver {
	return []driver{
		nodeDriver("co-wechat-api 3.11.0, official account", gwtest.OfficialAccount, plain),
		nodeDriver("wechat-api 1.35.1, official account", gwtest.OfficialAccount, byClock),
		nodeDriver("node-easywechat 3.6.2, official account", gwtest.OfficialAccount, byClockWithLogin),
		nodeDriver("node-easywechat 3.6.2, mini program", gwtest.MiniProgram, byClockWithLogin),
		nodePlatform("node-easywechat 3.6.2, open platform, official account", gwtest.OfficialAccount, byClockWithLogin),
		nodePlatform("node-easywechat 3.6.2, open platform, mini program", gwtest.MiniProgram, byClockWithLogin),
		nodePlatform("co-wxapp-open-api 1.1.50, mini program", gwtest.MiniProgram, byClockWithLogin),
		nodeDriver("nest-wechat 0.2.50, official account", gwtest.OfficialAccount, byClockForTickets),
		nodeDriver("nest-wechat 0.2.50, mini program", gwtest.MiniProgram, byClockWithoutFiles),
		nodePlatform("nest-wechat 0.2.50, open platform", gwtest.OfficialAccount, byClockCallsOnly),
		nodeDriver("wechat-jssdk 5.1.0, official account", gwtest.OfficialAccount, byClockForTicketsOnly),
		nodeDriver("wechat-jssdk 5.1.0, mini program", gwtest.MiniProgram, loginOnly),
		nodeDriver("wechat-oauth 1.5.0, official account", gwtest.OfficialAccount, loginOnly),
		nodeDriver("wechat-oauth 1.5.0, mini program", gwtest.MiniProgram, loginOnly),
	}
}

// nodeDriver makes a driver of a face that node/<sdk>.js knows by its name.
func nodeDriver(name, account string, as func(*node) session) driver {
	return driver{name, account, func(t *testing.T, at target) session { return as(startNode(t, name, at, nil)) }}
}

// nodePlatform makes a driver of a third-party platform. Before it acts for
// its account it makes every call that only platforms make.
func nodePlatform(name, account string, as func(*node) session) driver {
	return driver{name, account, func(t *testing.T, at target) session {
		t.Helper()
		code, err := at.gateway.WeChat.Authorize(t.Context(), at.appid)
		if err != nil {
			t.Fatal(err)
		}
		n := startNode(t, name, at, fields{"component": at.gateway.WeChat.Component(), "code": code})
		var answers string
		if err := n.do("component", nil, &answers); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		at.gateway.SearchCredentials("what the platform was answered", []byte(answers))
		return as(n)
	}}
}

func plain(n *node) session            { return n }
func byClock(n *node) session          { return clockSession{n} }
func byClockWithLogin(n *node) session { return loginSession{clockSession{n}} }

// What of it the SDK has no functions for is left out of these.
func byClockForTickets(n *node) session {
	all := loginSession{clockSession{n}}
	return struct {
		caller
		ownClock
		ticketer
		sender
		loginer
	}{all, all, ticketSession{}, all, all}
}

func byClockForTicketsOnly(n *node) session {
	all := loginSession{clockSession{n}}
	return struct {
		caller
		ownClock
		ticketer
		loginer
	}{all, all, ticketSession{}, all}
}

func byClockWithoutFiles(n *node) session {
	all := loginSession{clockSession{n}}
	return struct {
		caller
		ownClock
		sender
		loginer
	}{all, all, all, all}
}

func byClockCallsOnly(n *node) session {
	return struct {
		caller
		ownClock
	}{n, clockSession{n}}
}

func loginOnly(n *node) session {
	return struct{ loginer }{loginSession{clockSession{n}}}
}

// nodeLimit is how long a step may take before the SDK is taken to hang.
const nodeLimit = time.Minute

// node is an SDK in a process of its own, which node/driver.js runs and which
// ends with the test. Credentials go through its standard input: arguments and
// environment are for others to read.
type node struct {
	folder  string
	asking  *json.Encoder
	answers *json.Decoder
	kill    func()
}

type fields map[string]any

func startNode(t *testing.T, name string, at target, more fields) *node {
	t.Helper()
	sdk, face, _ := strings.Cut(name, ", ")
	sdk, version, _ := strings.Cut(sdk, " ")
	program := need.Command(t, "install Node.js 18 or newer (apt-get install nodejs npm)", "node")
	need.File(t, "run npm ci --ignore-scripts in test/sdk/node", "node/node_modules/"+sdk)

	command := exec.Command(program, "--no-deprecation", "node/driver.js", sdk, face)
	command.Env = append(os.Environ(), "no_proxy=127.0.0.1") // axios would send even this through a proxy
	command.Stderr = t.Output()
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	n := &node{t.TempDir(), json.NewEncoder(stdin), json.NewDecoder(stdout), func() { _ = command.Process.Kill() }}
	t.Cleanup(func() {
		defer time.AfterFunc(nodeLimit, n.kill).Stop()
		stdin.Close()
		if err := command.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})

	var installed string
	told := fields{"url": at.url, "secret": at.secret, "appid": at.appid, "folder": n.folder}
	maps.Copy(told, more)
	if err := n.do("start", told, &installed); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	if installed != version {
		t.Fatalf("%s %s is installed and %s is wanted: run npm ci --ignore-scripts in test/sdk/node", sdk, installed, version)
	}
	return n
}

// do lets the SDK take a step. If value is not nil, it is what the step returns.
func (n *node) do(step string, given fields, value any) error {
	defer time.AfterFunc(nodeLimit, n.kill).Stop()
	line := fields{"step": step}
	maps.Copy(line, given)
	if err := n.asking.Encode(line); err != nil {
		return fmt.Errorf("node has ended before %q: %w", step, err)
	}
	var answer struct {
		Value json.RawMessage
		Error *string
	}
	if err := n.answers.Decode(&answer); err != nil {
		return fmt.Errorf("node has ended at %q: %w", step, err)
	}
	if answer.Error != nil {
		return errors.New(*answer.Error)
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(answer.Value, value)
}

func (n *node) token() (token string, err error) {
	err = n.do("token", nil, &token)
	return token, err
}

func (n *node) get() (answer string, err error) {
	err = n.do("get", nil, &answer)
	return answer, err
}

func (n *node) send(text string) error { return n.do("send", fields{"text": text}, nil) }

// upload gives the SDK a file, which is what all of them take.
func (n *node) upload(name string, content []byte) (id string, err error) {
	path := filepath.Join(n.folder, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return "", err
	}
	err = n.do("upload", fields{"path": path}, &id)
	return id, err
}

func (n *node) download(id string) (content []byte, err error) {
	err = n.do("download", fields{"id": id}, &content)
	return content, err
}

func (n *node) denied() error { return n.do("denied", nil, nil) }

func (n *node) hold(token string) error { return n.do("hold", fields{"token": token}, nil) }

// clockSession is an SDK that renews by its own clock only: an errcode that
// says "expired" goes to its user.
type clockSession struct{ *node }

// later lets time pass for the SDK, for nobody else.
func (s clockSession) later(d time.Duration) {
	_ = s.do("later", fields{"seconds": d.Seconds()}, nil) // a node that has ended fails at the next step too
}

// loginSession is such an SDK that can also log a user in.
type loginSession struct{ clockSession }

func (s loginSession) login(code string) (openid string, err error) {
	err = s.do("login", fields{"code": code}, &openid)
	return openid, err
}

// ticketSession marks an SDK whose GET asks for a ticket.
type ticketSession struct{}

func (ticketSession) asksForTicket() {}
