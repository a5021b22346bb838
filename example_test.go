// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // Caddy's own modules

	_ "github.com/caddy-wechat/caddy-wechat" // the gateway
)

// A Caddy with the gateway is a program with the two imports above and
//
//	func main() { caddycmd.Main() } // of github.com/caddyserver/caddy/v2/cmd
//
// as in cmd/caddy; xcaddy writes the same. The program then has the gateway's
// modules and reads its directives.
func Example() {
	for _, module := range caddy.Modules() {
		if strings.Contains(module, "wechat") {
			fmt.Println(module)
		}
	}
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(`{
	wechat {
		component wx134c8103faa5a59e {
			app_secret       {env.WECHAT_APP_SECRET}
			token            {env.WECHAT_TOKEN}
			encoding_aes_key {env.WECHAT_AES_KEY}
		}
		client shop {
			secret      {env.SHOP_SECRET}
			authorizers *
		}
	}
}
:8080 {
	bind 127.0.0.1
	wechat_proxy
}
`), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	var config struct {
		Apps struct{ WeChat json.RawMessage }
	}
	if err := json.Unmarshal(adapted, &config); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(config.Apps.WeChat)) // placeholders are resolved when it is loaded, and never shown
	// Output:
	// admin.api.wechat
	// caddy.logging.encoders.wechat
	// caddy.logging.writers.wechat_buffered
	// http.handlers.wechat_authorize
	// http.handlers.wechat_events
	// http.handlers.wechat_health
	// http.handlers.wechat_messages
	// http.handlers.wechat_proxy
	// wechat
	// {"components":{"wx134c8103faa5a59e":{"app_secrets":["{env.WECHAT_APP_SECRET}"],"tokens":["{env.WECHAT_TOKEN}"],"encoding_aes_keys":["{env.WECHAT_AES_KEY}"]}},"clients":{"shop":{"secrets":["{env.SHOP_SECRET}"],"authorizers":["*"]}}}
}
