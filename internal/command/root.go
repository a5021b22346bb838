// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Root makes cmd the command wechat: it gets the subcommands, and refuses others.
func Root(cmd *cobra.Command) {
	cmd.AddCommand(Commands()...)
	cmd.DisableFlagsInUseLine = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 || args[0] == "help" {
			return cmd.Help()
		}
		return end(cmd, exitFailed, unknown(cmd, args[0]))
	}
	// Subcommands without a function of their own for this use it as well.
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
			err = unknown(cmd, args[0]) // its flags are unknown because it is
		}
		return end(cmd, exitFailed, err)
	})
}

// onlySubcommands are the arguments of a command that has subcommands and takes
// nothing else.
func onlySubcommands(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknown(cmd, args[0])
	}
	return nil
}

// unknown returns the error for a subcommand that cmd does not have.
func unknown(cmd *cobra.Command, typed string) error {
	cmd.SuggestionsMinimumDistance = 2 // letters that may differ
	remedy := fmt.Sprintf("%s --help lists all", cmd.CommandPath())
	if meant := cmd.SuggestionsFor(typed); len(meant) > 0 {
		remedy = didYouMean(meant)
	}
	return fmt.Errorf("unknown command %q for %q\n%s", typed, cmd.CommandPath(), remedy)
}

// similar returns the words that may be meant by another.
func similar(typed string, words []string) []string {
	cmd := &cobra.Command{SuggestionsMinimumDistance: 2} // cobra compares with the names of subcommands
	for _, word := range words {
		cmd.AddCommand(&cobra.Command{Use: word, Run: func(*cobra.Command, []string) {}})
	}
	return cmd.SuggestionsFor(typed)
}

// didYouMean asks for one of these words.
func didYouMean(words []string) string {
	slices.Sort(words)
	return "did you mean " + strings.Join(words, " or ") + "?"
}
