// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// Two processes with one storage and one configuration: what the one issues the
// other takes, and a client or a secret that is removed from both is dead on
// both from that moment on.
func TestGatewayTokensHoldAndDieOnEveryNode(t *testing.T) {
	const (
		oldSecret = "crm-secret-old-0123456789abcdef01234567"
		newSecret = "crm-secret-new-0123456789abcdef01234567"
		getPath   = "/cgi-bin/user/get"
	)
	crm := func(secrets string) string { return "\nclient crm {\nsecret " + secrets + "\nauthorizers *\n}" }
	weChat, err := sandbox.New(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := weChat.AddAccount(sandbox.Account{AppID: officialAccount}); err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(weChat)
	t.Cleanup(api.Close)

	storage := inFolder(t.TempDir())
	var nodes [2]caddy.Node
	var files [2]string
	var processes [2]*caddy.Process
	for i := range nodes {
		files[i] = filepath.Join(t.TempDir(), "Caddyfile")
		nodes[i] = caddy.Node{
			Admin: "unix/" + filepath.Join(t.TempDir(), "admin"), Storage: storage, WeChat: api.URL,
			Platform: caddy.FreeAddress(t), Proxy: caddy.FreeAddress(t), Clients: caddy.Shop + crm(oldSecret+" "+newSecret),
		}
		processes[i] = nodes[i].Run(t, files[i])
		processes[i].Serves(nodes[i].Platform, nodes[i].Proxy)
	}
	weChat.SetURLs("http://"+nodes[0].Platform+"/wechat/events", "")
	authorize(t, weChat)

	get := func(n int, token string) string {
		return call(t, "http://"+nodes[n].Proxy+getPath+"?access_token="+token, "")
	}
	fetch := func(n int, secret string) string {
		answer := call(t, "http://"+nodes[n].Proxy+"/cgi-bin/token?grant_type=client_credential&appid="+officialAccount+"&secret="+secret, "")
		_, rest, _ := strings.Cut(answer, `"access_token":"`)
		token, _, _ := strings.Cut(rest, `"`)
		return token
	}
	tokens := map[string]string{"shop": fetch(0, caddy.ClientSecret), "crm, old": fetch(0, oldSecret), "crm, new": fetch(1, newSecret)}
	reload := func(clients string) {
		for i := range nodes {
			nodes[i].Clients = clients
			nodes[i].Write(t, files[i])
			p := caddy.Launch(t, "reload", "--config", files[i], "--address", nodes[i].Admin)
			if code := p.Wait(); code != 0 {
				t.Fatalf("reloading node %d: exit code %d", i, code)
			}
		}
	}
	check := func(when string, dead ...string) {
		t.Helper()
		for name, token := range tokens {
			want := `"total"`
			for _, d := range dead {
				if name == d {
					want = `"errcode":40001`
				}
			}
			for n := range nodes {
				if answer := get(n, token); !strings.Contains(answer, want) {
					t.Errorf("%s, node %d, token of %s: %s, want %s", when, n, name, answer, want)
				}
			}
		}
	}
	check("at first")
	reload(caddy.Shop + crm(newSecret))
	check("without crm's old secret", "crm, old")
	reload(crm(newSecret))
	check("without shop", "crm, old", "shop")
	for n := range nodes {
		if token := fetch(n, caddy.ClientSecret); token != "" {
			t.Errorf("node %d issues a token to a client that was removed", n)
		}
	}
	if n := weChat.Count("/cgi-bin/component/api_component_token"); n != 1 {
		t.Errorf("%d component tokens were fetched, want 1", n)
	}
	caddy.WantNoCredential(t, weChat.Credentials(), "what was printed", processes[0].Printed()+processes[1].Printed())
}
