// SPDX-License-Identifier: Apache-2.0

package subject_test

import (
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// A component may be left out where there is one; it is never guessed.
func TestNamedComponent(t *testing.T) {
	none := map[string]int{}
	one := map[string]int{"wxa": 1}
	two := map[string]int{"wxa": 1, "wxb": 2}
	for name, row := range map[string]struct {
		configured map[string]int
		asked      string
		appid      string
		value      int
		ok         bool
	}{
		"the only one":            {one, "", "wxa", 1, true},
		"the only one, by name":   {one, "wxa", "wxa", 1, true},
		"another than the one":    {one, "wxb", "wxb", 0, false},
		"one of two":              {two, "wxb", "wxb", 2, true},
		"two, and none is named":  {two, "", "", 0, false},
		"none, and none is named": {none, "", "", 0, false},
	} {
		appid, value, ok := subject.Named(row.configured, row.asked)
		if appid != row.appid || value != row.value || ok != row.ok {
			t.Errorf("%s: %q %d %v", name, appid, value, ok)
		}
	}
}
