// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

func TestDemoWalksThroughEveryStep(t *testing.T) {
	proxy, platform := caddy.FreeAddress(t), caddy.FreeAddress(t)
	p := caddy.Launch(t, "wechat", "demo", "--once", "--proxy", proxy, "--platform", platform, "--wechat", caddy.FreeAddress(t), "--admin", caddy.FreeAddress(t))
	if code := p.Wait(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	printed := p.Printed()
	for i, step := range []string{
		"WeChat pushes the component_verify_ticket",
		"An admin authorises an official account in the browser",
		"An admin authorises a mini program",
		"An application fetches a token",
		"It sends a customer message",
		"WeChat kills the real token",
		"A hand-written caller uses its secret as bearer",
		"A follower writes to the official account, and an application replies",
		"WeChat's publish test (全网发布检测) passes, without an application",
	} {
		if !strings.Contains(printed, fmt.Sprintf("\n%d. %s", i+1, step)) {
			t.Errorf("step %d, %q, is not named", i+1, step)
		}
	}
	if !strings.Contains(printed, "All steps passed.") {
		t.Error("the demo does not say that all steps passed")
	}
	if strings.Contains(printed, `{"level"`) {
		t.Error("a log line stands between the steps, though nothing is wrong")
	}
	for _, token := range gatewayToken.FindAllString(printed, -1) {
		if len(token) > 48 {
			t.Errorf("a whole gateway token is printed: %s", token)
		}
	}
	if want := "← the follower reads: 收到：有货吗？"; !strings.Contains(printed, want) || !strings.Contains(printed, "<Content><![CDATA[有货吗？]]></Content>") {
		t.Errorf("the text of the follower at the application, and %q, are not printed", want)
	}
	for _, readme := range []string{"README.md", "README.zh-CN.md"} {
		wantShortened(t, readme, strings.NewReplacer(proxy, "127.0.0.1:8080", platform, "127.0.0.1:8081").Replace(printed))
	}
}

// wantShortened checks that the output of the demo in a README is what it prints, but
// for lines that are left out. Its … stands for anything, and every step is named.
func wantShortened(t *testing.T, readme, printed string) {
	t.Helper()
	text, err := os.ReadFile("../../" + readme)
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```\n(1\\. WeChat pushes.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatalf("%s does not show the output of the demo", readme)
	}
	rest, steps := printed, 0
	for line := range strings.Lines(string(block[1])) {
		shown := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSuffix(line, "\n")), "…", ".*")
		at := regexp.MustCompile("(?m)^" + shown + "$").FindStringIndex(rest)
		if at == nil {
			t.Errorf("%s shows the line %q, which the demo does not print there", readme, line)
			continue
		}
		rest = rest[at[1]:]
		if line[0] != ' ' {
			steps++
		}
	}
	if want := len(regexp.MustCompile(`(?m)^\d+\. `).FindAllString(printed, -1)); steps != want {
		t.Errorf("%s names %d steps of the demo, want %d", readme, steps, want)
	}
}

// What the demo invites to try works under every name of this machine, also what an
// operator would ask.
func TestDemoAnswersEveryHost(t *testing.T) {
	proxy, platform, admin := caddy.FreeAddress(t), caddy.FreeAddress(t), caddy.FreeAddress(t)
	p := caddy.Launch(t, "wechat", "demo", "--proxy", proxy, "--platform", platform, "--wechat", caddy.FreeAddress(t), "--admin", admin)
	p.Until("inviting to try", func() bool { return strings.Contains(p.Printed(), "It stays up") })
	for url, want := range map[string]string{"http://" + proxy + "/cgi-bin/user/get": "41001", "http://" + platform + "/wechat/authorize": "<html"} {
		request, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "localhost"
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if body, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s is answered %d %q (%v) to localhost, want %s", url, response.StatusCode, body, err, want)
		}
	}
	invited := regexp.MustCompile(`(?m)^  \S*caddy (wechat status --address \S+) `).FindStringSubmatch(p.Printed())
	if invited == nil {
		t.Fatal("the demo does not name the command that shows whether it is well")
	}
	asked := caddy.Launch(t, strings.Fields(invited[1])...)
	if code := asked.Wait(); code != 0 || !strings.HasPrefix(asked.Printed(), "well: ") || !strings.Contains(invited[1], admin) {
		t.Errorf("%s: exit code %d, printed %q", invited[1], code, asked.Printed())
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
		{"demo", "--proxy"}, {"demo", "--platform"}, {"demo", "--wechat"}, {"demo", "--admin"}, {"sandbox", "--listen"},
	} {
		t.Run(row.command+" "+row.flag, func(t *testing.T) {
			arguments := []string{"wechat", row.command}
			if row.command == "demo" { // its other addresses are free
				arguments = append(arguments, "--once")
				for _, flag := range []string{"--proxy", "--platform", "--wechat", "--admin"} {
					if flag != row.flag {
						arguments = append(arguments, flag, caddy.FreeAddress(t))
					}
				}
			}
			p := caddy.Launch(t, append(arguments, row.flag, taken.Addr().String())...)
			want := fmt.Sprintf("%s is in use: choose another address with %s", taken.Addr(), row.flag)
			if code := p.Wait(); code == 0 || !strings.Contains(p.Printed(), want) {
				t.Errorf("exit code %d, want an error and %q", code, want)
			}
		})
	}
}

// Caddy would let two servers share one address, and each answer some of the calls.
func TestDemoRefusesAnAddressThatIsNamedTwice(t *testing.T) {
	same := caddy.FreeAddress(t)
	p := caddy.Launch(t, "wechat", "demo", "--once", "--proxy", same, "--platform", caddy.FreeAddress(t), "--wechat", caddy.FreeAddress(t), "--admin", same)
	if code := p.Wait(); code == 0 || !strings.Contains(p.Printed(), same+" is in use: choose another address with --admin") {
		t.Errorf("exit code %d, want an error that names --admin", code)
	}
}

// Two processes, as somebody would start them in two terminals.
func TestSandboxAndGateway(t *testing.T) {
	weChat, platform, proxy := caddy.FreeAddress(t), caddy.FreeAddress(t), caddy.FreeAddress(t)
	gateway(t, node(t, "http://"+weChat, platform, proxy))
	levers := "http://" + weChat + "/_sandbox/"
	p := caddy.Launch(t, "wechat", "sandbox", "--listen", weChat,
		"--events-url", "http://"+platform+"/wechat/events", "--messages-url", "http://"+platform+"/wechat/messages/$APPID$")
	p.Until("pushing a ticket that is taken", func() bool {
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

// The publish test says by its exit code whether the gateway passes, and what a gateway
// needs that takes no ticket.
func TestPublishTestWithoutAGateway(t *testing.T) {
	nobody := "http://" + caddy.FreeAddress(t)
	p := caddy.Launch(t, "wechat", "sandbox", "--publish-test", "--group", "4", "--listen", caddy.FreeAddress(t),
		"--events-url", nobody+"/wechat/events", "--messages-url", nobody+"/wechat/messages/$APPID$")
	code, printed := p.Wait(), p.Printed()
	for _, want := range []string{"Group 4 of the test accounts", "FAILED  ticket", "connection refused", "component " + sandbox.DefaultComponent, "the publish test failed: 1 of 1 steps"} {
		if code != 1 || !strings.Contains(printed, want) {
			t.Errorf("exit code %d, %q is printed: %v", code, want, strings.Contains(printed, want))
		}
	}
}

// A gateway passes with all test accounts, as its own process and without a client that
// could help.
func TestPublishTestPasses(t *testing.T) {
	for _, more := range [][]string{nil, {"--different-codes", "--old-steps"}} {
		weChat := caddy.FreeAddress(t)
		n := node(t, "http://"+weChat, caddy.FreeAddress(t), caddy.FreeAddress(t))
		p := gateway(t, n)
		test := caddy.Launch(t, append([]string{"wechat", "sandbox", "--publish-test", "--listen", weChat,
			"--events-url", "http://" + n.Platform + "/wechat/events", "--messages-url", "http://" + n.Platform + "/wechat/messages/$APPID$"}, more...)...)
		if code := test.Wait(); code != 0 || !strings.Contains(test.Printed(), "steps passed.") || strings.Contains(test.Printed(), "FAILED") {
			t.Errorf("%v: exit code %d, %s", more, code, test.Printed())
		}
		if strings.Contains(p.Printed(), "queryauthcode@@@") {
			t.Errorf("a code is printed: %s", p.Printed())
		}
	}
}

// What a gateway has been given once, it keeps through a power cut: it calls at
// once, and asks WeChat for nothing that it has been told before.
func TestKilledGatewayGoesOnWhereItWas(t *testing.T) {
	weChat, n := newWeChat(t)
	first := gateway(t, n)
	authorize(t, weChat)
	gatewayToken := token(t, n.Proxy)
	send(t, n.Proxy, gatewayToken)
	first.Kill()
	weChat.ResetCounts()

	second := gateway(t, n)
	send(t, n.Proxy, gatewayToken)
	for _, path := range []string{"api_start_push_ticket", "api_component_token", "api_query_auth", "api_authorizer_token", "api_get_authorizer_info"} {
		if n := weChat.Count("/cgi-bin/component/" + path); n != 0 {
			t.Errorf("the second process called %s %d times, want never", path, n)
		}
	}
	if n := len(weChat.Pushes()); n != 0 {
		t.Errorf("WeChat pushed %d times, want never", n)
	}
	caddy.WantNoCredential(t, weChat.Credentials(), "what was printed", first.Printed()+second.Printed())
}

// Until the code of an authorisation is exchanged there is no refresh token, and
// WeChat does not tell it again: what is acknowledged must be on disk.
func TestGatewayKilledBeforeTheExchangeMakesUpForIt(t *testing.T) {
	weChat, n := newWeChat(t)
	weChat.Inject(sandbox.Fault{Path: queryAuth, Reset: true})
	first := gateway(t, n)
	authorize(t, weChat)
	first.Kill()
	weChat.ClearFaults()
	weChat.ResetCounts()

	second := gateway(t, n)
	send(t, n.Proxy, token(t, n.Proxy))
	if n := weChat.Count(queryAuth); n != 1 {
		t.Errorf("the second process exchanged %d codes, want the one left over", n)
	}
	caddy.WantNoCredential(t, weChat.Credentials(), "what was printed", first.Printed()+second.Printed())
}

const queryAuth = "/cgi-bin/component/api_query_auth"

// newWeChat starts a sandbox in this process, so that it outlives the gateway, and
// describes a gateway for it.
func newWeChat(t *testing.T) (*sandbox.Sandbox, caddy.Node) {
	t.Helper()
	platform := caddy.FreeAddress(t)
	weChat, err := sandbox.New(sandbox.Config{EventsURL: "http://" + platform + "/wechat/events"})
	if err != nil {
		t.Fatal(err)
	}
	if err := weChat.AddAccount(sandbox.Account{AppID: officialAccount}); err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(weChat)
	t.Cleanup(api.Close)
	return weChat, node(t, api.URL, platform, caddy.FreeAddress(t))
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
