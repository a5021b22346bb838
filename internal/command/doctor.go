// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// doctorCommand returns the command that has the gateway examined.
func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what is wrong, and what to do about it",
		Long: `Has the gateway examine itself: its clock against WeChat's, who answers under the names of
WeChat's API, the app secret, tickets, token and EncodingAESKey against the last push,
WeChat's white list, the storage, public_url, and whether credentials are kept out of the
logs. It asks WeChat to push a ticket, once a minute at most, and waits for it up to 15
seconds; as long as pushes come every ten minutes, WeChat need not send another. For the
logs it reads the configuration from the admin API and hands it to the gateway there.
Nothing is changed.` + exitCodes,
	}
	admin := &adminAPI{limit: time.Minute}
	admin.addFlags(cmd)
	return look(cmd, func() (int, error) {
		config, err := admin.request(http.MethodGet, "/config/", nil)
		var refused *refusal
		switch {
		case errors.As(err, &refused):
			cmd.PrintErrf("The configuration cannot be read, so nobody looks at the logs in it: %s\n", refused)
		case err != nil:
			return 0, err
		}
		diagnosis, err := ask[operate.Diagnosis](cmd, admin, http.MethodPost, "/wechat/doctor", config)
		if err == nil && !admin.json {
			newScreen(cmd).diagnosis(diagnosis)
		}
		return diagnosis.Level, err
	})
}

// diagnosis prints what was found. The first line says all in short, as of a status.
func (s screen) diagnosis(d operate.Diagnosis) {
	failed, longest := 0, 0
	for _, f := range d.Items {
		if !f.OK {
			failed++
		}
		longest = max(longest, len("ok  "+f.Check))
	}
	s.printf("%s: node %s, %d of %s found something\n\n", level(d.Level), plain(d.Node), failed, counted(len(d.Items), "check has", "checks have"))
	for _, f := range d.Items {
		result := "ok  "
		if !f.OK {
			result = "!!  "
		}
		about := f.Found
		if f.Component != "" {
			about = f.Component + ": " + f.Found
		}
		s.beside(longest, result+plain(f.Check), about, f.Remedy)
	}
}
