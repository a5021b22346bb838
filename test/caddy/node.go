// SPDX-License-Identifier: Apache-2.0

package caddy

import (
	"fmt"
	"os"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// ClientSecret is that of Shop.
const ClientSecret = "shop-secret-0123456789abcdef0123456789"

// Shop is a client with every account.
const Shop = "client shop {\nsecret " + ClientSecret + "\nauthorizers *\n}"

// Node is what the Caddyfile of one gateway says, which stands before a
// sandbox with its default credentials.
type Node struct {
	Admin           string // address of the admin API, or off
	Storage         string // the storage module and its options
	WeChat          string // base URL
	Platform, Proxy string // addresses
	Clients         string // blocks
	Wechat          string // more lines in the wechat block
	Global          string // more global options
	Site            string // more lines in the site of the proxy
}

// Caddyfile returns the whole text.
func (n Node) Caddyfile() string {
	return fmt.Sprintf(`{
	admin %s
	auto_https off
	%s
	storage %s
	wechat {
		component %s {
			app_secret       %s
			token            %s
			encoding_aes_key %s
		}
		%s
		%s
		api   %[10]s
		pages %[10]s
	}
}
http://%[11]s {
	wechat_platform
}
http://%[12]s {
	%[13]s
	wechat_proxy
}
`, n.Admin, n.Global, n.Storage, sandbox.DefaultComponent, sandbox.DefaultAppSecret, sandbox.DefaultToken,
		sandbox.DefaultEncodingAESKey, n.Clients, n.Wechat, n.WeChat, n.Platform, n.Proxy, n.Site)
}

// Write writes the Caddyfile.
func (n Node) Write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(n.Caddyfile()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Run runs the program with the Caddyfile at path. Whether it serves already,
// Process.Serves tells.
func (n Node) Run(t *testing.T, path string) *Process {
	t.Helper()
	n.Write(t, path)
	return Launch(t, "run", "--config", path)
}
