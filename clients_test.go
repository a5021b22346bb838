// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// The clients of these tests besides shop, which may act for everybody.
const (
	soloSecret     = "solo-secret-0123456789abcdef0123456789"
	soloNext       = "solo-next-0123456789abcdef0123456789ab"
	hashedSecret   = "hashed-secret-0123456789abcdef01234567"
	narrowSecret   = "narrow-secret-0123456789abcdef01234567"
	platformSecret = "platform-secret-0123456789abcdef012345"
	idleSecret     = "idle-secret-0123456789abcdef0123456789"
	someSecret     = "nobodys-secret-0123456789abcdef0123456"
)

const shopClient = "client shop {\nsecret " + gwtest.ClientSecret + "\nauthorizers *\n}\n"

// manyClients differ in authorizers, methods, paths and level.
func manyClients() string {
	return shopClient + fmt.Sprintf(`
		client solo {
			secret %s %s
			authorizers %s
		}
		client hashed {
			secret sha256:%x
			authorizers %s
		}
		client narrow {
			secret %s
			authorizers %s %s
			allow GET /cgi-bin/user/*
			allow /cgi-bin/menu/get
		}
		client platform {
			secret %s
			authorizers *
			component_api
		}
		client idle {
			secret %s
		}`, soloSecret, soloNext, gwtest.OfficialAccount,
		sha256.Sum256([]byte(hashedSecret)), gwtest.MiniProgram,
		narrowSecret, gwtest.OfficialAccount, gwtest.MiniProgram, platformSecret, idleSecret)
}

// Who calls, and for whom, with a client secret in the Authorization header.
func TestBearer(t *testing.T) {
	g := start(t, gwtest.Options{Clients: manyClients()})
	miniToken := tokenOf(t, g, gwtest.MiniProgram, gwtest.ClientSecret)
	const none = ""
	for name, row := range map[string]struct {
		header http.Header
		query  string
		acts   string // for whom at WeChat; none if refused
		code   int
		status int
	}{
		"names its authorizer in the header":             {bearer(gwtest.ClientSecret, gwtest.MiniProgram), "", gwtest.MiniProgram, 0, 200},
		"may leave out its only authorizer":              {bearer(soloSecret, ""), "", gwtest.OfficialAccount, 0, 200},
		"may show its second secret":                     {bearer(soloNext, ""), "", gwtest.OfficialAccount, 0, 200},
		"may be configured by its digest":                {bearer(hashedSecret, ""), "", gwtest.MiniProgram, 0, 200},
		"is read whatever the case of the scheme":        {http.Header{"Authorization": {"bearer  " + soloSecret}}, "", gwtest.OfficialAccount, 0, 200},
		"decides over a token in the query":              {bearer(soloSecret, ""), "?access_token=" + miniToken, gwtest.OfficialAccount, 0, 200},
		"must say which of several authorizers":          {bearer(gwtest.ClientSecret, ""), "", none, 61003, 200},
		"cannot act for another client's authorizer":     {bearer(soloSecret, gwtest.MiniProgram), "", none, 61003, 200},
		"cannot act for anybody without authorizers":     {bearer(idleSecret, gwtest.OfficialAccount), "", none, 61003, 200},
		"cannot name what is no appid":                   {bearer(gwtest.ClientSecret, "../../ticket"), "", none, 61003, 200},
		"cannot name an account that has not authorized": {bearer(gwtest.ClientSecret, "wxcccccccccccccccc"), "", none, 61003, 200},
		// Else a leaked configuration file would be as good as the secret.
		"is not the configured digest": {bearer(fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(hashedSecret))), ""), "", none, 40125, 401},
		"is not the digest itself":     {bearer(fmt.Sprintf("%x", sha256.Sum256([]byte(hashedSecret))), ""), "", none, 40125, 401},
		"is no client's":               {bearer(someSecret, gwtest.OfficialAccount), "", none, 40125, 401},
		"is empty":                     {bearer("", gwtest.OfficialAccount), "", none, 40125, 401},
		"is of another scheme":         {http.Header{"Authorization": {"Basic " + soloSecret}}, "", none, 40125, 401},
		"is wrong, and the token in the query no way out": {bearer(someSecret, ""), "?access_token=" + miniToken, none, 40125, 401},
	} {
		t.Run(name, func(t *testing.T) {
			g.WeChat.ResetCounts()
			answer := ask(g, http.MethodGet, authorizerPath+row.query, "", row.header)
			if answer.Status != row.status || answer.ErrCode != row.code {
				t.Fatalf("answered %d %s, want %d with errcode %d", answer.Status, answer.Body, row.status, row.code)
			}
			if row.acts == none {
				if n := g.WeChat.Count(authorizerPath); n != 0 {
					t.Errorf("WeChat saw %d calls", n)
				}
				return
			}
			call := onlyCall(t, g, authorizerPath)
			if call.TokenAppID != row.acts || call.TokenKind != sandbox.KindAuthorizer {
				t.Errorf("WeChat saw a token of %s %s, want of %s", call.TokenKind, call.TokenAppID, row.acts)
			}
			if strings.Contains(call.RawQuery, "gw1.") {
				t.Errorf("a gateway token reached WeChat: %s", call.RawQuery)
			}
		})
	}
}

// The rows of the error table that a caller brings about: nothing of them
// reaches WeChat, and an SDK can show each one's text.
func TestRefusals(t *testing.T) {
	g := start(t, gwtest.Options{Clients: manyClients()})
	valid := tokenOf(t, g, gwtest.OfficialAccount, gwtest.ClientSecret)
	hour, past := time.Now().Add(time.Hour), time.Now().Add(-time.Second)
	made := func(client, clientSecret, appid string, expires time.Time) string {
		return "?access_token=" + issue(t, g, client, clientSecret, appid, expires)
	}
	flipped := valid[:len(valid)-2] + string(valid[len(valid)-2]^1) + valid[len(valid)-1:]
	otherAccount := strings.Replace(valid, gwtest.OfficialAccount, gwtest.MiniProgram, 1)

	type want struct {
		status, code int
		slug, text   string
	}
	var (
		expired     = want{200, 42001, "token_expired", "access_token expired"}
		unknown     = want{200, 40001, "token_unknown", "invalid credential"}
		missing     = want{200, 41001, "token_missing", "access_token missing"}
		wrongSecret = want{200, 40125, "client_secret", "invalid appsecret"}
		wrongBearer = want{401, 40125, "bearer", "client secret"}
		notAllowed  = want{200, 48001, "not_allowed", "api unauthorized"}
		notGranted  = want{200, 61003, "not_authorized", "not authorized"}
		component   = want{200, 61014, "want_component", "must use component token"}
		authorizer  = want{200, 61015, "want_authorizer", "must use authorizer token"}
	)
	narrow := tokenOf(t, g, gwtest.OfficialAccount, narrowSecret)
	for name, row := range map[string]struct {
		method, path string
		header       http.Header
		want         want
	}{
		"a gateway token that has expired":              {"GET", authorizerPath + made("shop", gwtest.ClientSecret, gwtest.OfficialAccount, past), nil, expired},
		"a component's gateway token that has expired":  {"GET", componentPath + made("platform", platformSecret, "", past), nil, expired},
		"a forged expired token is not told so":         {"GET", authorizerPath + made("shop", someSecret, gwtest.OfficialAccount, past), nil, unknown},
		"a flipped bit in the MAC":                      {"GET", authorizerPath + "?access_token=" + flipped, nil, unknown},
		"another account written into the token":        {"GET", authorizerPath + "?access_token=" + otherAccount, nil, unknown},
		"a token signed for another client's secret":    {"GET", authorizerPath + made("shop", soloSecret, gwtest.MiniProgram, hour), nil, unknown},
		"a real-looking token of another gateway":       {"GET", authorizerPath + made("shop", someSecret, gwtest.OfficialAccount, hour), nil, unknown},
		"a real token of WeChat's":                      {"GET", authorizerPath + "?access_token=" + g.WeChat.ValidToken(sandbox.KindAuthorizer, gwtest.OfficialAccount), nil, unknown},
		"a client secret in the place of a token":       {"GET", authorizerPath + "?access_token=" + gwtest.ClientSecret, nil, unknown},
		"no token at all":                               {"GET", authorizerPath, nil, missing},
		"an empty token":                                {"GET", authorizerPath + "?access_token=", nil, missing},
		"no token on a component path":                  {"GET", componentPath, nil, missing},
		"a wrong secret at the token endpoint":          {"GET", tokenPath(gwtest.OfficialAccount, someSecret), nil, wrongSecret},
		"no secret at the token endpoint":               {"GET", "/cgi-bin/token?appid=" + gwtest.OfficialAccount, nil, wrongSecret},
		"a wrong bearer secret":                         {"GET", authorizerPath, bearer(someSecret, ""), wrongBearer},
		"a path not allowed to the client":              {"GET", "/cgi-bin/ticket/getticket?access_token=" + narrow, nil, notAllowed},
		"a method not allowed to the client":            {"POST", authorizerPath + "?access_token=" + narrow, nil, notAllowed},
		"the prefix itself of a rule for what is below": {"GET", "/cgi-bin/user?access_token=" + narrow, nil, notAllowed},
		"a component path without component_api":        {"GET", componentPath + made("shop", gwtest.ClientSecret, "", hour), nil, notAllowed},
		"an authorizer not allowed to the client":       {"GET", authorizerPath + made("solo", soloSecret, gwtest.MiniProgram, hour), nil, notGranted},
		"the same at the token endpoint":                {"GET", tokenPath(gwtest.MiniProgram, soloSecret), nil, notGranted},
		"an account unknown to WeChat":                  {"GET", tokenPath("wxcccccccccccccccc", gwtest.ClientSecret), nil, notGranted},
		"what is no appid at the token endpoint":        {"GET", tokenPath("../wxaaaaaaaaaaaaaa", gwtest.ClientSecret), nil, notGranted},
		"an authorizer's token on a component path":     {"GET", componentPath + "?access_token=" + valid, nil, component},
		"a component's token on an authorizer path":     {"GET", authorizerPath + made("platform", platformSecret, "", hour), nil, authorizer},
		"no appid at the token endpoint":                {"GET", "/cgi-bin/token?secret=" + gwtest.ClientSecret, nil, want{200, 41002, "appid_missing", "appid missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			g.WeChat.ResetCounts()
			path, _, _ := strings.Cut(row.path, "?")
			answer := ask(g, row.method, row.path, "", row.header)
			got := want{answer.Status, answer.ErrCode, answer.Slug, row.want.text}
			if got != row.want || !strings.Contains(answer.ErrMsg, row.want.text) || !strings.HasSuffix(answer.ErrMsg, " (gateway)") {
				t.Errorf("answered %d %q %s, want %+v", answer.Status, answer.Slug, answer.Body, row.want)
			}
			if n := g.WeChat.Count(path); n != 0 {
				t.Errorf("WeChat saw %d calls", n)
			}
		})
	}
}

// What a client may is looked up at every call: the rights of narrow let it
// make these calls with the tokens it was given for others.
func TestRightsByMethodAndPath(t *testing.T) {
	g := start(t, gwtest.Options{Clients: manyClients()})
	narrow := tokenOf(t, g, gwtest.OfficialAccount, narrowSecret)
	for _, path := range []string{"/cgi-bin/user/get", "/cgi-bin/user/info"} {
		if answer := get(g, path+"?openid=o1&access_token="+narrow); answer.ErrCode != 0 {
			t.Errorf("%s: %s", path, answer.Body)
		}
	}
	if answer := ask(g, http.MethodPost, "/cgi-bin/menu/get?access_token="+narrow, "{}", nil); answer.Slug != "" {
		t.Errorf("a rule without a method refuses POST: %s", answer.Body)
	}
	g.Change(func(o *gwtest.Options) {
		o.Clients = strings.Replace(o.Clients, "/cgi-bin/user/*", "/cgi-bin/tags/*", 1)
	})
	if answer := get(g, authorizerPath+"?access_token="+narrow); answer.ErrCode != 48001 {
		t.Errorf("a right taken away lives on in the token: %s", answer.Body)
	}
}

// A token dies with the client, or with that one of its secrets, it was made
// for: 40001 lets an SDK ask for another one, and there 40125 ends the matter.
func TestRemovalKillsTokens(t *testing.T) {
	g := start(t, gwtest.Options{Clients: manyClients()})
	shop := tokenOf(t, g, gwtest.OfficialAccount, gwtest.ClientSecret)
	solo := tokenOf(t, g, gwtest.OfficialAccount, soloSecret)
	next := tokenOf(t, g, gwtest.OfficialAccount, soloNext)

	g.Change(func(o *gwtest.Options) {
		o.Clients = strings.Replace(strings.Replace(o.Clients, shopClient, "", 1), soloSecret+" ", "", 1)
	})
	for name, row := range map[string]struct {
		path string
		code int
	}{
		"the token of a removed client":         {authorizerPath + "?access_token=" + shop, 40001},
		"the removed client asks for another":   {tokenPath(gwtest.OfficialAccount, gwtest.ClientSecret), 40125},
		"the token of a removed secret":         {authorizerPath + "?access_token=" + solo, 40001},
		"the removed secret asks for another":   {tokenPath(gwtest.OfficialAccount, soloSecret), 40125},
		"the token of the secret that was kept": {authorizerPath + "?access_token=" + next, 0},
		"the secret that was kept asks for one": {tokenPath(gwtest.OfficialAccount, soloNext), 0},
	} {
		if answer := get(g, row.path); answer.ErrCode != row.code {
			t.Errorf("%s: %s, want %d", name, answer.Body, row.code)
		}
	}
	if answer := ask(g, http.MethodGet, authorizerPath, "", bearer(gwtest.ClientSecret, gwtest.OfficialAccount)); answer.Status != 401 {
		t.Errorf("the removed client's bearer secret: %d %s", answer.Status, answer.Body)
	}
}

// Before the first ticket nothing can be had: the caller is told to wait.
func TestNoTicketYet(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{Quiet: true})
	g.WeChat.SetURLs(refusing(t), refusing(t)) // the ticket that the gateway asks for is lost
	answer := ask(g, http.MethodGet, authorizerPath, "", bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	if answer.Status != 503 || answer.ErrCode != 61005 || answer.Slug != "no_ticket" {
		t.Errorf("answered %d %q %s", answer.Status, answer.Slug, answer.Body)
	}
}

// An authorization whose code nobody exchanged has no refresh token, and
// WeChat has none to give: only the admin can help.
func TestRefreshTokenLost(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{Sandbox: sandbox.Config{Switches: sandbox.Switches{NoAuthorizedPush: true}}})
	for name, answer := range map[string]reply{
		"call":           ask(g, http.MethodGet, authorizerPath, "", bearer(gwtest.ClientSecret, gwtest.OfficialAccount)),
		"token endpoint": get(g, tokenPath(gwtest.MiniProgram, gwtest.ClientSecret)),
	} {
		if answer.Status != 200 || answer.ErrCode != 61023 || answer.Slug != "needs_authorization" {
			t.Errorf("%s: answered %d %q %s", name, answer.Status, answer.Slug, answer.Body)
		}
	}
}
