// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// healthCommand returns the command that says whether the gateway can serve, for
// supervisors and containers.
func healthCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask whether the gateway is ready to serve",
		Long: `Asks whether the gateway is ready: a configuration is in force, and its storage has
answered once since the start. With --live, it asks only whether it runs. Neither
says that all is well: a missing ticket does not make a gateway unready, for it comes
only to one that serves. See caddy wechat status for that.

The exit code is 0 if it is ready, 2 if it is not, and 3 if nobody can tell: the
gateway does not run, its address is another one, or the command is mistyped.`,
	}
	admin := &adminAPI{limit: askingTakes}
	admin.addFlags(cmd)
	live := cmd.Flags().Bool("live", false, "ask only whether the gateway runs")
	return look(cmd, func() (int, error) {
		path := "/wechat/health/ready"
		if *live {
			path = "/wechat/health/live"
		}
		answer, err := ask[operate.Live](cmd, admin, http.MethodGet, path, nil)
		var refused *refusal
		switch {
		case errors.As(err, &refused) && refused.own && refused.status == http.StatusServiceUnavailable:
			cmd.PrintErrln(cmd.ErrPrefix(), refused)
			return operate.LevelBroken, nil
		case err == nil && !admin.json:
			newScreen(cmd).printf("%s\n", plain(answer.Status))
		}
		return operate.LevelWell, err
	})
}
