// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// accountsCommand returns the command that lists accounts.
func accountsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accounts [text]",
		Short: "List the accounts, or those that a text finds",
		Long: `Lists accounts, or those that the text finds: an appid, or the beginning of a name.
Names are searched one account after the other, which takes long where there are very
many. A STATE is authorized, unauthorized (the admin has withdrawn), needs_authorization
(the admin must authorise again) or failing (renewals fail). EXPIRES is that of the
token, which is renewed before. CLIENTS are those that may act for the account.
A narrow terminal does not show all columns; --json has everything.`,
	}
	flags := cmd.Flags()
	flags.String("component", "", "component_appid; may be left out where there is one")
	flags.String("state", "", "authorized, unauthorized, needs_authorization or failing; default: all")
	flags.String("client", "", "only those for which this client may act")
	flags.String("lang", "", "names of permission sets: zh or en; default: zh; of use with --json")
	flags.Int("limit", 50, "length of the page, at most 1000")
	flags.String("cursor", "", "where to go on, as the page before has told")
	admin := new(adminAPI)
	admin.addFlags(cmd)
	return run(cmd, oneText, func(args []string) error {
		query := "/wechat/accounts" + queryOf(cmd, "component", "state", "client", "lang", "limit", "cursor")
		next := cmd.CommandPath()
		if len(args) > 0 {
			separator := "?"
			if strings.Contains(query, "?") {
				separator = "&"
			}
			query += separator + "q=" + url.QueryEscape(args[0])
			next += " " + quoted(args[0])
		}
		page, err := search(cmd, admin, query)
		if err != nil || admin.json {
			return err
		}
		next += repeated(cmd, "component", "state", "client", "limit", "address", "config", "adapter")
		newScreen(cmd).accounts(page, next, noAccount(cmd, args))
		return nil
	})
}

// oneText are the arguments of a command that takes one text, or none.
func oneText(_ *cobra.Command, args []string) error {
	switch {
	case len(args) > 1:
		return fmt.Errorf("%d texts are given\nput a text with blanks into quotes: '%s'", len(args), strings.Join(args, " "))
	case len(args) == 1 && args[0] == "":
		return errors.New("the text is empty\nleave it out for all accounts")
	}
	return nil
}

// search returns a page. A page of the admin API can be short, though there are more:
// the gateway has searched the names of as many accounts as it does for one request.
// Then it asks for more until the page is full. With --json it does not: the answer is
// printed as it is.
func search(cmd *cobra.Command, admin *adminAPI, uri string) (operate.Accounts, error) {
	limit, _ := cmd.Flags().GetInt("limit")
	watched := isTerminal(cmd.ErrOrStderr())
	page, err := ask[operate.Accounts](cmd, admin, http.MethodGet, uri, nil)
	for parts := 2; err == nil && !admin.json && page.Next != "" && len(page.Items) < limit; parts++ {
		if watched {
			cmd.PrintErrf("searching, part %d\r", parts)
		}
		var part operate.Accounts
		part, err = ask[operate.Accounts](cmd, admin, http.MethodGet, following(uri, page.Next, limit-len(page.Items)), nil)
		if err == nil && part.Next == page.Next {
			err = errors.New("the gateway's answer goes back to what is searched")
		}
		page.Items, page.Next = append(page.Items, part.Items...), part.Next
	}
	return page, err
}

// following returns the URI of the next page, with at most so many accounts.
func following(uri, cursor string, limit int) string {
	path, text, _ := strings.Cut(uri, "?")
	query, _ := url.ParseQuery(text)
	query.Set("cursor", cursor)
	query.Set("limit", strconv.Itoa(limit))
	return path + "?" + query.Encode()
}

// noAccount returns the sentence for an empty list.
func noAccount(cmd *cobra.Command, args []string) string {
	sentence := "there is no account"
	if len(args) > 0 {
		sentence += fmt.Sprintf(" with the appid, or the beginning of the name, %q", args[0])
	}
	separator := ", of "
	for _, name := range []string{"component", "state", "client"} {
		if value := cmd.Flags().Lookup(name).Value.String(); value != "" {
			sentence += separator + name + " " + value
			separator = ", "
		}
	}
	return sentence
}

// accounts prints a page of accounts. next is the command that prints the next page, if
// --cursor is added; none is what to say if there are no accounts.
func (s screen) accounts(page operate.Accounts, next, none string) {
	if len(page.Items) == 0 && page.Next == "" {
		s.printf("%s\n", none)
		return
	}
	g := grid{header: []string{"ACCOUNT", "STATE", "KIND", "EXPIRES", "CLIENTS", "NAME"}, spare: []string{"EXPIRES", "KIND"}, least: 12}
	for _, a := range page.Items {
		g.rows = append(g.rows, []string{a.AppID, a.State, a.Kind, s.left(a), few(a.Clients), a.Name})
	}
	g.print(s)
	s.printf("%s", counted(len(page.Items), "account", "accounts"))
	if page.Next != "" {
		s.printf(" on this page; the next one: %s --cursor %s", next, page.Next)
	}
	s.printf("\n")
}

// left returns how long the token of an account lives.
func (s screen) left(a operate.Account) string {
	switch {
	case a.Expires.IsZero():
		return ""
	case a.Expires.After(s.now):
		return between(s.now, a.Expires)
	}
	return "over"
}

// few returns the first two of many names, and how many are left.
func few(names []string) string {
	const shown = 2
	if len(names) > shown {
		return fmt.Sprintf("%s,+%d", strings.Join(names[:shown], ","), len(names)-shown)
	}
	return strings.Join(names, ",")
}
