// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-wechat/caddy-wechat/internal/command"
)

// init adds the command wechat, with its subcommands, to the command line of
// Caddy.
func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:      "wechat",
		Short:     "Tools of the WeChat gateway",
		CobraFunc: command.Root,
	})
}
