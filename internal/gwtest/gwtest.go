// SPDX-License-Identifier: Apache-2.0

// Package gwtest runs the whole gateway for tests: Caddy in this process, with
// real storage, real sockets and real crypto, against the sandbox. At the end
// of each test it searches everything that was written for the credentials
// that WeChat and the gateway share: none may occur. With Options.Watch it
// searches everything that leaves the gateway by any way, see SearchEverything.
//
// Caddy is one per process, so these tests do not run in parallel.
package gwtest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // the modules a Caddyfile needs

	_ "github.com/caddy-wechat/caddy-wechat" // the gateway
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// The accounts every sandbox has, and the client every gateway knows.
const (
	OfficialAccount = "wxaaaaaaaaaaaaaaaa"
	MiniProgram     = "wxbbbbbbbbbbbbbbbb"
	ClientSecret    = "shop-secret-0123456789abcdef0123456789"
)

// Options change the gateway; the zero value is a component with the client
// shop, which may act for every authorizer.
type Options struct {
	Sandbox   sandbox.Config
	Component string       // more lines in the component's block
	Clients   string       // client blocks in place of shop's
	Wechat    string       // more lines in the wechat block
	Platform  string       // lines in the wechat_platform block
	Proxy     string       // lines in the wechat_proxy block
	Global    string       // more global options
	Sites     string       // more site blocks, all at port 18083
	API       []string     // in place of the sandbox's URL
	Quiet     bool         // do not authorise any account at the start
	Upstream  http.Handler // in place of the sandbox, which it may call
	Watch     bool         // keep all that leaves the gateway, and search it at the end
	Secrets   []string     // clients' secrets beside ClientSecret, which logs may not show; for Watch
}

// Gateway is a running gateway.
type Gateway struct {
	WeChat   *sandbox.Sandbox
	Platform string // base URL that faces the internet
	Proxy    string // base URL that faces the applications
	Sites    string // host and port at which Options.Sites are served
	API      string // base URL of the sandbox
	Storage  string // folder
	Log      string // file

	t       testing.TB
	options Options
	listens map[string]string // port in the Caddyfile → Caddy's listener address
	watch   *watch            // nil unless Options.Watch
}

// Start starts a gateway that has received a ticket and that both accounts
// have authorized.
func Start(t testing.TB, o Options) *Gateway {
	t.Helper()
	g := &Gateway{t: t, options: o, listens: make(map[string]string)}
	folder := tempDir(t)
	g.Storage, g.Log = filepath.Join(folder, "storage"), filepath.Join(folder, "log")
	if err := os.Mkdir(g.Storage, 0o700); err != nil {
		t.Fatal(err)
	}
	g.Platform, g.Proxy = "http://"+g.listen("18081"), "http://"+g.listen("18082")
	if o.Sites != "" {
		g.Sites = g.listen("18083")
	}
	if o.Watch {
		g.watch = startWatch(t, folder)
		g.Platform, g.Proxy = g.watch.responses.before(t, g.Platform), g.watch.responses.before(t, g.Proxy)
	}

	var err error
	if g.WeChat, err = sandbox.New(o.Sandbox); err != nil {
		t.Fatal(err)
	}
	for _, account := range []sandbox.Account{{AppID: OfficialAccount}, {AppID: MiniProgram, MiniProgram: true}} {
		if err := g.WeChat.AddAccount(account); err != nil {
			t.Fatal(err)
		}
	}
	handler := o.Upstream
	if handler == nil {
		handler = g.WeChat
	}
	api := httptest.NewServer(handler)
	t.Cleanup(api.Close)
	g.API = api.URL
	g.WeChat.SetURLs(g.Platform+"/wechat/events", g.Platform+"/wechat/messages/$APPID$")

	g.Load()
	t.Cleanup(g.close)
	if !o.Quiet {
		g.Authorize()
	}
	return g
}

// tempDir is t.TempDir, but patient: a request that Caddy has not waited for
// may still be writing when the test ends.
func tempDir(t testing.TB) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "gwtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 100 {
			if err = os.RemoveAll(folder); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Error(err)
	})
	return folder
}

// listen opens a socket for Caddy and returns its address.
func (g *Gateway) listen(port string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { file.Close() })
	listener.Close() // the file keeps the socket
	g.listens[port] = fmt.Sprintf("fd/%d", file.Fd())
	return listener.Addr().String()
}

// Authorize pushes a ticket and lets both accounts authorise.
func (g *Gateway) Authorize() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := g.WeChat.PushTicket(ctx); err != nil {
		g.t.Fatalf("pushing ticket: %v\n%s", err, g.Logs())
	}
	for _, appid := range []string{OfficialAccount, MiniProgram} {
		if _, err := g.WeChat.Authorize(ctx, appid); err != nil {
			g.t.Fatalf("authorising %s: %v\n%s", appid, err, g.Logs())
		}
	}
	if g.tellsOfAccounts() { // no question in the background may disturb what a test counts
		g.awaitProfiles()
	}
}

// HasProfile reports whether the profile of an account is stored, so that WeChat need not
// be asked for it.
func (g *Gateway) HasProfile(appid string) bool {
	_, err := os.Stat(filepath.Join(g.Storage, "wechat", g.WeChat.Component(), "profiles", appid[len(appid)-2:], appid+".json"))
	return err == nil
}

// Logs returns what has been logged so far.
func (g *Gateway) Logs() string {
	logged, err := os.ReadFile(g.Log)
	if err != nil {
		return err.Error()
	}
	return string(logged)
}

// close stops the gateway and searches what it has shown and written.
func (g *Gateway) close() {
	var places []Place
	if g.watch != nil {
		defer g.watch.close()
		places = g.shown()
	}
	if err := caddy.Stop(); err != nil {
		g.t.Errorf("stopping: %v", err)
	}
	g.reportMisuses()
	http.DefaultClient.CloseIdleConnections()
	g.report(append(places, g.written()...))
}
