// SPDX-License-Identifier: Apache-2.0

package transparent_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// platformClient is a client that may do what a third-party platform does.
const platformClient = "client shop {\nsecret " + gwtest.ClientSecret + "\nauthorizers *\ncomponent_api\n}\n"

// platform is an SDK of third-party platforms. It takes every step of steps for
// the official account, and returns what each step was answered. It can reach
// nothing but the gateway.
type platform func(t *testing.T, g *gwtest.Gateway, code string) map[string]string

// steps are what a platform does, and what has to be in the answer.
var steps = map[string][]string{
	"token":         {"gw1."},
	"pre_auth_code": {"preauthcode@@@"},
	"query_auth":    {"gw1.", "gwr1.", gwtest.OfficialAccount},
	"refresh":       {"gw1.", "gwr1."},
	"info":          {"user_name", "gwr1.", gwtest.OfficialAccount},
	"list":          {"gwr1.", gwtest.OfficialAccount, gwtest.MiniProgram},
	"set_option":    {`"errcode":0`},
	"get_option":    {"voice_recognize", `"1"`},
	"call":          {`"errcode":0`}, // with the account's token
}

func TestPlatforms(t *testing.T) {
	for name, row := range map[string]struct {
		sdk      platform
		protocol string
		lacks    []string // steps for which it has no function that works
	}{
		"fastwego/wxopen v1.0.0-beta.3": {wxopenPlatform, "HTTP/2.0", nil},
		"silenceper/wechat v2.1.10":     {silenceperPlatform, "HTTP/2.0", []string{"list", "set_option", "get_option"}},
		"nest-wechat 0.2.50":            {nestPlatform, "HTTP/1.1", []string{"list", "set_option", "get_option"}},
		"as WxJava 4.7 writes it":       {wxJavaPlatform, "HTTP/2.0", nil},
		"as PowerWeChat 3.2 writes it":  {powerWeChatPlatform, "HTTP/2.0", nil},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, gwtest.Options{Clients: platformClient})
			takeSteps(t, g, row.sdk, row.lacks)
			g.WeChat.ResetCounts()
			g.WeChat.KillTokens(g.WeChat.Component())
			takeSteps(t, g, row.sdk, row.lacks) // as though nothing had happened
			if n := g.WeChat.Count("/cgi-bin/component/api_component_token"); n != 1 {
				t.Errorf("%d renewals of the component's token, want 1", n)
			}
			wantName(t, g, row.protocol)
			wantNothingOfOurs(t, g)
		})
	}
}

// takeSteps lets an SDK take all steps with a new code.
func takeSteps(t *testing.T, g *gwtest.Gateway, sdk platform, lacks []string) {
	t.Helper()
	code, err := g.WeChat.Authorize(t.Context(), gwtest.OfficialAccount)
	if err != nil {
		t.Fatal(err)
	}
	answers := sdk(t, g, code)
	for step, want := range steps {
		answer, taken := answers[step]
		if taken == slices.Contains(lacks, step) {
			t.Errorf("%s: taken is %t", step, taken)
			continue
		}
		for _, part := range want {
			if taken && !strings.Contains(answer, part) {
				t.Errorf("%s was answered %s, want %s in it", step, answer, part)
			}
		}
		g.SearchCredentials("the answer to "+step, []byte(answer))
	}
}

// A wrong secret is a clear error for a platform as well.
func TestPlatformWithWrongSecret(t *testing.T) {
	g := start(t, gwtest.Options{Clients: platformClient})
	var got struct{ Error string }
	runNode(t, "platform.js", &got, map[string]string{
		"component": g.WeChat.Component(), "secret": "not-the-secret-0123456789abcdef012345", "appid": gwtest.OfficialAccount,
	}, trust(g), "GATEWAY="+g.Sites)
	if want := "40125,invalid appsecret, use the client's secret at the gateway (gateway)"; got.Error != want {
		t.Errorf("got %q, want %q", got.Error, want)
	}
	wantNoCalls(t, g, "/cgi-bin/component/api_component_token")
}

// nestPlatform runs nest-wechat. Its list of accounts goes to another path, and
// it has no function for options.
func nestPlatform(t *testing.T, g *gwtest.Gateway, code string) map[string]string {
	t.Helper()
	var printed map[string]json.RawMessage
	runNode(t, "platform.js", &printed, map[string]string{
		"component": g.WeChat.Component(), "secret": gwtest.ClientSecret, "appid": gwtest.OfficialAccount, "code": code,
	}, trust(g), "GATEWAY="+g.Sites)
	answers := make(map[string]string)
	for step, answer := range printed {
		if step == "error" {
			t.Fatalf("the SDK says: %s", answer)
		}
		answers[step] = string(answer)
	}
	return answers
}
