// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// resealCommand returns the command that seals all files with the current key,
// so that the previous seal key or app secret can be removed from the
// configuration. See vault.Vault.Reseal.
func resealCommand() *cobra.Command {
	var sum operate.Resealed
	p := &paged[operate.Resealed]{
		path:     "/wechat/reseal",
		progress: func(page operate.Resealed) operate.Progress { return page.Progress },
		add: func(page operate.Resealed) {
			sum.Resealed += page.Resealed
			sum.Unreadable = append(sum.Unreadable, page.Unreadable...)
		},
		ended: func(out io.Writer) error { return tellResealed(out, sum) },
	}
	return p.command(&cobra.Command{
		Use:   "reseal",
		Short: "Seal everything that is stored with the current key",
		Long: `Lets a running gateway seal anew, with the current key, what the storage still
holds under a previous one: that of a previous seal_key, or the one derived from a
previous app_secret. By itself a record is sealed anew only when it changes, and
the record of an account that nobody calls for never does. So: configure the new
value with the previous one after it, reload every node, run this, and only then
remove the previous value. WeChat is not called. It can be stopped at any time
and gone on with by --from; doing it twice does no harm.`,
	}, "number of parts to pass over, as an earlier run has told")
}

// tellResealed prints how many files were sealed. If some do not open, the
// error lists them: the previous key must not be removed then.
func tellResealed(out io.Writer, sum operate.Resealed) error {
	fmt.Fprintf(out, "%d sealed anew\n", sum.Resealed)
	if len(sum.Unreadable) > 0 {
		return fmt.Errorf("no key that is configured opens\n\t%s\nif the seal key or app secret was changed, configure the previous one as well",
			strings.Join(sum.Unreadable, "\n\t"))
	}
	return nil
}
