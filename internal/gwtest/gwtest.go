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
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
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

// Load loads the configuration, or loads it anew.
func (g *Gateway) Load() {
	g.t.Helper()
	g.LoadCaddyfile(g.Caddyfile())
}

// LoadCaddyfile loads a variation of what Caddyfile returns. When it returns,
// the configuration before takes no more connections; those that it has taken
// are served to their end.
func (g *Gateway) LoadCaddyfile(text string) {
	g.t.Helper()
	if err := g.TryCaddyfile(text); err != nil {
		g.t.Fatalf("%v\n%s", err, text)
	}
}

// TryCaddyfile is LoadCaddyfile for one that may be refused.
func (g *Gateway) TryCaddyfile(text string) error {
	g.t.Helper()
	if g.watch != nil {
		text = g.watch.hide(text, append(g.WeChat.Credentials(), g.clientSecrets()...))
	}
	adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		return fmt.Errorf("adapting: %w", err)
	}
	for _, warning := range warnings {
		if !strings.Contains(warning.Message, "not formatted") {
			g.t.Logf("adapting: %s", warning)
		}
	}
	for port, address := range g.listens {
		adapted = bytes.ReplaceAll(adapted, []byte(`":`+port+`"`), []byte(`"`+address+`"`))
	}
	if err := caddy.Load(adapted, true); err != nil {
		return fmt.Errorf("loading: %w", err)
	}
	for _, address := range g.listens {
		network, file, _ := strings.Cut(address, "/")
		for end := time.Now().Add(10 * time.Second); caddy.ListenerUsage(network, file) > 1; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				g.t.Fatal("the servers before still listen")
			}
		}
	}
	return nil
}

// Change changes the options and reloads.
func (g *Gateway) Change(change func(*Options)) {
	g.t.Helper()
	change(&g.options)
	g.Load()
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
}

var caddyfileTemplate = template.Must(template.New("Caddyfile").Parse(`{{.Extras.Snippets}}
{
	{{.Extras.Global}}
	{{.Options.Global}}
	storage file_system {{.Storage}}
	log {
		output file {{.Log}} {
			roll_disabled
		}
		level DEBUG
		{{.Extras.Log}}
	}
	wechat {
		component {{.ComponentAppID}} {
			app_secret       {{.AppSecret}}
			token            {{.Token}}
			encoding_aes_key {{.AESKey}}
			{{.Options.Component}}
		}
		{{.Clients}}
		api   {{range .APIs}}{{.}} {{end}}
		pages {{.Pages}}
		{{.Options.Wechat}}
	}
}
:18081 {
	{{.Extras.Site}}
	wechat_platform /wechat {
		{{.Options.Platform}}
	}
}
:18082 {
	{{.Extras.Site}}
	wechat_proxy {
		{{.Options.Proxy}}
	}
}
{{.Options.Sites}}
`))

// Caddyfile returns the configuration in force.
func (g *Gateway) Caddyfile() string {
	appSecret, token, aesKey := g.WeChat.Keys()
	clients := g.options.Clients
	if clients == "" {
		clients = "client shop {\nsecret " + ClientSecret + "\nauthorizers *\n}"
	}
	apis := g.options.API
	if apis == nil {
		apis = []string{g.API}
	}
	extras := extras{Global: "admin off\npersist_config off"}
	if g.watch != nil {
		extras = g.watch.extras
	}
	var text strings.Builder
	err := caddyfileTemplate.Execute(&text, map[string]any{
		"Storage": g.Storage, "Log": g.Log,
		"ComponentAppID": g.WeChat.Component(), "AppSecret": appSecret, "Token": token, "AESKey": aesKey,
		"Clients": clients, "APIs": apis, "Pages": g.API, "Options": g.options,
		"Extras": extras,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return text.String()
}

// Token fetches a gateway token for an authorizer as an SDK does.
func (g *Gateway) Token(appid string) string {
	g.t.Helper()
	body := g.Get("/cgi-bin/token?" + url.Values{"grant_type": {"client_credential"}, "appid": {appid}, "secret": {ClientSecret}}.Encode())
	_, rest, found := strings.Cut(body, `"access_token":"`)
	token, _, _ := strings.Cut(rest, `"`)
	if !found || !strings.HasPrefix(token, "gw1.") {
		g.t.Fatalf("no gateway token: %s\n%s", body, g.Logs())
	}
	return token
}

// Get gets a path from the proxy and returns the body.
func (g *Gateway) Get(path string) string {
	g.t.Helper()
	_, body := g.Do(http.MethodGet, path, "", nil)
	return body
}

// Post posts JSON to a path of the proxy and returns the body.
func (g *Gateway) Post(path, content string) string {
	g.t.Helper()
	_, body := g.Do(http.MethodPost, path, content, http.Header{"Content-Type": {"application/json"}})
	return body
}

// Do makes one call through the proxy.
func (g *Gateway) Do(method, path, content string, header http.Header) (*http.Response, string) {
	g.t.Helper()
	r, err := http.NewRequest(method, g.Proxy+path, strings.NewReader(content))
	if err != nil {
		g.t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatalf("%s %s: reading the answer: %v", method, path, err)
	}
	return response, string(body)
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
	http.DefaultClient.CloseIdleConnections()
	g.report(append(places, g.written()...))
}
