// SPDX-License-Identifier: Apache-2.0

package command

import (
	"strings"
	"testing"
)

// Whoever mistypes a command is told so, with what he may have meant, and the exit code
// is not 0.
func TestUnknownSubcommandsAreErrors(t *testing.T) {
	for typed, want := range map[string]string{
		"syn":                       "unknown command \"syn\" for \"caddy wechat\"\ndid you mean sync?",
		"evnets":                    "did you mean events?",
		"SYNC2":                     "did you mean sync?",
		"xyz":                       "caddy wechat --help lists all",
		"synch --component wx1":     "unknown command \"synch\" for \"caddy wechat\"\ndid you mean sync?", // and not its flag
		"--component wx1":           "unknown flag: --component",
		"events lst":                "unknown command \"lst\" for \"caddy wechat events\"\ndid you mean list or test?",
		"events rplay --event-id 1": "unknown command \"rplay\" for \"caddy wechat events\"\ndid you mean replay?",
		"events list all":           `unknown command "all" for "caddy wechat events list"`,
		"sync all":                  `unknown command "all" for "caddy wechat sync"`,
	} {
		if got := execute(strings.Fields(typed)...); got.code != 1 || got.out != "" || !strings.Contains(got.err, want) || strings.Count(got.err, "Error") != 1 {
			t.Errorf("%s: %+v, want %q", typed, got, want)
		}
	}
}

// Whoever asks for help gets it, and that is no error.
func TestTheCommandHelps(t *testing.T) {
	for _, typed := range []string{"", "--help", "help", "help status"} {
		got := execute(strings.Fields(typed)...)
		if got.code != 0 || got.err != "" {
			t.Errorf("%q: %+v", typed, got)
		}
		for _, cmd := range Commands() {
			if !strings.Contains(got.out, "\n  "+cmd.Name()+" ") {
				t.Errorf("%q does not list %s", typed, cmd.Name())
			}
		}
	}
}
