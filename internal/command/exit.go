// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"slices"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// Exit codes. The commands status, health and doctor end as Nagios and its kind want
// it: with a level of package operate, which are 0, 1 and 2, or with exitUnknown. All
// others end with 0 or exitFailed.
const (
	exitFailed  = 1
	exitUnknown = 3 // nobody has said how the gateway is
)

// run makes do the function of cmd. What it is given besides flags must be as args
// wants. An interrupt ends the process at once; what the gateway has begun it ends by
// itself.
func run(cmd *cobra.Command, args cobra.PositionalArgs, do func(args []string) error) *cobra.Command {
	cmd.Args = args
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := do(args); err != nil {
			return end(cmd, exitFailed, err)
		}
		return nil
	}
	return cmd
}

// look makes do the function of cmd, which takes no arguments and says by its exit
// code how the gateway is: by the level that do returns, or by exitUnknown if that is
// no level or do has failed.
func look(cmd *cobra.Command, do func() (level int, err error)) *cobra.Command {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return end(cmd, exitUnknown, err) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := cobra.NoArgs(cmd, args); err != nil { // not by cmd.Args: then Caddy ends with 1
			return end(cmd, exitUnknown, err)
		}
		level, err := do()
		if err == nil && !slices.Contains([]int{operate.LevelWell, operate.LevelWarnings, operate.LevelBroken}, level) {
			err = errors.New("the gateway answers with a level that this command does not know\nrun the command of the gateway's own version")
		}
		if err != nil {
			level = exitUnknown
		}
		return end(cmd, level, err)
	}
	return cmd
}

// end prints err as plain words and returns what makes Caddy end the process with this
// code. An error that is returned to Caddy as it is would become a line of its log,
// which is JSON where there is no terminal.
func end(cmd *cobra.Command, code int, err error) error {
	if err != nil {
		cmd.PrintErrln(cmd.ErrPrefix(), plainLines(err.Error())) // parts of it may come from outside
	}
	cmd.SilenceErrors = true
	switch {
	case code == 0:
		return nil
	case code == exitFailed && err != nil:
		return err
	case code == exitFailed: // Caddy makes 0 of a 1 without an error
		return errors.New("there are warnings")
	}
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(cmd, nil)
}
