// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/version"
)

// versionCommand returns the command that says which gateway this program has. It asks
// nobody: a gateway that runs says its version in caddy wechat status.
func versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of the gateway in this program",
		Long: `Prints the version of the gateway in this program, with its commit if it was built
from its repository, and of the Caddy and the Go that it was built with. A gateway that
runs, which may be older, tells its version in caddy wechat status and in the metric
caddy_wechat_build_info.`,
	}
	asJSON := cmd.Flags().Bool("json", false, "print it as JSON")
	return run(cmd, cobra.NoArgs, func([]string) error {
		info := version.Get()
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(info)
		}
		commit := ""
		if info.Revision != "" {
			commit = " (" + info.Revision + ", " + info.Time + ")"
		}
		newScreen(cmd).printf("%s%s with Caddy %s, %s %s/%s\n", info.Version, commit, info.Caddy, info.Go, info.OS, info.Arch)
		return nil
	})
}
