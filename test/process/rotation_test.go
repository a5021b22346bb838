// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

const (
	oldSealKey = "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w="
	newSealKey = "bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU="

	userPath = "/cgi-bin/user/get"

	// It has authorised, and nobody calls for it.
	idleAccount = "wxdddddddddddddddd"
)

// cluster is two nodes with one storage, behind something that gives every
// call to the next of them.
type cluster struct {
	*testing.T
	weChat *sandbox.Sandbox
	nodes  [2]caddy.Node
	files  [2]string // their Caddyfiles
	proc   [2]*caddy.Process
	loaded bool // applications call
	calls  atomic.Int64
	fault  chan string
}

func startCluster(t *testing.T, wechatLines string) *cluster {
	c := &cluster{T: t, fault: make(chan string, 100)}
	var err error
	if c.weChat, err = sandbox.New(sandbox.Config{}); err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(c.weChat)
	t.Cleanup(api.Close)
	storage := inFolder(t.TempDir())
	for i := range c.nodes {
		c.files[i] = filepath.Join(t.TempDir(), "Caddyfile")
		c.nodes[i] = caddy.Node{
			Admin: "unix/" + filepath.Join(t.TempDir(), "admin"), Storage: storage, WeChat: api.URL,
			Platform: caddy.FreeAddress(t), Proxy: caddy.FreeAddress(t), Clients: caddy.Shop, Wechat: wechatLines,
		}
		c.proc[i] = c.nodes[i].Run(t, c.files[i])
		c.proc[i].Serves(c.nodes[i].Platform, c.nodes[i].Proxy)
	}
	c.weChat.SetURLs("http://"+c.nodes[0].Platform+"/wechat/events", "")
	for _, appid := range []string{officialAccount, idleAccount} {
		if err := c.weChat.AddAccount(sandbox.Account{AppID: appid}); err != nil {
			t.Fatal(err)
		}
	}
	authorize(t, c.weChat)
	if _, err := c.weChat.Authorize(t.Context(), idleAccount); err != nil {
		t.Fatal(err)
	}
	for i := range c.nodes {
		send(t, c.nodes[i].Proxy, token(t, c.nodes[i].Proxy))
	}
	c.proc[0].Until("the idle account's code is exchanged", func() bool {
		return c.weChat.ValidToken(sandbox.KindRefresh, idleAccount) != ""
	})
	return c
}

// give puts the values of an option into files, names these in the Caddyfile,
// and reloads, one node after the other.
func (c *cluster) give(option string, values ...string) {
	c.Helper()
	for i, file := range c.files {
		line := option
		for n, value := range values {
			path := fmt.Sprintf("%s.%s.%d", file, option, n+1)
			if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
				c.Fatal(err)
			}
			line += " {file." + path + "}"
		}
		text, err := os.ReadFile(file)
		if err != nil {
			c.Fatal(err)
		}
		text = regexp.MustCompile(`(?m)^\s*`+option+`\s.*$`).ReplaceAll(text, []byte(line))
		if err := os.WriteFile(file, text, 0o600); err != nil {
			c.Fatal(err)
		}
		c.run("reload", "--config", file, "--address", c.nodes[i].Admin, "--force")
		if c.loaded {
			c.served()
			c.newcomer()
		}
	}
}

// newcomer lets an account authorise at one node and be called for at both.
func (c *cluster) newcomer() {
	c.Helper()
	appid := fmt.Sprintf("wx%016x", len(c.weChat.Accounts()))
	if err := c.weChat.AddAccount(sandbox.Account{AppID: appid}); err != nil {
		c.Fatal(err)
	}
	if _, err := c.weChat.Authorize(c.Context(), appid); err != nil {
		c.Fatal(err)
	}
	for i, n := range c.nodes {
		header := http.Header{"Authorization": {"Bearer " + caddy.ClientSecret}, "Wechat-Appid": {appid}}
		if answer, err := get(http.DefaultClient, "http://"+n.Proxy+userPath, header); !strings.Contains(answer, `"total"`) {
			c.Errorf("node %d, for an account that has just authorised: %s %v", i, answer, err)
		}
	}
}

// run runs a command that must succeed, and returns what it prints.
func (c *cluster) run(arguments ...string) string {
	c.Helper()
	p := caddy.Launch(c.T, arguments...)
	if code := p.Wait(); code != 0 {
		c.Fatalf("%s: exit code %d\n%s", p, code, p.Printed())
	}
	return p.Printed()
}

// underLoad runs steps while applications call, and fails if a call did.
func (c *cluster) underLoad(steps func()) {
	c.Helper()
	ctx, stop := context.WithCancel(c.Context())
	var callers sync.WaitGroup
	defer callers.Wait()
	defer stop()
	for i := range 10 {
		gatewayToken := token(c.T, c.nodes[i%2].Proxy)
		callers.Go(func() { c.call(ctx, i, gatewayToken) })
	}
	c.loaded = true
	c.served()
	steps()
	c.served()
	c.loaded = false
	stop()
	callers.Wait()
	close(c.fault)
	for text := range c.fault {
		c.Error(text)
	}
	for _, p := range c.proc {
		if strings.Contains(p.Printed(), "stored record does not open") {
			c.Error("a record had to be rebuilt")
		}
	}
	c.Logf("%d calls", c.calls.Load())
}

// served waits until the callers have called both nodes.
func (c *cluster) served() {
	c.Helper()
	before := c.calls.Load()
	c.proc[0].Until("serving calls", func() bool { return c.calls.Load() >= before+50 || len(c.fault) > 0 })
}

// call calls the nodes in turn: with the client secret, and with a gateway
// token of either. Every other caller keeps the one it began with.
func (c *cluster) call(ctx context.Context, caller int, gatewayToken string) {
	client := &http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	credential := "secret=" + caddy.ClientSecret + "&appid=" + officialAccount
	for n := caller; ctx.Err() == nil; n++ {
		path, header := userPath+"?access_token="+gatewayToken, http.Header{}
		switch fetches := caller%2 == 0; {
		case n%3 == 0:
			path, header = userPath, http.Header{"Authorization": {"Bearer " + caddy.ClientSecret}, "Wechat-Appid": {officialAccount}}
		case n%3 == 1 && fetches:
			path = "/cgi-bin/token?grant_type=client_credential&" + credential
		}
		answer, err := get(client, "http://"+c.nodes[n%2].Proxy+path, header)
		if _, fetched, ok := strings.Cut(answer, `"access_token":"`); ok {
			gatewayToken, _, _ = strings.Cut(fetched, `"`)
		} else if err != nil || !strings.Contains(answer, `"total"`) {
			c.fault <- fmt.Sprintf("node %d answers %s %v", n%2, answer, err)
			return
		}
		c.calls.Add(1)
		time.Sleep(10 * time.Millisecond) // as fast as applications are, not machines
	}
}

// get returns the answer to a call. Where there was none it is made again: when
// a reload closes a listener, Linux resets the connections that wait there,
// unless net.ipv4.tcp_migrate_req is 1.
func get(client *http.Client, url string, header http.Header) (answer string, err error) {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	r.Header = header
	for range 5 {
		var response *http.Response
		if response, err = client.Do(r); err != nil {
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		return string(body), err
	}
	return "", err
}

// reseal runs the command, and returns what it says at the end.
func (c *cluster) reseal() string {
	c.Helper()
	printed := c.run("wechat", "reseal", "--config", c.files[1])
	if !strings.Contains(printed, "\n257 of 257\n") {
		c.Errorf("reseal prints %s", printed)
	}
	return printed[strings.LastIndex(strings.TrimSpace(printed), "\n")+1:]
}

// wantNothingLost starts both nodes anew, which then know only what is stored,
// and calls for both accounts.
func (c *cluster) wantNothingLost() {
	c.Helper()
	c.weChat.ResetCounts()
	for i := range c.nodes {
		c.proc[i].Kill()
		p := caddy.Launch(c.T, "run", "--config", c.files[i])
		p.Serves(c.nodes[i].Platform, c.nodes[i].Proxy)
		for _, appid := range []string{officialAccount, idleAccount} {
			answer := call(c.T, "http://"+c.nodes[i].Proxy+"/cgi-bin/token?grant_type=client_credential&appid="+appid+"&secret="+caddy.ClientSecret, "")
			if !strings.Contains(answer, "gw1.") {
				c.Errorf("node %d, %s: %s", i, appid, answer)
			}
		}
		caddy.WantNoCredential(c.T, c.weChat.Credentials(), "what was printed", c.proc[i].Printed()+p.Printed())
	}
	if calls := c.weChat.Calls(); len(calls) != 0 {
		c.Errorf("WeChat was called %d times, %s first, for what is stored", len(calls), calls[0].Path)
	}
}

// The order for several nodes: each learns the new value as its second before
// any makes it the first. Tokens and records of one are good on the other all
// the time.
func TestRotationOfTheAppSecretOnTwoNodes(t *testing.T) {
	c := startCluster(t, "")
	old, _, _ := c.weChat.Keys()
	next := ""
	c.underLoad(func() {
		next = c.weChat.RotateAppSecret("")
		c.give("app_secret", old, next)
		c.give("app_secret", next, old)
		if said := c.reseal(); said == "0 sealed anew\n" {
			t.Error("nothing was sealed anew")
		}
		if said := c.reseal(); said != "0 sealed anew\n" {
			t.Errorf("the second time: %s", said)
		}
	})
	c.give("app_secret", next) // two hours later: no gateway token of before is alive
	c.wantNothingLost()
}

func TestRotationOfTheSealKeyOnTwoNodes(t *testing.T) {
	c := startCluster(t, "seal_key "+oldSealKey)
	c.underLoad(func() {
		c.give("seal_key", oldSealKey, newSealKey)
		c.give("seal_key", newSealKey, oldSealKey)
		if said := c.reseal(); said == "0 sealed anew\n" {
			t.Error("nothing was sealed anew")
		}
		c.give("seal_key", newSealKey)
	})
	c.wantNothingLost()
}

// While anything needs a key that is not configured, the command does not say
// that all is well.
func TestResealNamesWhatDoesNotOpen(t *testing.T) {
	c := startCluster(t, "seal_key "+oldSealKey)
	text := strings.ReplaceAll(readFile(t, c.files[0]), oldSealKey, newSealKey)
	if err := os.WriteFile(c.files[0], []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run("reload", "--config", c.files[0], "--address", c.nodes[0].Admin)
	p := caddy.Launch(t, "wechat", "reseal", "--address", c.nodes[0].Admin)
	if code := p.Wait(); code == 0 {
		t.Error("exit code 0")
	}
	for _, want := range []string{
		"0 sealed anew", "wechat/" + sandbox.DefaultComponent + "/component.json",
		"wechat/" + sandbox.DefaultComponent + "/authorizers/dd/" + idleAccount + ".json", "configure the previous one as well",
	} {
		if !strings.Contains(p.Printed(), want) {
			t.Errorf("not said: %s", want)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
