// SPDX-License-Identifier: Apache-2.0

package command

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// pushesCommand returns the command that shows the last pushes of WeChat.
func pushesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pushes",
		Short: "Show the last pushes of WeChat, without what is in them",
		Long: `Shows the last pushes that came to this node since it started, 1,000 at most, the
newest first: when, for which account, what, and what became of it; if it was refused,
why, and where it came from. OUTCOME is that of the metric caddy_wechat_pushes_total.
A narrow terminal does not show all columns; --json has everything.`,
	}
	admin := new(adminAPI)
	admin.addFlags(cmd)
	rows := rowsFlag(cmd)
	return run(cmd, cobra.NoArgs, func([]string) error {
		pushes, err := ask[operate.Pushes](cmd, admin, http.MethodGet, "/wechat/pushes", nil)
		if err == nil && !admin.json {
			newScreen(cmd).pushes(pushes, rows.of(len(pushes.Items)))
		}
		return err
	})
}

// usageCommand returns the command that shows who calls for what.
func usageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "Show who calls what for which account, and what is answered",
		Long: `Shows how often each client has called each path for each account since this node
started, by the errcode that was answered: the 10,000 busiest, the busiest first. BY is
who has answered: WeChat, or the gateway itself. BYTES are those of the answers.
A narrow terminal does not show all columns; --json has everything.`,
	}
	cmd.Flags().String("client", "", "name of the client; none for calls without one")
	admin := new(adminAPI)
	admin.addFlags(cmd)
	rows := rowsFlag(cmd)
	return run(cmd, cobra.NoArgs, func([]string) error {
		usage, err := ask[operate.Usage](cmd, admin, http.MethodGet, "/wechat/usage"+queryOf(cmd, "client"), nil)
		if err == nil && !admin.json {
			newScreen(cmd).usage(usage, rows.of(len(usage.Items)))
		}
		return err
	})
}

// rowLimit is how many rows of a long table are printed.
type rowLimit struct {
	cmd  *cobra.Command
	rows int
}

// rowsFlag adds the flag of the limit to cmd.
func rowsFlag(cmd *cobra.Command) *rowLimit {
	l := &rowLimit{cmd: cmd}
	cmd.Flags().IntVar(&l.rows, "rows", 50, "how many rows are printed in a terminal, 0 for all; where there is no terminal: all")
	return l
}

// of returns how many of these rows are printed. Programs that read a table get all of
// it, unless the flag is given.
func (l *rowLimit) of(rows int) int {
	if l.rows <= 0 || !isTerminal(l.cmd.OutOrStdout()) && !l.cmd.Flags().Changed("rows") {
		return rows
	}
	return min(rows, l.rows)
}

// pushes prints the first so many of the pushes.
func (s screen) pushes(pushes operate.Pushes, shown int) {
	began := fmt.Sprintf("since the start of node %s, %s", plain(pushes.Node), s.since(pushes.Since))
	if len(pushes.Items) == 0 {
		s.printf("WeChat has not pushed %s\n", began)
		return
	}
	g := grid{
		header: []string{"TIME", "ACCOUNT", "WHAT", "OUTCOME", "STATUS", "TOOK", "FROM", "REASON"},
		spare:  []string{"TOOK", "STATUS", "FROM"}, least: 12,
	}
	for _, p := range pushes.Items[:shown] {
		reason := p.Reason
		if p.Previous {
			reason = "verified by the previous token or key"
		}
		g.rows = append(g.rows, []string{p.Time.In(s.now.Location()).Format("01-02 15:04:05"), cmp.Or(p.AppID, p.Component), cmp.Or(p.What, p.At), p.Outcome,
			fmt.Sprint(p.Status), fmt.Sprintf("%.0fms", p.TookMS), p.Remote, reason})
	}
	g.print(s)
	s.printf("%s%s %s\n", part("newest", shown, len(pushes.Items)), counted(len(pushes.Items), "push", "pushes"), began)
	s.more(shown, len(pushes.Items))
}

// usage prints the first so many rows of a usage.
func (s screen) usage(usage operate.Usage, shown int) {
	began := fmt.Sprintf("since the start of node %s, %s", plain(usage.Node), s.since(usage.Since))
	if len(usage.Items) == 0 {
		s.printf("nobody has called %s\n", began)
		return
	}
	g := grid{
		header: []string{"CALLS", "CLIENT", "ACCOUNT", "ERRCODE", "BY", "BYTES", "PATH"},
		spare:  []string{"BYTES", "BY"}, least: 24,
	}
	for _, c := range usage.Items[:shown] {
		by := "WeChat"
		if c.Own {
			by = "gateway"
		}
		g.rows = append(g.rows, []string{fmt.Sprint(c.Calls), c.Client, c.AppID, fmt.Sprint(c.Errcode), by, strings.ReplaceAll(humanize.IBytes(c.Bytes), " ", ""), c.Path})
	}
	g.print(s)
	s.printf("%s%s %s\n", part("busiest", shown, len(usage.Items)), counted(len(usage.Items), "row", "rows"), began)
	if usage.Lost > 0 {
		s.printf("%d more calls are in no row: theirs had to make room for busier ones\n", usage.Lost)
	}
	s.more(shown, len(usage.Items))
}

// part says which rows are shown, if not all are.
func part(which string, shown, rows int) string {
	if shown == rows {
		return ""
	}
	return fmt.Sprintf("the %s %d of ", which, shown)
}

// more says how to see the rows that are not shown.
func (s screen) more(shown, rows int) {
	if shown < rows {
		s.printf("--rows 0 prints all\n")
	}
}
