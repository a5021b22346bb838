// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// syncCommand rebuilds the storage of a running gateway.
func syncCommand() *cobra.Command {
	var address, config, adapter string
	var s syncer
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Fetch the list of authorizers from WeChat and store what is missing",
		Long: `Lets a running gateway ask WeChat for all accounts that have authorised the
platform, 500 at a time, and store the refresh tokens that its storage lacks.
After a storage was lost nobody has to: every account comes back by itself when
it is first used. This does it beforehand. It can be stopped at any time and
gone on with by --from; doing it twice does no harm.`,
		Args: cobra.NoArgs,
		RunE: caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
			return code(untilSignal(func(ctx context.Context) (err error) {
				if s.admin, err = caddycmd.DetermineAdminAPIAddress(address, nil, config, adapter); err != nil {
					return err
				}
				return s.run(ctx, os.Stdout)
			}))
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&s.component, "component", "", "component_appid; may be left out where there is one")
	flags.IntVar(&s.from, "from", 0, "number of authorizers to pass over, as an earlier run has told")
	flags.StringVar(&address, "address", "", "address of the admin API; default: that of --config, or localhost:2019")
	flags.StringVarP(&config, "config", "c", "", "configuration file to read the address from")
	flags.StringVarP(&adapter, "adapter", "a", "", "adapter of the configuration file")
	return cmd
}

// syncer goes through all pages.
type syncer struct {
	admin, component string
	from             int
}

func (s *syncer) run(ctx context.Context, out io.Writer) error {
	for done := (synced{Next: s.from, Total: -1}); done.Next != done.Total; {
		page, err := s.page(done.Next)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, s.resume(done.Next))
		}
		done = page
		fmt.Fprintf(out, "\r%s %d of %d", bar(done.Next, done.Total), done.Next, done.Total)
		if ctx.Err() != nil && done.Next < done.Total {
			fmt.Fprintln(out)
			return fmt.Errorf("stopped; %s", s.resume(done.Next))
		}
	}
	fmt.Fprintln(out)
	return nil
}

func (s *syncer) resume(offset int) string { return fmt.Sprintf("go on with --from %d", offset) }

// page lets the gateway take in one page.
func (s *syncer) page(offset int) (page synced, err error) {
	query := url.Values{"offset": {strconv.Itoa(offset)}}
	if s.component != "" {
		query.Set("component", s.component)
	}
	response, err := caddycmd.AdminAPIRequest(s.admin, http.MethodPost, "/wechat/sync?"+query.Encode(), nil, nil)
	if err != nil {
		return page, err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&page); err != nil {
		return page, fmt.Errorf("reading the gateway's answer: %w", err)
	}
	return page, nil
}

// bar shows how much of total is done.
func bar(done, total int) string {
	const width = 40
	full := width
	if total > 0 {
		full = min(width, done*width/total)
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}
