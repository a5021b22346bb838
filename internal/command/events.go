// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// eventsCommand returns the command for the queues of a running gateway. Without a
// subcommand it is its subcommand list.
func eventsCommand() *cobra.Command {
	cmd := listCommand(&cobra.Command{
		Use:   "events",
		Short: "Show what waits for delivery to applications; replay, discard, test",
		Long: `Shows the messages and events that wait for delivery to the applications, and
the dead letters: those that were given up. What is in them is never shown.
The subcommands have them delivered at once, delete them, and send a test.
The gateway must be running; these commands call its admin API.`,
	})
	cmd.AddCommand(
		listCommand(&cobra.Command{
			Use:   "list",
			Short: "List what waits, and then the dead letters",
			Long: `Lists the messages and events that wait for delivery, and then the dead letters,
each in the order of client, target and arrival. AGE is the time since the
arrival, which retry_for limits. NEXT is when it is tried next: "now" can also mean
after what came before it for the same account. Dead letters are not tried any
more.`,
		}),
		actionCommand(&cobra.Command{
			Use:   "replay",
			Short: "Deliver at once what waits, and dead letters once more",
			Long: `Makes what waits due at once, and moves dead letters back into their queues, where
they have the whole time of retry_for again: as many as have room in the queue, the
oldest first. Without --state it means both. A target that wanted nothing more (410)
is tried again.` + selecting,
		}, true, "replayed"),
		actionCommand(&cobra.Command{
			Use:   "discard",
			Short: "Delete what waits, and dead letters",
			Long: `Deletes messages and events: both those that wait and dead letters, unless --state
says which. It does not ask, and they cannot be brought back.` + selecting,
		}, true, "deleted"),
		actionCommand(&cobra.Command{
			Use:   "test",
			Short: "Send a test to the targets of a client",
			Long: `Sends an event with the InfoType gateway_test to the targets of a client, or to the
one that --target names, and waits for their answers. It says that it is a test,
and is about no account. A target that wanted nothing more (410) gets everything
again if it takes the test.`,
		}, false, ""),
	)
	return cmd
}

const selecting = `

At least one of --client, --target, --event-id and --since is needed, or --all.
Where several are given, all of them must apply.`

// listCommand adds flags and function of a list to cmd.
func listCommand(cmd *cobra.Command) *cobra.Command {
	admin := eventsFlags(cmd)
	flags := cmd.Flags()
	flags.String("state", "", "waiting or dead; default: both")
	flags.Int("limit", 100, "length of the page, at most 1000")
	flags.String("cursor", "", "where to go on, as the page before has told")
	return run(cmd, onlySubcommands, func([]string) error {
		page, err := ask[operate.Events](cmd, admin, http.MethodGet, "/wechat/events"+queryOf(cmd, "client", "target", "state", "limit", "cursor"), nil)
		if err != nil || admin.json {
			return err
		}
		next := cmd.CommandPath() + repeated(cmd, "client", "target", "state", "limit", "address", "config", "adapter")
		newScreen(cmd).events(page, next, nothing(cmd))
		return nil
	})
}

// actionCommand adds flags and function of an action to cmd. selects says whether
// it is about events, which are done then, and not about targets.
func actionCommand(cmd *cobra.Command, selects bool, done string) *cobra.Command {
	admin := eventsFlags(cmd)
	parameters := []string{"client", "target"}
	if selects {
		flags := cmd.Flags()
		flags.String("event-id", "", "only this one")
		flags.String("since", "", "those that came then or later: a time by RFC 3339, or how long ago, as 90m or 2d")
		flags.String("state", "", "waiting or dead; default: both")
		flags.Bool("all", false, "all of them, if nothing else is named")
		parameters = append(parameters, "event-id", "since", "state", "all")
	}
	return run(cmd, cobra.NoArgs, func([]string) error {
		if selects && queryOf(cmd, "client", "target", "event-id", "since", "all") == "" {
			return errors.New("nothing is named\ngive --client, --target, --event-id or --since; or --all for all of them")
		}
		result, err := ask[operate.Count](cmd, admin, http.MethodPost, "/wechat/events/"+cmd.Name()+queryOf(cmd, parameters...), nil)
		if err != nil || admin.json {
			return err
		}
		if selects {
			fmt.Fprintln(cmd.OutOrStdout(), counted(result.Count, "event is", "events are"), done)
		} else {
			fmt.Fprintln(cmd.OutOrStdout(), counted(result.Count, "target has", "targets have"), "taken the test")
		}
		return nil
	})
}

// eventsFlags adds the flags that all these commands have.
func eventsFlags(cmd *cobra.Command) *adminAPI {
	flags := cmd.Flags()
	flags.String("client", "", "name of the client")
	flags.String("target", "", "name of the target, which is that of its deliver block")
	admin := new(adminAPI)
	admin.addFlags(cmd)
	return admin
}

// queryOf returns the query with the flags that are given: also those that are
// given an empty value, which the gateway refuses where it would do harm.
func queryOf(cmd *cobra.Command, names ...string) string {
	query := make(url.Values)
	for _, name := range names {
		flag := cmd.Flags().Lookup(name)
		if !flag.Changed {
			continue
		}
		value := flag.Value.String()
		if ago, err := caddy.ParseDuration(value); name == "since" && err == nil {
			value = time.Now().Add(-ago).UTC().Format(time.RFC3339)
		}
		query.Set(strings.ReplaceAll(name, "-", "_"), value)
	}
	if len(query) == 0 {
		return ""
	}
	return "?" + query.Encode()
}

// repeated returns the flags that are given as one would type them.
func repeated(cmd *cobra.Command, names ...string) string {
	var typed strings.Builder
	for _, name := range names {
		if flag := cmd.Flags().Lookup(name); flag.Changed {
			typed.WriteString(" --" + name + " " + quoted(flag.Value.String()))
		}
	}
	return typed.String()
}

// quoted returns an argument as one would type it in a shell.
func quoted(argument string) string {
	special := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_./:@%+,", r)
	}
	if argument == "" || strings.ContainsFunc(argument, special) {
		return "'" + strings.ReplaceAll(argument, "'", `'\''`) + "'"
	}
	return argument
}

// nothing returns the sentence for an empty list.
func nothing(cmd *cobra.Command) string {
	value := func(name string) string { return cmd.Flags().Lookup(name).Value.String() }
	sentence := map[string]string{"waiting": "nothing is waiting", "dead": "there are no dead letters"}[value("state")]
	if sentence == "" {
		sentence = "nothing is waiting, and there are no dead letters"
	}
	separator := " for "
	for _, name := range []string{"client", "target"} {
		if value(name) != "" {
			sentence += separator + name + " " + value(name)
			separator = ", "
		}
	}
	return sentence
}
