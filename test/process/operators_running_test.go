// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// A new operator finds out in his shell how a gateway is, which accounts it has, what was
// pushed and who calls; and no command shows a credential.
func TestOperatorsSeeInTheirShellWhatGoesOn(t *testing.T) {
	weChat, n := newWeChat(t)
	n.Admin = "unix/" + filepath.Join(t.TempDir(), "admin")
	weChat.Inject(sandbox.Fault{Path: "/cgi-bin/component/api_start_push_ticket", ErrCode: -1}) // no ticket comes at the start
	gateway(t, n)
	all := ""
	run := func(code int, want, arguments string) {
		t.Helper()
		p := caddy.Launch(t, append([]string{"wechat"}, append(strings.Fields(arguments), "--address", n.Admin)...)...)
		if got := p.Wait(); got != code || !regexp.MustCompile(want).MatchString(p.Printed()) {
			t.Errorf("%s: exit code %d, want %d and %q of\n%s", arguments, got, code, want, p.Printed())
		}
		all += p.Printed()
	}
	run(2, `(?s)^broken: node .*no component_verify_ticket.*\n  ticket        never\n`, "status")
	run(2, `^\{"version":.*"level":2,`, "status --json")
	run(0, `^ok\n$`, "health --live")
	run(0, `^there is no account\n$`, "accounts")

	weChat.ClearFaults()
	authorize(t, weChat)
	send(t, n.Proxy, token(t, n.Proxy))
	run(0, `^ok\n$`, "health")
	run(0, `(?m)^  ticket        \d+[sm] ago \(`, "status")
	run(0, `(?m)^`+officialAccount+`  authorized .* shop( .*)?\n1 account\n`, "accounts")
	run(0, `^\{"items":\[\{"appid":"`+officialAccount+`",`, "accounts --json --limit 1")
	run(0, `(?m)^  state         authorized\n(.*\n)*  clients       shop\n`, "account "+officialAccount)
	run(0, `^the token is renewed\n\n`+officialAccount, "account "+officialAccount+" renew")
	run(0, `^the account is read anew\n\n`+officialAccount, "account "+officialAccount+" reread")
	run(1, `^Error: the account is authorized`, "account "+officialAccount+" forget")
	run(1, `^Error: account wx0000000000000001 is not known`, "account wx0000000000000001")
	run(0, `(?m) component_verify_ticket  acknowledged  200 `, "pushes")
	run(0, `(?m)^1 +shop +`+officialAccount+` +0 +WeChat .* /cgi-bin/message/custom$`, "usage --client shop")
	run(1, `write a number from 1 to 1000, or leave it out for 50`, "accounts --limit 1000000000")
	run(1, `begin without a cursor`, "accounts --cursor dead.")
	run(1, `(?m)^known are: shop$`, "usage --client shopp")
	caddy.WantNoCredential(t, append(weChat.Credentials(), caddy.ClientSecret), "what is printed", all)
}
