// SPDX-License-Identifier: Apache-2.0

package command

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// syncCommand returns the command that stores what WeChat knows and the storage
// of a running gateway does not: the refresh tokens of all authorizers. It is
// useful after the storage was lost.
func syncCommand() *cobra.Command {
	return pagedCommand(&cobra.Command{
		Use:   "sync",
		Short: "Fetch the list of authorizers from WeChat and store what is missing",
		Long: `Lets a running gateway ask WeChat for all accounts that have authorised the
platform, 500 at a time, and store the refresh tokens that its storage lacks.
After a storage was lost nobody has to: every account comes back by itself when
it is first used. This does it beforehand. It can be stopped at any time and
gone on with by --from; doing it twice does no harm.`,
	}, "number of authorizers to pass over, as an earlier run has told",
		&paged{path: "/wechat/sync", ended: func(io.Writer, operate.Resealed) error { return nil }})
}
