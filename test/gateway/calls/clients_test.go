// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Who calls, and for whom, with a client secret in the Authorization header.
func TestBearer(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	miniToken := tokenOf(t, g, gwtest.MiniProgram, gwtest.ClientSecret)
	const none = ""
	for name, row := range map[string]struct {
		header http.Header
		query  string
		acts   string // for whom at WeChat; none if refused
		code   int
		status int
	}{
		"names its authorizer in the header":             {gwtest.Bearer(gwtest.ClientSecret, gwtest.MiniProgram), "", gwtest.MiniProgram, 0, 200},
		"may leave out its only authorizer":              {gwtest.Bearer(gwtest.SoloSecret, ""), "", gwtest.OfficialAccount, 0, 200},
		"may show its second secret":                     {gwtest.Bearer(gwtest.SoloNextSecret, ""), "", gwtest.OfficialAccount, 0, 200},
		"may be configured by its digest":                {gwtest.Bearer(gwtest.HashedSecret, ""), "", gwtest.MiniProgram, 0, 200},
		"is read whatever the case of the scheme":        {http.Header{"Authorization": {"bearer  " + gwtest.SoloSecret}}, "", gwtest.OfficialAccount, 0, 200},
		"decides over a token in the query":              {gwtest.Bearer(gwtest.SoloSecret, ""), "?access_token=" + miniToken, gwtest.OfficialAccount, 0, 200},
		"must say which of several authorizers":          {gwtest.Bearer(gwtest.ClientSecret, ""), "", none, 61003, 200},
		"cannot act for another client's authorizer":     {gwtest.Bearer(gwtest.SoloSecret, gwtest.MiniProgram), "", none, 61003, 200},
		"cannot act for anybody without authorizers":     {gwtest.Bearer(gwtest.IdleSecret, gwtest.OfficialAccount), "", none, 61003, 200},
		"cannot name what is no appid":                   {gwtest.Bearer(gwtest.ClientSecret, "../../ticket"), "", none, 61003, 200},
		"cannot name an account that has not authorized": {gwtest.Bearer(gwtest.ClientSecret, "wxcccccccccccccccc"), "", none, 61003, 200},
		// Else a leaked configuration file would be as good as the secret.
		"is not the configured digest": {gwtest.Bearer(fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(gwtest.HashedSecret))), ""), "", none, 40125, 401},
		"is not the digest itself":     {gwtest.Bearer(fmt.Sprintf("%x", sha256.Sum256([]byte(gwtest.HashedSecret))), ""), "", none, 40125, 401},
		"is no client's":               {gwtest.Bearer(gwtest.UnknownSecret, gwtest.OfficialAccount), "", none, 40125, 401},
		"is empty":                     {gwtest.Bearer("", gwtest.OfficialAccount), "", none, 40125, 401},
		"is of another scheme":         {http.Header{"Authorization": {"Basic " + gwtest.SoloSecret}}, "", none, 40125, 401},
		// What is no client's is not for the gateway: WeChat ignores it, too.
		"is no client's, and the token in the query decides":     {gwtest.Bearer(gwtest.UnknownSecret, ""), "?access_token=" + miniToken, gwtest.MiniProgram, 0, 200},
		"is a proxy's, and the token in the query decides":       {http.Header{"Authorization": {"Basic cHJveHk6cHJveHk="}}, "?access_token=" + miniToken, gwtest.MiniProgram, 0, 200},
		"is a proxy's, and Wechat-Appid no credential":           {http.Header{"Authorization": {"Basic cHJveHk6cHJveHk="}, "Wechat-Appid": {gwtest.OfficialAccount}}, "?access_token=" + miniToken, gwtest.MiniProgram, 0, 200},
		"is no client's, and the token is not valid":             {gwtest.Bearer(gwtest.UnknownSecret, ""), "?access_token=" + miniToken + "x", none, 40001, 200},
		"is no client's, and the token is empty":                 {gwtest.Bearer(gwtest.UnknownSecret, ""), "?access_token=", none, 40125, 401},
		"is the second of two headers":                           {http.Header{"Authorization": {"Basic cHJveHk6cHJveHk=", "Bearer " + gwtest.SoloSecret}}, "", gwtest.OfficialAccount, 0, 200},
		"is the second of two headers, and decides over a token": {http.Header{"Authorization": {"Bearer eyJhbGciOi", "Bearer " + gwtest.SoloSecret}}, "?access_token=" + miniToken, gwtest.OfficialAccount, 0, 200},
	} {
		t.Run(name, func(t *testing.T) {
			g.WeChat.ResetCounts()
			answer := g.Ask(http.MethodGet, gwtest.AuthorizerPath+row.query, "", row.header)
			if answer.Status != row.status || answer.ErrCode != row.code {
				t.Fatalf("answered %d %s, want %d with errcode %d", answer.Status, answer.Body, row.status, row.code)
			}
			if row.acts == none {
				if n := g.WeChat.Count(gwtest.AuthorizerPath); n != 0 {
					t.Errorf("WeChat saw %d calls", n)
				}
				return
			}
			call := onlyCall(t, g, gwtest.AuthorizerPath)
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
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	valid := tokenOf(t, g, gwtest.OfficialAccount, gwtest.ClientSecret)
	hour, past := time.Now().Add(time.Hour), time.Now().Add(-time.Second)
	made := func(client, clientSecret, appid string, expires time.Time) string {
		return "?access_token=" + g.Issue(t, client, clientSecret, appid, expires)
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
	narrow := tokenOf(t, g, gwtest.OfficialAccount, gwtest.NarrowSecret)
	for name, row := range map[string]struct {
		method, path string
		header       http.Header
		want         want
	}{
		"a gateway token that has expired":              {"GET", gwtest.AuthorizerPath + made("shop", gwtest.ClientSecret, gwtest.OfficialAccount, past), nil, expired},
		"a component's gateway token that has expired":  {"GET", gwtest.ComponentPath + made("platform", gwtest.PlatformSecret, "", past), nil, expired},
		"a forged expired token is not told so":         {"GET", gwtest.AuthorizerPath + made("shop", gwtest.UnknownSecret, gwtest.OfficialAccount, past), nil, unknown},
		"a flipped bit in the MAC":                      {"GET", gwtest.AuthorizerPath + "?access_token=" + flipped, nil, unknown},
		"another account written into the token":        {"GET", gwtest.AuthorizerPath + "?access_token=" + otherAccount, nil, unknown},
		"a token signed for another client's secret":    {"GET", gwtest.AuthorizerPath + made("shop", gwtest.SoloSecret, gwtest.MiniProgram, hour), nil, unknown},
		"a real-looking token of another gateway":       {"GET", gwtest.AuthorizerPath + made("shop", gwtest.UnknownSecret, gwtest.OfficialAccount, hour), nil, unknown},
		"a real token of WeChat's":                      {"GET", gwtest.AuthorizerPath + "?access_token=" + g.WeChat.ValidToken(sandbox.KindAuthorizer, gwtest.OfficialAccount), nil, unknown},
		"a client secret in the place of a token":       {"GET", gwtest.AuthorizerPath + "?access_token=" + gwtest.ClientSecret, nil, unknown},
		"no token at all":                               {"GET", gwtest.AuthorizerPath, nil, missing},
		"an empty token":                                {"GET", gwtest.AuthorizerPath + "?access_token=", nil, missing},
		"no token on a component path":                  {"GET", gwtest.ComponentPath, nil, missing},
		"a wrong secret at the token endpoint":          {"GET", gwtest.TokenPath(gwtest.OfficialAccount, gwtest.UnknownSecret), nil, wrongSecret},
		"no secret at the token endpoint":               {"GET", "/cgi-bin/token?appid=" + gwtest.OfficialAccount, nil, wrongSecret},
		"a wrong bearer secret":                         {"GET", gwtest.AuthorizerPath, gwtest.Bearer(gwtest.UnknownSecret, ""), wrongBearer},
		"a path not allowed to the client":              {"GET", "/cgi-bin/ticket/getticket?access_token=" + narrow, nil, notAllowed},
		"a method not allowed to the client":            {"POST", gwtest.AuthorizerPath + "?access_token=" + narrow, nil, notAllowed},
		"the prefix itself of a rule for what is below": {"GET", "/cgi-bin/user?access_token=" + narrow, nil, notAllowed},
		"a component path without component_api":        {"GET", gwtest.ComponentPath + made("shop", gwtest.ClientSecret, "", hour), nil, notAllowed},
		"an authorizer not allowed to the client":       {"GET", gwtest.AuthorizerPath + made("solo", gwtest.SoloSecret, gwtest.MiniProgram, hour), nil, notGranted},
		"the same at the token endpoint":                {"GET", gwtest.TokenPath(gwtest.MiniProgram, gwtest.SoloSecret), nil, notGranted},
		"an account unknown to WeChat":                  {"GET", gwtest.TokenPath("wxcccccccccccccccc", gwtest.ClientSecret), nil, notGranted},
		"what is no appid at the token endpoint":        {"GET", gwtest.TokenPath("../wxaaaaaaaaaaaaaa", gwtest.ClientSecret), nil, notGranted},
		"an authorizer's token on a component path":     {"GET", gwtest.ComponentPath + "?access_token=" + valid, nil, component},
		"a component's token on an authorizer path":     {"GET", gwtest.AuthorizerPath + made("platform", gwtest.PlatformSecret, "", hour), nil, authorizer},
		"no appid at the token endpoint":                {"GET", "/cgi-bin/token?secret=" + gwtest.ClientSecret, nil, want{200, 41002, "appid_missing", "appid missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			g.WeChat.ResetCounts()
			path, _, _ := strings.Cut(row.path, "?")
			answer := g.Ask(row.method, row.path, "", row.header)
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
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	narrow := tokenOf(t, g, gwtest.OfficialAccount, gwtest.NarrowSecret)
	for _, path := range []string{"/cgi-bin/user/get", "/cgi-bin/user/info"} {
		if answer := g.AskGet(path + "?openid=o1&access_token=" + narrow); answer.ErrCode != 0 {
			t.Errorf("%s: %s", path, answer.Body)
		}
	}
	if answer := g.Ask(http.MethodPost, "/cgi-bin/menu/get?access_token="+narrow, "{}", nil); answer.Slug != "" {
		t.Errorf("a rule without a method refuses POST: %s", answer.Body)
	}
	g.Change(func(o *gwtest.Options) {
		o.Clients = strings.Replace(o.Clients, "/cgi-bin/user/*", "/cgi-bin/tags/*", 1)
	})
	if answer := g.AskGet(gwtest.AuthorizerPath + "?access_token=" + narrow); answer.ErrCode != 48001 {
		t.Errorf("a right taken away lives on in the token: %s", answer.Body)
	}
}

// A token dies with the client, or with that one of its secrets, it was made
// for: 40001 lets an SDK ask for another one, and there 40125 ends the matter.
func TestRemovalKillsTokens(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	shop := tokenOf(t, g, gwtest.OfficialAccount, gwtest.ClientSecret)
	solo := tokenOf(t, g, gwtest.OfficialAccount, gwtest.SoloSecret)
	next := tokenOf(t, g, gwtest.OfficialAccount, gwtest.SoloNextSecret)

	g.Change(func(o *gwtest.Options) {
		o.Clients = strings.Replace(strings.Replace(o.Clients, gwtest.ShopClient, "", 1), gwtest.SoloSecret+" ", "", 1)
	})
	for name, row := range map[string]struct {
		path string
		code int
	}{
		"the token of a removed client":         {gwtest.AuthorizerPath + "?access_token=" + shop, 40001},
		"the removed client asks for another":   {gwtest.TokenPath(gwtest.OfficialAccount, gwtest.ClientSecret), 40125},
		"the token of a removed secret":         {gwtest.AuthorizerPath + "?access_token=" + solo, 40001},
		"the removed secret asks for another":   {gwtest.TokenPath(gwtest.OfficialAccount, gwtest.SoloSecret), 40125},
		"the token of the secret that was kept": {gwtest.AuthorizerPath + "?access_token=" + next, 0},
		"the secret that was kept asks for one": {gwtest.TokenPath(gwtest.OfficialAccount, gwtest.SoloNextSecret), 0},
	} {
		if answer := g.AskGet(row.path); answer.ErrCode != row.code {
			t.Errorf("%s: %s, want %d", name, answer.Body, row.code)
		}
	}
	if answer := g.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)); answer.Status != 401 {
		t.Errorf("the removed client's bearer secret: %d %s", answer.Status, answer.Body)
	}
}

// Before the first ticket nothing can be had: the caller is told to wait.
func TestNoTicketYet(t *testing.T) {
	// The ticket that the gateway asks for when it starts is lost.
	g := gwtest.Start(t, gwtest.Options{Quiet: true, Sandbox: sandbox.Config{Transport: noPush{}}})
	answer := g.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	if answer.Status != 503 || answer.ErrCode != 61005 || answer.Slug != "no_ticket" {
		t.Errorf("answered %d %q %s", answer.Status, answer.Slug, answer.Body)
	}
}

// noPush is the way to a gateway that no push takes.
type noPush struct{}

func (noPush) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no way") }

// An authorization whose code nobody exchanged has no refresh token, and
// WeChat has none to give: only the admin can help.
func TestRefreshTokenLost(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{Sandbox: sandbox.Config{Switches: sandbox.Switches{NoAuthorizedPush: true}}})
	for name, answer := range map[string]gwtest.Reply{
		"call":           g.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)),
		"token endpoint": g.AskGet(gwtest.TokenPath(gwtest.MiniProgram, gwtest.ClientSecret)),
	} {
		if answer.Status != 200 || answer.ErrCode != 61023 || answer.Slug != "needs_authorization" {
			t.Errorf("%s: answered %d %q %s", name, answer.Status, answer.Slug, answer.Body)
		}
	}
}
