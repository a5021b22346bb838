// SPDX-License-Identifier: Apache-2.0

package leaks_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
)

// misuse makes calls with a secret, a client's or a gateway token, in some
// places.
type misuse func(g *gwtest.Gateway, secret string)

func inQuery(query string) misuse {
	return func(g *gwtest.Gateway, secret string) {
		for _, path := range []string{gwtest.AuthorizerPath, gwtest.ComponentPath, "/cgi-bin/token", "/sns/jscode2session", "/sns/userinfo", "/nowhere"} {
			g.AskGet(path + "?" + fmt.Sprintf(query, secret))
		}
		for _, path := range []string{"/wechat/authorize", "/wechat/authorize/callback", "/wechat/events", "/wechat/nowhere"} {
			post(g.Platform+path+"?"+fmt.Sprintf(query, secret), "<xml/>")
		}
	}
}

func inHeader(name, value string) misuse {
	return func(g *gwtest.Gateway, secret string) {
		for _, path := range []string{gwtest.AuthorizerPath, "/cgi-bin/token", "/nowhere"} {
			g.Ask(http.MethodGet, path, "", http.Header{name: {fmt.Sprintf(value, secret)}})
		}
	}
}

func inBody(contentType, content string) misuse {
	return func(g *gwtest.Gateway, secret string) {
		header := gwtest.Bearer(gwtest.ClientSecret, both[0])
		header.Set("Content-Type", contentType)
		for _, path := range []string{gwtest.SendPath, "/cgi-bin/token", "/cgi-bin/stable_token", "/cgi-bin/component/api_component_token", "/nowhere"} {
			g.Ask(http.MethodPost, path, fmt.Sprintf(content, secret), header)
		}
		post(g.Platform+"/wechat/events", fmt.Sprintf(content, secret))
	}
}

// inPath makes calls of a client that is known, so that they are counted: operators do
// not see the secret either.
func inPath(t *testing.T, path string) misuse {
	return func(g *gwtest.Gateway, secret string) {
		header := gwtest.Bearer(gwtest.ClientSecret, both[0])
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			g.Ask(method, fmt.Sprintf(path, secret), "", header)
		}
		if _, usage := g.Admin(http.MethodGet, "/wechat/usage?limit=10000"); strings.Contains(string(usage), secret[:12]) {
			t.Errorf("usage shows %s", usage)
		}
	}
}

// onlyTokens makes calls with gateway tokens, codes and tickets alone.
func onlyTokens(calls misuse) misuse {
	return func(g *gwtest.Gateway, secret string) {
		if strings.HasPrefix(secret, "gw") {
			calls(g, secret)
		}
	}
}

// Applications show their secrets in places that are not quite for them: no log
// tells them. In a path, or in a parameter of no such name, a secret cannot be
// known by any filter, and is logged like every address; a gateway token is
// known wherever it stands in one, and so are a gateway code and a gateway ticket.
func TestNothingLeaksFromWrongPlaces(t *testing.T) {
	for name, calls := range map[string][]misuse{
		"in parameters of the filters' names": {
			inQuery("secret=%s"), inQuery("access_token=%s"), inQuery("component_access_token=%s&a=1"), inQuery("state=%s&auth_code=%[1]s"),
			inQuery("access%%5Ftoken=%s"), inQuery("access_token=x&access_token=%s"), inQuery("js_code=%s&code=%[1]s&refresh_token=%[1]s"),
			inQuery("a=1;access_token=%s"), inQuery("access_token=%s;a=1"), inQuery("%%zz=1&access_token=%s%%zz"),
		},
		"in headers that logs leave out": {
			inHeader("Authorization", "Bearer %s"), inHeader("Authorization", "Basic %s"), inHeader("Authorization", "%s"),
			inHeader("Proxy-Authorization", "Bearer %s"), inHeader("Wechat-Appid", "%s"), inHeader("Cookie", "a=%s"),
			inHeader("Referer", "https://console.example.com/?access_token=%s"),
		},
		"in bodies": {
			inBody("application/json", `{"access_token":"%s","secret":"%[1]s","appid":"%[1]s"}`), inBody("application/json", `{"%s`),
			inBody("application/x-www-form-urlencoded", "appid=%s&secret=%[1]s&access_token=%[1]s"), inBody("text/xml", "<xml><AppId>%s</AppId></xml>"),
		},
		"in a parameter spelt in capitals":     {inQuery("Access_Token=%s")},
		"in a parameter that is a list":        {inQuery("access_token[]=%s")},
		"a gateway token in the path":          {onlyTokens(inPath(t, "/cgi-bin/%s")), onlyTokens(inPath(t, "/%s/cgi-bin"))},
		"a gateway token in another parameter": {onlyTokens(inQuery("key=%s")), onlyTokens(inQuery("%s")), onlyTokens(inQuery("appid=%s"))},
	} {
		t.Run(name, func(t *testing.T) {
			g := gwtest.StartWithTokens(t, gwtest.Options{Watch: true})
			token := g.Token(both[0])
			code := "gwc1." + strings.TrimPrefix(token, "gw1.")
			for _, secret := range []string{gwtest.ClientSecret, token, code, gwtoken.NewTicket()} {
				for _, misuse := range calls {
					misuse(g, secret)
					misuse(g, url.QueryEscape(secret)+"x") // one that is none, but nearly
				}
			}
			wantTold(t, g, story{answers: 3 * len(calls)})
		})
	}
}
