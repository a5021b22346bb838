// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// askingTakes is how long status and health wait at most for an answer, which the
// gateway gives at once: who watches it must hear that it does not.
const askingTakes = 10 * time.Second

// exitCodes is the part of the help about them.
const exitCodes = `

The exit code is 0 if all is well, 1 if there are warnings, 2 if something is broken,
and 3 if nobody can tell: the gateway does not run, its address is another one, or the
command is mistyped.`

// statusCommand returns the command that says whether the gateway is well.
func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show whether the gateway is well: tickets, tokens, accounts, queues, storage",
		Long: `Shows what is broken and what needs attention, with what to do about it, and then of
each component the last ticket, the token, the accounts and the queues. Failures and
what is not stored are those of the node that answers.` + exitCodes,
	}
	admin := &adminAPI{limit: askingTakes}
	admin.addFlags(cmd)
	return look(cmd, func() (int, error) {
		status, err := ask[operate.Status](cmd, admin, http.MethodGet, "/wechat/status", nil)
		if err == nil && !admin.json {
			newScreen(cmd).status(status)
		}
		return status.Level, err
	})
}

// status prints a status. Its first line says all in short: it is what Nagios shows.
func (s screen) status(status operate.Status) {
	s.printf("%s: node %s, version %s", level(status.Level), plain(status.Node), plain(status.Version))
	if n := len(status.Warnings); n > 0 {
		s.printf("; %s", plain(status.Warnings[0].Text))
		if n > 1 {
			s.printf(" (and %d more)", n-1)
		}
	}
	s.printf("\n\n")
	for _, w := range status.Warnings {
		name := "warning"
		if w.Broken {
			name = "BROKEN"
		}
		s.entry(name, w.Text, w.Remedy)
	}
	if len(status.Warnings) > 0 {
		s.printf("\n")
	}
	for _, c := range status.Components {
		s.component(c)
	}
	storage := "ok"
	if !status.Storage.OK {
		storage = "fails"
	}
	s.printf("this node\n")
	s.entry("storage", storage)
	s.failure("failed last", status.Storage.LastFailure)
	s.entry("unstored", counted(status.Unstored, "record is", "records are")+" in its memory only")
}

// component prints how it is with a component.
func (s screen) component(c operate.ComponentStatus) {
	s.printf("%s\n", plain(c.Component))
	s.entry("ticket", s.since(c.Received))
	s.entry("token", s.expiry(c.Expires))
	s.entry("renewed", s.since(c.LastRenewal))
	s.failure("failed last", c.LastFailure)
	a := c.Accounts
	accounts := fmt.Sprintf("%d unauthorized, %d needs_authorization, %d failing", a.Unauthorized, a.NeedsAuthorization, a.Failing)
	if a.Counted {
		accounts = fmt.Sprintf("%d authorized, %s", a.Authorized, accounts)
	} else {
		accounts += "; the authorized ones are still being counted"
	}
	s.entry("accounts", accounts)
	queues := fmt.Sprintf("%d waiting, %d dead", c.Queues.Waiting, c.Queues.Dead)
	if !c.Queues.Oldest.IsZero() {
		queues += "; the oldest waits since " + s.clock(c.Queues.Oldest) + ", for " + between(c.Queues.Oldest, s.now)
	}
	s.entry("queues", queues)
	s.printf("\n")
}

// failure prints a failure, if there was one.
func (s screen) failure(name string, f operate.Failure) {
	if f.Time.IsZero() && f.Text == "" {
		return
	}
	s.entry(name, s.since(f.Time), f.Text, f.Remedy)
}

// level returns the word for a level.
func level(n int) string {
	switch n {
	case operate.LevelWell:
		return "well"
	case operate.LevelWarnings:
		return "warnings"
	case operate.LevelBroken:
		return "broken"
	}
	return fmt.Sprintf("level %d", n)
}
