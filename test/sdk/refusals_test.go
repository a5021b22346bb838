// SPDX-License-Identifier: Apache-2.0

package sdk_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Paths to provoke refusals with.
const (
	followersPath = "/cgi-bin/user/get"
	templatesPath = "/wxa/gettemplatelist" // of the component's level
	stablePath    = "/cgi-bin/stable_token"

	componentTokenPath = "/cgi-bin/component/api_component_token"
	infoPath           = "/cgi-bin/component/api_get_authorizer_info"
	queryAuthPath      = "/cgi-bin/component/api_query_auth"
)

// refusal is an answer of the gateway's own, to the byte.
type refusal struct {
	slug    string // the header Wechat-Gateway-Error
	atToken bool   // a token endpoint gave it, and not a call
	status  int
	header  http.Header
	body    string
}

// provoker makes a gateway refuse.
type provoker struct {
	*gwtest.Gateway
	t        *testing.T
	refusals *[]refusal
}

// provokeAll returns every refusal there is, as a gateway answers it.
func provokeAll(t *testing.T) []refusal {
	var all []refusal
	for _, row := range []struct {
		start   func(*testing.T) *gwtest.Gateway
		provoke func(*provoker)
	}{
		{startGateway, (*provoker).byCallers},
		{startGateway, (*provoker).byCodes},
		{startGateway, (*provoker).byTokenRequests},
		{startElsewhere, (*provoker).byAddress},
		{startGateway, (*provoker).byAccounts},
		{startGateway, (*provoker).byWeChat},
		{startForgetful, (*provoker).byLength},
		{startImpatient, (*provoker).bySilence},
		{startWithoutTicket, (*provoker).byEmptiness},
		{startLooped, (*provoker).byItself},
	} {
		t.Run("provoked", func(t *testing.T) { // a gateway ends with its test
			row.provoke(&provoker{row.start(t), t, &all})
		})
	}
	return all
}

// startImpatient starts a gateway that waits for no answer of WeChat's to a call.
func startImpatient(t *testing.T) *gwtest.Gateway {
	return gwtest.Start(t, gwtest.Options{Proxy: "transport http {\nresponse_header_timeout 50ms\n}"})
}

// startForgetful starts a gateway that keeps no larger bodies than it must.
func startForgetful(t *testing.T) *gwtest.Gateway {
	return gwtest.StartSettled(t, gwtest.Options{Proxy: "max_replay_body 64KiB"})
}

// startElsewhere starts a gateway whose client may call from another address only.
func startElsewhere(t *testing.T) *gwtest.Gateway {
	return gwtest.Start(t, gwtest.Options{Clients: strings.Replace(gwtest.ShopClient, "authorizers *", "authorizers *\nfrom 192.0.2.1", 1)})
}

// startWithoutTicket starts a gateway that no push reaches.
func startWithoutTicket(t *testing.T) *gwtest.Gateway {
	return gwtest.Start(t, gwtest.Options{Quiet: true, Sandbox: sandbox.Config{Transport: noPush{}}})
}

// startLooped starts a gateway to which the address of WeChat leads back.
func startLooped(t *testing.T) *gwtest.Gateway {
	api := httptest.NewUnstartedServer(nil)
	g := gwtest.Start(t, gwtest.Options{Quiet: true, API: []string{"http://" + api.Listener.Addr().String()}})
	api.Config.Handler = passTo(t, g)
	api.Start()
	t.Cleanup(api.Close)
	return g
}

// noPush is the way to a gateway that no push takes.
type noPush struct{}

func (noPush) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no way") }

// ask makes a call and returns the answer as a refusal. The slug is empty if it is none.
func (p *provoker) ask(method, path, content string, header http.Header) refusal {
	p.t.Helper()
	response, body := p.Do(method, path, content, header)
	header = response.Header.Clone()
	for _, name := range []string{"Date", "Server", "Content-Length"} {
		header.Del(name) // a server's own
	}
	return refusal{slug: header.Get("Wechat-Gateway-Error"), status: response.StatusCode, header: header, body: rid.ReplaceAllString(body, "rid: 66c669e3-210a005b-256a5f92")}
}

// call makes a call of an ordinary path with this gateway token.
func (p *provoker) call(token string) refusal {
	p.t.Helper()
	return p.ask(http.MethodGet, followersPath+"?access_token="+token, "", nil)
}

// fetch asks for a gateway token.
func (p *provoker) fetch(appid, secret string) refusal {
	p.t.Helper()
	form := url.Values{"grant_type": {"client_credential"}, "appid": {appid}, "secret": {secret}}
	return p.ask(http.MethodGet, "/cgi-bin/token?"+form.Encode(), "", nil)
}

// atCall and atToken note a refusal of this slug.
func (p *provoker) atCall(slug string, got refusal) { p.t.Helper(); p.note(slug, got) }
func (p *provoker) atToken(slug string, got refusal) {
	p.t.Helper()
	got.atToken = true
	p.note(slug, got)
}

func (p *provoker) note(slug string, got refusal) {
	p.t.Helper()
	if got.slug != slug {
		p.t.Fatalf("answered %d %q %s, want %s\n%s", got.status, got.slug, got.body, slug, p.Logs())
	}
	*p.refusals = append(*p.refusals, got)
}

// byCallers provokes what is wrong with a call.
func (p *provoker) byCallers() {
	hour := time.Now().Add(time.Hour)
	account := issue(p.t, p.Gateway, gwtest.OfficialAccount, hour)
	p.atCall("token_expired", p.call(issue(p.t, p.Gateway, gwtest.OfficialAccount, time.Now().Add(-time.Minute))))
	p.atCall("token_unknown", p.call(account+"x"))
	p.atCall("token_missing", p.call(""))
	p.atCall("bearer", p.ask(http.MethodGet, followersPath, "", http.Header{"Authorization": {"Bearer nobody"}}))
	p.atCall("not_allowed", p.ask(http.MethodGet, "/cgi-bin/menu/get?access_token="+account, "", nil))
	p.atCall("want_component", p.ask(http.MethodGet, templatesPath+"?access_token="+account, "", nil))
	p.atCall("want_authorizer", p.call(issue(p.t, p.Gateway, "", hour)))
}

// byCodes provokes what is wrong with the gateway code of an authorisation event.
func (p *provoker) byCodes() {
	p.atCall("code_unknown", p.exchange(p.issueCode(time.Now().Add(time.Hour))+"x"))
	p.atCall("code_expired", p.exchange(p.issueCode(time.Now().Add(-time.Minute))))
}

// exchange exchanges a code as a platform does.
func (p *provoker) exchange(code string) refusal {
	p.t.Helper()
	return p.ask(http.MethodPost, queryAuthPath+"?component_access_token="+issue(p.t, p.Gateway, "", time.Now().Add(time.Hour)),
		`{"component_appid":"`+p.WeChat.Component()+`","authorization_code":"`+code+`"}`, nil)
}

// issueCode makes a gateway code of the client that came with no event.
func (p *provoker) issueCode(expires time.Time) string {
	p.t.Helper()
	appSecret, _, _ := p.WeChat.Keys()
	key, err := gwtoken.NewKey(secret.New(appSecret), sha256.Sum256([]byte(gwtest.ClientSecret)))
	if err != nil {
		p.t.Fatal(err)
	}
	return key.IssueCode(gwtoken.Claims{Client: "shop", Subject: subject.Of(p.WeChat.Component(), gwtest.OfficialAccount), Expires: expires})
}

// byTokenRequests provokes what is wrong with a request for a token.
func (p *provoker) byTokenRequests() {
	p.atToken("client_secret", p.fetch(gwtest.OfficialAccount, "nobody"))
	p.atToken("appid_missing", p.fetch("", gwtest.ClientSecret))
	p.atToken("component", p.ask(http.MethodPost, componentTokenPath, `{"component_appid":"wxffffffffffffffff","component_appsecret":"`+gwtest.ClientSecret+`"}`, nil))
	p.atToken("foreign_refresh_token", p.ask(http.MethodPost, renewalPath+"?component_access_token="+issue(p.t, p.Gateway, "", time.Now().Add(time.Hour)),
		`{"authorizer_appid":"`+gwtest.OfficialAccount+`","authorizer_refresh_token":"gwr1.`+p.WeChat.Component()+`.`+gwtest.MiniProgram+`"}`, nil))
	p.atToken("bad_request", p.ask(http.MethodPost, stablePath, "{", nil))
	p.atToken("too_large", p.ask(http.MethodPost, stablePath, strings.Repeat(" ", 17<<10), nil))
	for i := range 1000 { // some unknown appids are asked about
		if got := p.fetch(fmt.Sprintf("wx%016x", i), gwtest.ClientSecret); got.slug != "not_authorized" {
			p.atToken("rationed", got)
			return
		}
	}
	p.t.Error("nothing is rationed")
}

// byAddress provokes what is wrong with where a call comes from.
func (p *provoker) byAddress() {
	p.atCall("address", p.call(issue(p.t, p.Gateway, gwtest.OfficialAccount, time.Now().Add(time.Hour))))
	p.atToken("address", p.fetch(gwtest.OfficialAccount, gwtest.ClientSecret))
}

// byAccounts provokes what the accounts, or who else renews their tokens, are to blame for.
func (p *provoker) byAccounts() {
	const unknown, lost = "wxcccccccccccccccc", "wxdddddddddddddddd"
	hour := time.Now().Add(time.Hour)
	p.atCall("not_authorized", p.call(issue(p.t, p.Gateway, unknown, hour)))
	p.atToken("not_authorized", p.fetch(unknown, gwtest.ClientSecret))

	// Its code never arrives, so that nobody has a refresh token.
	p.WeChat.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
	if err := p.WeChat.AddAccount(sandbox.Account{AppID: lost}); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.WeChat.Authorize(p.t.Context(), lost); err != nil {
		p.t.Fatal(err)
	}
	p.atCall("needs_authorization", p.call(issue(p.t, p.Gateway, lost, hour)))
	p.atToken("needs_authorization", p.fetch(lost, gwtest.ClientSecret))
}

// byWeChat provokes what WeChat is to blame for.
func (p *provoker) byWeChat() {
	official, mini := p.Token(gwtest.OfficialAccount), p.Token(gwtest.MiniProgram)
	p.WeChat.Inject(sandbox.Fault{Path: followersPath, Reset: true, Times: 1})
	p.atCall("unreachable", p.call(official))

	p.WeChat.Inject(sandbox.Fault{Path: followersPath, ErrCode: 40001, Times: 1}) // though the token is alive
	p.atCall("rejected", p.call(official))
	p.WeChat.KillTokens(gwtest.MiniProgram)
	p.WeChat.Inject(sandbox.Fault{Path: renewalPath, ErrCode: -1, Times: 1})
	p.atCall("rejected", p.call(mini))

	p.forget("authorizers")
	p.WeChat.Inject(sandbox.Fault{Path: infoPath, ErrCode: -1, Times: 1})
	p.atCall("refused", p.call(official))
	p.forget("component.json")
	p.WeChat.Inject(sandbox.Fault{Path: componentTokenPath, ErrCode: 45009})
	p.atCall("component_token", p.call(mini))
}

// byLength provokes what there is to say when a call cannot be made again.
func (p *provoker) byLength() {
	p.WeChat.KillTokens(gwtest.OfficialAccount)
	p.atCall("not_kept", p.ask(http.MethodPost, "/cgi-bin/media/upload?type=image&access_token="+p.Token(gwtest.OfficialAccount), strings.Repeat(" ", 100<<10), nil))
}

// forget lets the gateway start anew without the records that are called so.
func (p *provoker) forget(name string) {
	p.t.Helper()
	p.Restart(p.t, func() {
		for path := range p.StoredRecords(p.t) {
			if !strings.Contains(path, name) {
				continue
			}
			if err := os.Remove(path); err != nil {
				p.t.Fatal(err)
			}
		}
	})
}

// rid is WeChat's name for a call, another one each time.
var rid = regexp.MustCompile(`rid: [0-9a-f-]+`)

// bySilence provokes what there is to say when WeChat does not answer.
func (p *provoker) bySilence() {
	p.WeChat.Inject(sandbox.Fault{Path: followersPath, Never: true})
	p.atCall("timeout", p.call(p.Token(gwtest.OfficialAccount)))
}

// byItself provokes the only thing that a gateway says to itself.
func (p *provoker) byItself() {
	p.atCall("loop", p.ask(http.MethodGet, "/sns/userinfo?access_token=user&openid=o1", "", nil))
}

// byEmptiness provokes what there is before the first ticket, and then without storage.
func (p *provoker) byEmptiness() {
	token := issue(p.t, p.Gateway, gwtest.OfficialAccount, time.Now().Add(time.Hour))
	p.atCall("no_ticket", p.call(token))
	folder := filepath.Join(p.Storage, "wechat")
	if err := os.RemoveAll(folder); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.atCall("storage", p.call(token))
}
