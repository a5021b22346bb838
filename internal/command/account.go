// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// accountCommand returns the command that shows one account or acts on it.
func accountCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account <appid> [renew | reread | forget]",
		Short: "Show an account; renew its token, read it anew, forget it",
		Long: `Shows all that is known of an account: its state, with cause and remedy, its token,
what WeChat refused last, who may act for it and which permission sets it has granted.

  renew   has a new token made now, also if the last attempt has failed a moment ago
  reread  asks WeChat anew for its refresh token, name, kind and permission sets
  forget  deletes what is stored of it. That is refused while it is authorized: it
          would come back by itself. It does not ask.`,
	}
	flags := cmd.Flags()
	flags.String("component", "", "component_appid; may be left out where there is one")
	flags.String("lang", "", "names of permission sets: zh or en; default: zh")
	admin := new(adminAPI)
	admin.addFlags(cmd)
	return run(cmd, accountAndAction, func(args []string) error {
		uri := "/wechat/accounts/" + args[0]
		if len(args) == 1 {
			return showAccount(cmd, admin, http.MethodGet, uri+queryOf(cmd, "component", "lang"), "")
		}
		uri += "/" + args[1]
		switch args[1] {
		case "renew":
			return showAccount(cmd, admin, http.MethodPost, uri+queryOf(cmd, "component", "lang"), "the token is renewed")
		case "reread":
			return showAccount(cmd, admin, http.MethodPost, uri+queryOf(cmd, "component", "lang"), "the account is read anew")
		}
		result, err := ask[operate.Count](cmd, admin, http.MethodPost, uri+queryOf(cmd, "component"), nil)
		if err == nil && !admin.json {
			newScreen(cmd).printf("%s forgotten\n", counted(result.Count, "account is", "accounts are"))
		}
		return err
	})
}

// accountAndAction are the arguments of the command account.
func accountAndAction(cmd *cobra.Command, args []string) error {
	actions := []string{"renew", "reread", "forget"}
	switch {
	case len(args) == 0:
		return fmt.Errorf("no account is named\nwrite caddy wechat %s; caddy wechat accounts lists them", cmd.Use)
	case slices.Contains(actions, args[0]):
		return fmt.Errorf("the account is named first\nwrite caddy wechat account <appid> %s", args[0])
	case !subject.ValidAppID(args[0]):
		return fmt.Errorf("%q is no appid\ncopy it from caddy wechat accounts, which also finds the beginning of a name", args[0])
	case len(args) > 2:
		return errors.New("more than one action is named\ndo one after the other")
	case len(args) == 2 && !slices.Contains(actions, args[1]):
		remedy := "known are: " + strings.Join(actions, ", ")
		if meant := similar(args[1], actions); len(meant) > 0 {
			remedy = didYouMean(meant)
		}
		return fmt.Errorf("unknown action %q\n%s", args[1], remedy)
	}
	return nil
}

// showAccount makes a request that is answered with an account, and prints what is done
// and the account.
func showAccount(cmd *cobra.Command, admin *adminAPI, method, uri, done string) error {
	account, err := ask[operate.AccountDetail](cmd, admin, method, uri, nil)
	if err != nil || admin.json {
		return err
	}
	s := newScreen(cmd)
	if done != "" {
		s.printf("%s\n\n", done)
	}
	s.account(account)
	return nil
}

// account prints all that is known of an account.
func (s screen) account(a operate.AccountDetail) {
	s.printf("%s\n", plain(strings.TrimSpace(a.AppID+"  "+a.Name)))
	s.entry("state", a.State)
	s.cause(a.Cause)
	s.entry("kind", a.Kind)
	s.entry("principal", a.Principal)
	s.entry("component", a.Component)
	s.entry("token", s.expiry(a.Expires))
	s.moment("obtained", a.Obtained)
	s.moment("learned", a.Learned)
	s.moment("last event", a.Authorised)
	if a.CoolingUntil.After(s.now) {
		s.entry("waits", "nothing is tried for "+between(s.now, a.CoolingUntil)+", until "+s.clock(a.CoolingUntil), "caddy wechat account "+a.AppID+" renew tries at once")
	}
	s.failure("failed last", a.LastFailure)
	s.failure("refused last", a.Advice)
	if a.Pending {
		s.entry("pending", "its authorisation code is being exchanged")
	}
	if a.Unstored {
		s.entry("unstored", "its record is in this node's memory only: see caddy wechat status")
	}
	clients := "none may act for it"
	if len(a.Clients) > 0 {
		clients = strings.Join(a.Clients, ", ")
	}
	s.entry("clients", clients)
	granted := []string{"none"}
	if len(a.Permissions) > 0 {
		granted = nil
	}
	for _, p := range a.Permissions {
		granted = append(granted, strings.TrimSpace(fmt.Sprintf("%d %s", p.ID, p.Name)))
	}
	s.entry("permissions", granted...)
}

// cause prints why an account is not authorized, or fails.
func (s screen) cause(c operate.Cause) {
	if c == (operate.Cause{}) {
		return
	}
	s.moment("since", c.Since)
	s.entry("cause", c.Text, c.Remedy)
	if c.Slug != "" {
		s.entry("callers", "are told "+c.Slug)
	}
	if c.Errcode != 0 {
		text := fmt.Sprintf("errcode %d", c.Errcode)
		if c.RID != "" {
			text += ", rid " + c.RID
		}
		s.entry("WeChat", text)
	}
}
