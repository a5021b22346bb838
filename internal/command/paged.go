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

// paged makes a running gateway do a task in pages, by one request to its admin
// API for each page. The gateway does the work and has the secrets; the command
// needs none.
type paged struct {
	path  string                                          // of the admin API
	ended func(out io.Writer, sum operate.Resealed) error // called after the last page with the sum of all

	admin     adminAPI
	component string // component_appid or ""
	from      int    // offset of the first page
}

// pagedCommand adds to cmd the flags and the function that all such commands
// have in common. from is the help text of the flag --from.
func pagedCommand(cmd *cobra.Command, from string, p *paged) *cobra.Command {
	cmd.Args = cobra.NoArgs
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
		return code(untilSignal(func(ctx context.Context) error { return p.run(ctx, os.Stdout) }))
	})
	flags := cmd.Flags()
	flags.StringVar(&p.component, "component", "", "component_appid; may be left out where there is one")
	flags.IntVar(&p.from, "from", 0, from)
	p.admin.addFlags(cmd)
	return cmd
}

// run does all pages from p.from on and prints the progress to out. It ends
// after the last page, at an error, or after the current page when ctx ends. In
// the last two cases the error says with which --from to continue.
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

// resume returns the text that says how to continue.
func (p *paged) resume(offset int) string { return fmt.Sprintf("go on with --from %d", offset) }

// page makes the gateway do the page at offset, and waits for its answer.
func (p *paged) page(offset int) (page operate.Resealed, err error) {
	query := url.Values{"offset": {strconv.Itoa(offset)}}
	if p.component != "" {
		query.Set("component", p.component)
	}
	answer, err := p.admin.request(http.MethodPost, p.path+"?"+query.Encode())
	if err != nil {
		return page, err
	}
	if err := json.Unmarshal(answer, &page); err != nil {
		return page, fmt.Errorf("reading the gateway's answer: %w", err)
	}
	return page, nil
}

// bar returns a progress bar.
func bar(done, total int) string {
	const width = 40
	full := width
	if total > 0 {
		full = min(width, done*width/total)
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}
