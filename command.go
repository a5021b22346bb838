// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/command"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:      "wechat",
		Short:     "Tools of the WeChat gateway",
		CobraFunc: func(cmd *cobra.Command) { cmd.AddCommand(command.Commands()...) },
	})
}
