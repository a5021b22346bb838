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
		Long: `Shows the last pushes that came to this node since it started, the newest first; it
remembers 1,000. They say when a push came, for which account, what it was and what
became of it; if it was refused, why, and where it came from. A push that was refused
only claims its account. A narrow terminal does not show all columns; --json has
everything.`,
	}
	flags := cmd.Flags()
	flags.String("component", "", "only those for this component_appid")
	flags.String("appid", "", "only those for this account")
	flags.String("outcome", "", "only those with this OUTCOME, as refused")
	flags.Int("limit", 100, "number of pushes, at most 1000")
	return shows(cmd, "/wechat/pushes", screen.pushes, "component", "appid", "outcome", "limit")
}

// usageCommand returns the command that shows who calls for what.
func usageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "Show who calls what for which account, and what is answered",
		Long: `Shows how often each client has called each path for each account since this node
started, by the errcode that was answered, the busiest first; it counts 10,000 rows. BY
is who has answered: WeChat, or the gateway itself. BYTES are those of the answers.
A narrow terminal does not show all columns; --json has everything.`,
	}
	flags := cmd.Flags()
	flags.String("client", "", "only this client; none for calls without one")
	flags.String("appid", "", "only this account")
	flags.Int("limit", 100, "number of rows, at most 10000")
	return shows(cmd, "/wechat/usage", screen.usage, "client", "appid", "limit")
}

// shows makes cmd ask for an answer with these flags in the query, and print it. print
// gets the limit as well.
func shows[Answer any](cmd *cobra.Command, path string, print func(screen, Answer, int), flags ...string) *cobra.Command {
	admin := new(adminAPI)
	admin.addFlags(cmd)
	return run(cmd, cobra.NoArgs, func([]string) error {
		answer, err := ask[Answer](cmd, admin, http.MethodGet, path+queryOf(cmd, flags...), nil)
		if err == nil && !admin.json {
			limit, _ := cmd.Flags().GetInt("limit")
			print(newScreen(cmd), answer, limit)
		}
		return err
	})
}

// pushes prints pushes, of which at most limit were asked for.
func (s screen) pushes(pushes operate.Pushes, limit int) {
	began := fmt.Sprintf("since the start of node %s, %s", plain(pushes.Node), s.since(pushes.Since))
	if len(pushes.Items) == 0 {
		s.printf("there was no such push %s\n", began)
		return
	}
	g := grid{
		header: []string{"TIME", "ACCOUNT", "WHAT", "OUTCOME", "STATUS", "TOOK", "FROM", "REASON"},
		spare:  []string{"TOOK", "STATUS", "FROM"}, least: 12,
	}
	for _, p := range pushes.Items {
		reason := p.Reason
		if reason == "" && p.Previous {
			reason = "verified by the previous token or key"
		}
		g.rows = append(g.rows, []string{p.Time.In(s.now.Location()).Format("01-02 15:04:05"), cmp.Or(p.AppID, p.Component), cmp.Or(p.What, p.At), p.Outcome,
			fmt.Sprint(p.Status), fmt.Sprintf("%.0fms", p.TookMS), p.Remote, reason})
	}
	g.print(s)
	s.printf("%s %s\n", counted(len(pushes.Items), "push", "pushes"), began)
	s.more(len(pushes.Items), limit)
}

// usage prints a usage, of which at most limit rows were asked for.
func (s screen) usage(usage operate.Usage, limit int) {
	began := fmt.Sprintf("since the start of node %s, %s", plain(usage.Node), s.since(usage.Since))
	if len(usage.Items) == 0 {
		s.printf("there was no such call %s\n", began)
		return
	}
	g := grid{
		header: []string{"CALLS", "CLIENT", "ACCOUNT", "ERRCODE", "BY", "BYTES", "PATH"},
		spare:  []string{"BYTES", "BY"}, least: 24,
	}
	for _, c := range usage.Items {
		by := "WeChat"
		if c.Own {
			by = "gateway"
		}
		g.rows = append(g.rows, []string{fmt.Sprint(c.Calls), c.Client, c.AppID, fmt.Sprint(c.Errcode), by, strings.ReplaceAll(humanize.IBytes(c.Bytes), " ", ""), c.Path})
	}
	g.print(s)
	s.printf("%s %s\n", counted(len(usage.Items), "row", "rows"), began)
	if usage.Lost > 0 {
		s.printf("%d more calls are in no row: theirs had to make room for busier ones\n", usage.Lost)
	}
	s.more(len(usage.Items), limit)
}

// more says that there can be more rows than were asked for.
func (s screen) more(rows, limit int) {
	if rows >= limit {
		s.printf("these are the first %d; --limit shows more\n", limit)
	}
}
