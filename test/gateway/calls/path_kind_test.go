// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// WeChat has a new path before the gateway knows it. The operator says whose token it
// takes, and with that which right it needs. What its answers hold is still not known,
// so more is withheld from them.
func TestPathKind(t *testing.T) {
	const newPath, template = "/wxa/brand/new", gwtest.ComponentPath
	var seen []gwtest.SeenRequest
	answer := gwtest.Record(&seen, says(`{"errcode":0,"access_token":"a","session":"s"}`))
	g := gwtest.StartWithRoutes(t, gwtest.Options{Clients: gwtest.ManyClients(), Wechat: "path_kind component " + newPath}, map[string]http.HandlerFunc{newPath: answer, template: answer})
	hour := time.Now().Add(time.Hour)
	component := "?access_token=" + g.Issue(t, "platform", gwtest.PlatformSecret, "", hour)
	account := "?access_token=" + g.Issue(t, "platform", gwtest.PlatformSecret, gwtest.OfficialAccount, hour)
	noRight := "?access_token=" + g.Issue(t, "shop", gwtest.ClientSecret, "", hour)
	ask := func(what, target string, header http.Header, code int, body string) {
		t.Helper()
		seen = nil
		got := g.Ask(http.MethodPost, target, "{}", header)
		if got.ErrCode != code || code == 0 && (got.Body != body || len(seen) != 1) || code != 0 && len(seen) != 0 {
			t.Errorf("%s: answered %s, WeChat saw %d calls; want %d %s", what, got.Body, len(seen), code, body)
		}
	}
	const whole, withheld = `{"errcode":0,"access_token":"a","session":"s"}`, `{"errcode":0,"access_token":"withheld","session":"s"}`
	ask("the component's token", newPath+component, nil, 0, withheld)
	ask("a bearer", newPath, gwtest.Bearer(gwtest.PlatformSecret, gwtest.OfficialAccount), 0, withheld)
	ask("an account's token", newPath+account, nil, 61014, "")
	ask("the component's token without component_api", newPath+noRight, nil, 48001, "")
	ask("a bearer without component_api", newPath, gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount), 48001, "")
	ask("another path", newPath+"er"+component, nil, 61015, "")

	g.Change(func(o *gwtest.Options) { o.Wechat = "path_kind either " + newPath })
	ask("either, the component's token", newPath+component, nil, 0, withheld)
	ask("either, an account's token", newPath+account, nil, 0, whole)
	ask("either, without component_api", newPath+noRight, nil, 48001, "")
	if strings.Contains(g.Logs(), "path_kind says otherwise") {
		t.Error("a warning for a path that the table does not know")
	}

	g.Change(func(o *gwtest.Options) { o.Wechat = "path_kind authorizer " + template })
	ask("a row of the table, an account's token", template+account, nil, 0, whole)
	ask("a row of the table, the component's token", template+component, nil, 61015, "")
	ask("the path that is not configured any more", newPath+component, nil, 61015, "")
	if logs := g.Logs(); strings.Count(logs, "path_kind says otherwise") != 1 || !strings.Contains(logs, `"path":"`+template+`","kind":"authorizer"`) {
		t.Error("no warning, or not one, for a row of the table")
	}

	for _, wrong := range []string{"path_kind component /cgi-bin/token", "path_kind component /sns/jscode2session", "path_kind component /a /a", "path_kind both /a"} {
		text := strings.Replace(g.Caddyfile(), "path_kind authorizer "+template, wrong, 1)
		if err := g.TryCaddyfile(text); err == nil || !strings.Contains(err.Error(), "path_kind") {
			t.Errorf("%s: error %v", wrong, err)
		}
	}
	ask("after a configuration that was refused", template+account, nil, 0, whole)
}
