// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/version"
)

// People read one line, programs the same as JSON; no gateway needs to run.
func TestVersionIsPrinted(t *testing.T) {
	want := version.Get()
	got := execute("version")
	if got.code != 0 || got.err != "" || strings.Count(got.out, "\n") != 1 || !strings.HasPrefix(got.out, want.Version+" with Caddy ") ||
		!strings.HasSuffix(got.out, ", "+want.Go+" "+want.OS+"/"+want.Arch+"\n") {
		t.Errorf("%+v, want %+v in one line", got, want)
	}
	var printed version.Info
	if got := execute("version", "--json"); got.code != 0 || json.Unmarshal([]byte(got.out), &printed) != nil || printed != want {
		t.Errorf("--json: %+v, want %+v", got, want)
	}
	if got := execute("version", "now"); got.code != 1 || got.out != "" {
		t.Errorf("an argument too many: %+v", got)
	}
}
