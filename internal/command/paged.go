// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// paged makes a running gateway do a task in pages, by one request to its admin
// API for each page. The gateway does the work and has the secrets; the command
// needs none. Answer is the answer to one page.
type paged[Answer any] struct {
	path     string                        // of the admin API
	progress func(Answer) operate.Progress // in an answer
	add      func(Answer)                  // called with each answer
	ended    func(out io.Writer) error     // called after the last page

	cmd      *cobra.Command
	admin    adminAPI
	from     int  // offset of the first page
	terminal bool // the progress is shown as a bar
}

// command adds to cmd the flags and the function that all such commands have in
// common. from is the help text of the flag --from.
func (p *paged[Answer]) command(cmd *cobra.Command, from string) *cobra.Command {
	p.cmd = cmd
	flags := cmd.Flags()
	flags.String("component", "", "component_appid; may be left out where there is one")
	flags.IntVar(&p.from, "from", 0, from)
	p.admin.addFlags(cmd)
	return run(cmd, cobra.NoArgs, func([]string) error {
		p.terminal = isTerminal(cmd.OutOrStdout())
		return untilSignal(p.run)
	})
}

// run does all pages from p.from on and prints the progress. It ends after the last
// page, at an error, or after the current page when ctx ends. In the last two cases
// the error has the command that goes on.
func (p *paged[Answer]) run(ctx context.Context) error {
	out := p.cmd.OutOrStdout()
	done := operate.Progress{Next: p.from}
	for pages := 1; pages == 1 || done.Next != done.Total; pages++ {
		page, err := p.page(done.Next)
		if err == nil && page.Next <= done.Next && page.Next != page.Total {
			err = errors.New("the gateway's answer goes back to what is done")
		}
		var refused *refusal
		switch {
		case errors.As(err, &refused) && refused.status == http.StatusBadRequest: // and would be refused again
			p.endLine(out, pages > 1)
			return err
		case err != nil:
			p.endLine(out, pages > 1)
			return fmt.Errorf("%w\n%s", err, p.resume(done.Next))
		}
		done = page
		p.show(out, pages, done)
		if ctx.Err() != nil && done.Next != done.Total {
			p.endLine(out, true)
			return fmt.Errorf("stopped; %s", p.resume(done.Next))
		}
	}
	p.endLine(out, true)
	if p.admin.json {
		out = io.Discard // the answers say it
	}
	return p.ended(out)
}

// page makes the gateway do the page at offset, and waits for its answer.
func (p *paged[Answer]) page(offset int) (operate.Progress, error) {
	query := "?offset=" + strconv.Itoa(offset)
	if component := p.cmd.Flags().Lookup("component"); component.Changed {
		query += "&component=" + url.QueryEscape(component.Value.String())
	}
	answer, err := ask[Answer](p.cmd, &p.admin, http.MethodPost, p.path+query, nil)
	if err != nil {
		return operate.Progress{}, err
	}
	p.add(answer)
	return p.progress(answer), nil
}

// show shows the progress after so many pages. Where there is no terminal, a line for
// each tenth page, and for the last one, says that it goes on.
func (p *paged[Answer]) show(out io.Writer, pages int, done operate.Progress) {
	switch {
	case p.admin.json: // the answers say it
	case p.terminal:
		fmt.Fprintf(out, "\r%s %d of %d", bar(done.Next, done.Total), done.Next, done.Total)
	case pages%10 == 0 || done.Next == done.Total:
		fmt.Fprintf(out, "%d of %d\n", done.Next, done.Total)
	}
}

// endLine ends the line of the bar, if there is one.
func (p *paged[Answer]) endLine(out io.Writer, begun bool) {
	if begun && p.terminal && !p.admin.json {
		fmt.Fprintln(out)
	}
}

// resume returns the text that says how to go on.
func (p *paged[Answer]) resume(offset int) string {
	return fmt.Sprintf("go on with: %s%s --from %d", p.cmd.CommandPath(), repeated(p.cmd, "component", "address", "config", "adapter"), offset)
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
