// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// wantWords runs caddy wechat and checks its exit code, and that it says in plain words,
// without colours and log lines, what is wanted.
func wantWords(t *testing.T, code int, want string, arguments ...string) {
	t.Helper()
	p := caddy.Launch(t, append([]string{"wechat"}, arguments...)...)
	if got := p.Wait(); got != code || !strings.Contains(p.Printed(), want) || strings.ContainsAny(p.Printed(), "\x1b\r") || strings.Contains(p.Printed(), `"level"`) {
		t.Errorf("%q: exit code %d, want %d and %q of\n%s", arguments, got, code, want, p.Printed())
	}
}

// Who watches the gateway must not take a mistake in his command for a warning of the
// gateway, which is 1: Caddy itself ends with 1 for all mistakes.
func TestNobodyCanTellHowAGatewayIsThatIsNotAsked(t *testing.T) {
	nobody := "unix/" + filepath.Join(t.TempDir(), "nobody")
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	for _, command := range []string{"status", "health", "doctor"} {
		wantWords(t, 3, "is the gateway running? its admin API is not at "+nobody, command, "--address", nobody)
		wantWords(t, 3, "invalid admin address", command, "--address", "127.0.0.1:1-9")
		wantWords(t, 3, "unknown flag: --colour", command, "--colour")
		wantWords(t, 3, `unknown command "now"`, command, "now")
		wantWords(t, 3, "no such file", command, "--config", "/nowhere/Caddyfile")
	}
	wantWords(t, 3, "the admin API of a gateway of this version?", "status", "--address", strings.TrimPrefix(other.URL, "http://"))
	for _, command := range []string{"accounts", "account wxaaaaaaaaaaaaaaaa", "account wxaaaaaaaaaaaaaaaa renew", "pushes", "usage", "events", "sync", "reseal"} {
		wantWords(t, 1, "is the gateway running?", append(strings.Fields(command), "--address", nobody)...)
	}
}

// Caddy is found at the address in its configuration.
func TestCommandsFindTheGatewayInItsConfiguration(t *testing.T) {
	_, n := newWeChat(t)
	n.Admin = "unix/" + filepath.Join(t.TempDir(), "admin")
	file := filepath.Join(t.TempDir(), "Caddyfile")
	n.Write(t, file)
	p := caddy.Launch(t, "wechat", "status", "--config", file)
	if code := p.Wait(); code != 3 || !strings.Contains(p.Printed(), "is the gateway running? its admin API is not at "+n.Admin) {
		t.Errorf("exit code %d, %s", code, p.Printed())
	}
}

func TestUnknownSubcommandsEndWithAnError(t *testing.T) {
	wantWords(t, 1, "unknown command \"acounts\" for \"caddy wechat\"\ndid you mean account or accounts?", "acounts")
	wantWords(t, 1, "unknown command \"helth\" for \"caddy wechat\"\ndid you mean health?", "helth", "--json")
	wantWords(t, 1, "unknown command \"xyz\" for \"caddy wechat\"\ncaddy wechat --help lists all", "xyz")
	wantWords(t, 1, "unknown command \"replya\" for \"caddy wechat events\"\ndid you mean replay?", "events", "replya")
	wantWords(t, 1, "unknown action \"forgt\"\ndid you mean forget?", "account", "wxaaaaaaaaaaaaaaaa", "forgt")
	wantWords(t, 1, "no account is named", "account")
	wantWords(t, 0, "\n  doctor ", "--help")
	wantWords(t, 0, "\n  doctor ")
}
