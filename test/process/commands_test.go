// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

func TestDemoWalksThroughEveryStep(t *testing.T) {
	p := launch(t, "wechat", "demo", "--once", "--proxy", freeAddress(t), "--platform", freeAddress(t), "--wechat", freeAddress(t))
	if code := p.wait(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	printed := p.output.String()
	for i, step := range []string{
		"WeChat pushes the component_verify_ticket",
		"An admin authorises an official account in the browser",
		"An admin authorises a mini program",
		"An application fetches a token",
		"It sends a customer message",
		"WeChat kills the real token",
		"A hand-written caller uses its secret as bearer",
	} {
		if !strings.Contains(printed, fmt.Sprintf("\n%d. %s", i+1, step)) {
			t.Errorf("step %d, %q, is not named", i+1, step)
		}
	}
	if !strings.Contains(printed, "All steps passed.") {
		t.Error("the demo does not say that all steps passed")
	}
	for _, token := range gatewayToken.FindAllString(printed, -1) {
		if len(token) > 48 {
			t.Errorf("a whole gateway token is printed: %s", token)
		}
	}
}

var gatewayToken = regexp.MustCompile(`gw1\.[\w.-]+`)

func TestTakenAddressIsAnsweredWithTheFlag(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, row := range []struct{ command, flag string }{
		{"demo", "--proxy"}, {"demo", "--platform"}, {"demo", "--wechat"}, {"sandbox", "--listen"},
	} {
		t.Run(row.command+" "+row.flag, func(t *testing.T) {
			arguments := []string{"wechat", row.command}
			if row.command == "demo" { // its other addresses are free
				arguments = append(arguments, "--once")
				for _, flag := range []string{"--proxy", "--platform", "--wechat"} {
					if flag != row.flag {
						arguments = append(arguments, flag, freeAddress(t))
					}
				}
			}
			p := launch(t, append(arguments, row.flag, taken.Addr().String())...)
			want := fmt.Sprintf("%s is in use: choose another address with %s", taken.Addr(), row.flag)
			if code := p.wait(); code == 0 || !strings.Contains(p.output.String(), want) {
				t.Errorf("exit code %d, want an error and %q", code, want)
			}
		})
	}
}

// Two processes, as somebody would start them in two terminals.
func TestSandboxAndGateway(t *testing.T) {
	weChat, platform, proxy := freeAddress(t), freeAddress(t), freeAddress(t)
	gateway(t, caddyfile(t, "http://"+weChat, platform, proxy), platform, proxy)
	levers := "http://" + weChat + "/_sandbox/"
	p := launch(t, "wechat", "sandbox", "--listen", weChat,
		"--events-url", "http://"+platform+"/wechat/events", "--messages-url", "http://"+platform+"/wechat/messages/$APPID$")
	p.until("pushing a ticket that is taken", func() bool {
		response, err := http.Get(levers + "pushes")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		var pushes []sandbox.PushRecord
		if err := json.NewDecoder(response.Body).Decode(&pushes); err != nil {
			t.Fatal(err)
		}
		return len(pushes) > 0 && pushes[len(pushes)-1].Body == "success"
	})
	if answer := call(t, levers+"authorize", `{"appid":"`+officialAccount+`"}`); !strings.Contains(answer, `"code"`) {
		t.Fatalf("authorising was answered %s", answer)
	}
	send(t, proxy, token(t, proxy))
	if sent := call(t, levers+"sent", ""); !strings.Contains(sent, "你好 🎉") {
		t.Errorf("WeChat took %s", sent)
	}
}

// What a gateway has been given once, it keeps through a power cut: it calls at
// once, and asks WeChat for nothing that it has been told before.
func TestKilledGatewayGoesOnWhereItWas(t *testing.T) {
	weChat, config, platform, proxy := newWeChat(t)
	first := gateway(t, config, platform, proxy)
	authorize(t, weChat)
	gatewayToken := token(t, proxy)
	send(t, proxy, gatewayToken)
	first.kill()
	weChat.ResetCounts()

	second := gateway(t, config, platform, proxy)
	send(t, proxy, gatewayToken)
	for _, path := range []string{"api_start_push_ticket", "api_component_token", "api_query_auth", "api_authorizer_token", "api_get_authorizer_info"} {
		if n := weChat.Count("/cgi-bin/component/" + path); n != 0 {
			t.Errorf("the second process called %s %d times, want never", path, n)
		}
	}
	if n := len(weChat.Pushes()); n != 0 {
		t.Errorf("WeChat pushed %d times, want never", n)
	}
	wantNoCredential(t, weChat, first.output.String()+second.output.String())
}

// Until the code of an authorisation is exchanged there is no refresh token, and
// WeChat does not tell it again: what is acknowledged must be on disk.
func TestGatewayKilledBeforeTheExchangeMakesUpForIt(t *testing.T) {
	weChat, config, platform, proxy := newWeChat(t)
	weChat.Inject(sandbox.Fault{Path: queryAuth, Reset: true})
	first := gateway(t, config, platform, proxy)
	authorize(t, weChat)
	first.kill()
	weChat.ClearFaults()
	weChat.ResetCounts()

	second := gateway(t, config, platform, proxy)
	send(t, proxy, token(t, proxy))
	if n := weChat.Count(queryAuth); n != 1 {
		t.Errorf("the second process exchanged %d codes, want the one left over", n)
	}
	wantNoCredential(t, weChat, first.output.String()+second.output.String())
}

const queryAuth = "/cgi-bin/component/api_query_auth"

// newWeChat starts a sandbox in this process, so that it outlives the gateway, and
// writes a Caddyfile for it.
func newWeChat(t *testing.T) (weChat *sandbox.Sandbox, config, platform, proxy string) {
	t.Helper()
	platform, proxy = freeAddress(t), freeAddress(t)
	weChat, err := sandbox.New(sandbox.Config{EventsURL: "http://" + platform + "/wechat/events"})
	if err != nil {
		t.Fatal(err)
	}
	if err := weChat.AddAccount(sandbox.Account{AppID: officialAccount}); err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(weChat)
	t.Cleanup(api.Close)
	return weChat, caddyfile(t, api.URL, platform, proxy), platform, proxy
}

// authorize pushes a ticket and lets the account authorise.
func authorize(t *testing.T, weChat *sandbox.Sandbox) {
	t.Helper()
	if err := weChat.PushTicket(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := weChat.Authorize(t.Context(), officialAccount); err != nil {
		t.Fatal(err)
	}
}

func wantNoCredential(t *testing.T, weChat *sandbox.Sandbox, printed string) {
	t.Helper()
	for _, credential := range weChat.Credentials() {
		if strings.Contains(printed, credential) {
			t.Errorf("a real credential (%.14s…) is printed", credential)
		}
	}
}
