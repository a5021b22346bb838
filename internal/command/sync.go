// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// syncCommand returns the command that stores what WeChat knows and the storage
// of a running gateway does not: the refresh tokens of all authorizers. It is
// useful after the storage was lost.
func syncCommand() *cobra.Command {
	var fresh, restored int
	p := &paged[operate.Synced]{
		path:     "/wechat/sync",
		progress: func(page operate.Synced) operate.Progress { return page.Progress },
		add:      func(page operate.Synced) { fresh += page.New; restored += page.Restored },
		ended: func(out io.Writer) error {
			_, err := fmt.Fprintf(out, "%s new, %d restored\n", counted(fresh, "account", "accounts"), restored)
			return err
		},
	}
	return p.command(&cobra.Command{
		Use:   "sync",
		Short: "Fetch the list of authorizers from WeChat and store what is missing",
		Long: `Lets a running gateway ask WeChat for all accounts that have authorised the
platform, 500 at a time, and store the refresh tokens that its storage lacks.
After a storage was lost nobody has to: every account comes back by itself when
it is first used. This does it beforehand. It can be stopped at any time and
gone on with by --from; doing it twice does no harm. At the end it says of how many
accounts nothing was stored, which are new, and of how many the refresh token was
missing or another one, which are restored.`,
	}, "number of authorizers to pass over, as an earlier run has told")
}
