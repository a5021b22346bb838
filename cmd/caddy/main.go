// SPDX-License-Identifier: Apache-2.0

// Command caddy is Caddy with its standard modules, the WeChat gateway and the Redis storage.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-wechat/caddy-wechat"
	_ "github.com/pberkel/caddy-storage-redis"
)

func main() { caddycmd.Main() }
