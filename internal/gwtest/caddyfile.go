// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// Load loads the configuration, or loads it anew.
func (g *Gateway) Load() {
	g.t.Helper()
	g.LoadCaddyfile(g.Caddyfile())
}

// Restart stops the gateway, calls between, sets WeChat's counts to zero, and
// starts the gateway again.
func (g *Gateway) Restart(t testing.TB, between func()) {
	t.Helper()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	between()
	g.WeChat.ResetCounts()
	g.Load()
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
		for end := time.Now().Add(10 * time.Second); caddy.ListenerUsage(network, file) > 1 || descriptors(file) > 2; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				g.t.Fatal("the servers before still listen")
			}
		}
	}
	return nil
}

// descriptors returns how many descriptors of the process are the same socket as one of
// them: the test's own, and one for each server that listens. It is 0 where /proc does not
// tell. Caddy counts a listener out a moment before it closes it.
func descriptors(of string) (n int) {
	const folder = "/proc/self/fd/"
	socket, err := os.Readlink(folder + of)
	if err != nil {
		return 0
	}
	all, _ := os.ReadDir(folder)
	for _, other := range all {
		if link, err := os.Readlink(folder + other.Name()); err == nil && link == socket {
			n++
		}
	}
	return n
}

// Change changes the options and reloads.
func (g *Gateway) Change(change func(*Options)) {
	g.t.Helper()
	change(&g.options)
	g.Load()
}

var caddyfileTemplate = template.Must(template.New("Caddyfile").Parse(`{
	{{.Extras.Global}}
	{{.Options.Global}}
	storage gwtest_closing {{.Storage}}
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
		clients = ShopClient
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
