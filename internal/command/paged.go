// SPDX-License-Identifier: Apache-2.0

package command

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

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// paged lets a running gateway do something page by page, through its admin API.
type paged struct {
	path  string
	ended func(out io.Writer, sum operate.Resealed) error // is told what all pages have done

	admin, component string
	from             int
}

// pagedCommand adds to cmd what all such commands have in common.
func pagedCommand(cmd *cobra.Command, from string, p *paged) *cobra.Command {
	var address, config, adapter string
	cmd.Args = cobra.NoArgs
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
		return code(untilSignal(func(ctx context.Context) (err error) {
			if p.admin, err = caddycmd.DetermineAdminAPIAddress(address, nil, config, adapter); err != nil {
				return err
			}
			return p.run(ctx, os.Stdout)
		}))
	})
	flags := cmd.Flags()
	flags.StringVar(&p.component, "component", "", "component_appid; may be left out where there is one")
	flags.IntVar(&p.from, "from", 0, from)
	flags.StringVar(&address, "address", "", "address of the admin API; default: that of --config, or localhost:2019")
	flags.StringVarP(&config, "config", "c", "", "configuration file to read the address from")
	flags.StringVarP(&adapter, "adapter", "a", "", "adapter of the configuration file")
	return cmd
}

// run goes through all pages.
func (p *paged) run(ctx context.Context, out io.Writer) error {
	var sum operate.Resealed
	for done := (operate.Progress{Next: p.from, Total: -1}); done.Next != done.Total; {
		page, err := p.page(done.Next)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, p.resume(done.Next))
		}
		done = page.Progress
		sum.Resealed += page.Resealed
		sum.Unreadable = append(sum.Unreadable, page.Unreadable...)
		fmt.Fprintf(out, "\r%s %d of %d", bar(done.Next, done.Total), done.Next, done.Total)
		if ctx.Err() != nil && done.Next < done.Total {
			fmt.Fprintln(out)
			return fmt.Errorf("stopped; %s", p.resume(done.Next))
		}
	}
	fmt.Fprintln(out)
	return p.ended(out, sum)
}

func (p *paged) resume(offset int) string { return fmt.Sprintf("go on with --from %d", offset) }

// page lets the gateway do one page.
func (p *paged) page(offset int) (page operate.Resealed, err error) {
	query := url.Values{"offset": {strconv.Itoa(offset)}}
	if p.component != "" {
		query.Set("component", p.component)
	}
	response, err := caddycmd.AdminAPIRequest(p.admin, http.MethodPost, p.path+"?"+query.Encode(), nil, nil)
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
