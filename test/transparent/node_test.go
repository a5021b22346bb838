// SPDX-License-Identifier: Apache-2.0

package transparent_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/test/need"
)

// login is what oauth.js prints.
type login struct {
	OpenID, Nickname, Scope string
	Error                   string
	Code                    any
}

// logIn lets alice log in with oauth.js under the secret.
func logIn(t *testing.T, g *gwtest.Gateway, secret string, environment ...string) (got login) {
	t.Helper()
	runNode(t, "oauth.js", &got, map[string]string{
		"appid": gwtest.OfficialAccount, "secret": secret, "code": g.WeChat.NewUserCode(gwtest.OfficialAccount, "alice"),
	}, append(environment, "GATEWAY="+g.Sites)...)
	return got
}

// runNode runs a program, and decodes what it prints. Credentials go through
// standard input: arguments are everybody's to read.
func runNode(t *testing.T, program string, printed any, given map[string]string, environment ...string) {
	t.Helper()
	node := need.Command(t, "install Node.js 18 or newer (apt-get install nodejs npm)", "node")
	need.File(t, "run npm ci --ignore-scripts in test/transparent", "node_modules/nest-wechat")
	input, err := json.Marshal(given)
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	command := exec.CommandContext(t.Context(), node, "--no-deprecation", "--require=./redirect.js", program)
	command.Env = append(append(os.Environ(), "no_proxy="+host), environment...)
	command.Stdin, command.Stderr = bytes.NewReader(input), &complaints
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, &complaints)
	}
	if err := json.Unmarshal(output, printed); err != nil {
		t.Fatalf("%s printed %q: %v", program, output, err)
	}
}

// trust is how Node is told to trust the gateway.
func trust(g *gwtest.Gateway) string { return "NODE_EXTRA_CA_CERTS=" + rootFile(g) }

func alice(g *gwtest.Gateway) login {
	return login{OpenID: g.WeChat.OpenID(gwtest.OfficialAccount, "alice"), Nickname: "沙箱用户", Scope: "snsapi_userinfo"}
}

func TestOAuth(t *testing.T) {
	g := start(t, gwtest.Options{})
	if got, want := logIn(t, g, gwtest.ClientSecret, trust(g)), alice(g); got != want {
		t.Errorf("logged in as %+v, want %+v", got, want)
	}
	wantName(t, g, "HTTP/1.1")
	wantNothingOfOurs(t, g)
	wantNoCalls(t, g, "/sns/oauth2/access_token")
}

func TestOAuthWithKilledComponentToken(t *testing.T) {
	g := start(t, gwtest.Options{})
	logIn(t, g, gwtest.ClientSecret, trust(g))
	g.WeChat.ResetCounts()
	g.WeChat.KillTokens(g.WeChat.Component())
	if got, want := logIn(t, g, gwtest.ClientSecret, trust(g)), alice(g); got != want {
		t.Errorf("logged in as %+v, want %+v", got, want)
	}
	if n := g.WeChat.Count("/cgi-bin/component/api_component_token"); n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
}

func TestOAuthWithWrongSecret(t *testing.T) {
	g := start(t, gwtest.Options{})
	got := logIn(t, g, "not-the-secret-0123456789abcdef012345", trust(g))
	want := login{Error: "invalid appsecret, use the client's secret at the gateway (gateway)", Code: 40125.0}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	wantNoCalls(t, g, "/sns/oauth2/access_token", "/sns/oauth2/component/access_token")
}

func TestOAuthWithoutTheRoot(t *testing.T) {
	g := start(t, gwtest.Options{})
	got := logIn(t, g, gwtest.ClientSecret, "NODE_EXTRA_CA_CERTS=")
	if got.Code != "UNABLE_TO_GET_ISSUER_CERT_LOCALLY" || !strings.Contains(got.Error, "unable to get local issuer certificate") {
		t.Errorf("got %+v, want that the certificate is not trusted", got)
	}
	if found := requests(g); len(found) != 0 {
		t.Errorf("the SDK sent %+v to a server it does not trust", found)
	}
}
