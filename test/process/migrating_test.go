// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

const migratingPage = "../../docs/migrating.md"

// oldSystem keeps the tokens of a platform as programs do that people come from: it
// exchanges each code, and renews with what it has stored.
type oldSystem struct {
	t              *testing.T
	weChat         *sandbox.Sandbox
	address        string            // where WeChat pushes to
	component      string            // its component_access_token
	access, stored map[string]string // by appid: access and refresh tokens
}

func newOldSystem(t *testing.T) *oldSystem {
	t.Helper()
	pushes := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("success")) }))
	t.Cleanup(pushes.Close)
	o := &oldSystem{t: t, address: strings.TrimPrefix(pushes.URL, "http://"), access: make(map[string]string), stored: make(map[string]string)}
	var err error
	if o.weChat, err = sandbox.New(sandbox.Config{}); err != nil {
		t.Fatal(err)
	}
	for _, account := range []sandbox.Account{{AppID: officialAccount, NickName: "杭州一店"}, {AppID: miniProgram, NickName: "会员小程序", MiniProgram: true}} {
		if err := o.weChat.AddAccount(account); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// pushTo sends WeChat's pushes to a host, at the paths of the old system.
func (o *oldSystem) pushTo(address string) {
	o.t.Helper()
	o.weChat.SetURLs("http://"+address+"/wxcallback/component", "http://"+address+"/wxcallback/biz/$APPID$")
	o.weChat.AdvanceClock(time.Second) // no ticket is as old as the one before
	if err := o.weChat.PushTicket(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
}

// ask posts to an endpoint of the component API, and returns WeChat's answer.
func (o *oldSystem) ask(endpoint, token, body string) (answer map[string]any) {
	o.t.Helper()
	path := "/cgi-bin/component/" + endpoint
	if token != "" {
		path += "?component_access_token=" + token
	}
	w := httptest.NewRecorder()
	o.weChat.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer["errcode"] != nil && answer["errcode"] != 0.0 {
		o.t.Fatalf("the old system has asked %s, and got %s", endpoint, w.Body)
	}
	return answer
}

// fetchComponentToken does what its timer does, with the ticket that it was pushed.
func (o *oldSystem) fetchComponentToken() {
	o.t.Helper()
	answer := o.ask("api_component_token", "", fmt.Sprintf(`{"component_appid":%q,"component_appsecret":%q,"component_verify_ticket":%q}`,
		sandbox.DefaultComponent, sandbox.DefaultAppSecret, o.weChat.ValidToken(sandbox.KindTicket, "")))
	o.component = answer["component_access_token"].(string)
}

// exchange lets an account authorise, and exchanges the code.
func (o *oldSystem) exchange(appid string) {
	o.t.Helper()
	code, err := o.weChat.Authorize(o.t.Context(), appid)
	if err != nil {
		o.t.Fatal(err)
	}
	o.keep(appid, o.ask("api_query_auth", o.component, fmt.Sprintf(`{"component_appid":%q,"authorization_code":%q}`, sandbox.DefaultComponent, code))["authorization_info"].(map[string]any))
}

func (o *oldSystem) renew(appid string) {
	o.t.Helper()
	o.keep(appid, o.ask("api_authorizer_token", o.component, fmt.Sprintf(`{"component_appid":%q,"authorizer_appid":%q,"authorizer_refresh_token":%q}`, sandbox.DefaultComponent, appid, o.stored[appid])))
}

func (o *oldSystem) keep(appid string, issued map[string]any) {
	o.access[appid], o.stored[appid] = issued["authorizer_access_token"].(string), issued["authorizer_refresh_token"].(string)
}

// readList reads the refresh tokens that WeChat knows.
func (o *oldSystem) readList() {
	o.t.Helper()
	list := o.ask("api_get_authorizer_list", o.component, fmt.Sprintf(`{"component_appid":%q,"offset":0,"count":500}`, sandbox.DefaultComponent))
	for _, each := range list["list"].([]any) {
		listed := each.(map[string]any)
		o.stored[listed["authorizer_appid"].(string)] = listed["refresh_token"].(string)
	}
}

// works reports whether WeChat takes the access token that the old system has.
func (o *oldSystem) works(appid string) bool {
	w := httptest.NewRecorder()
	o.weChat.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/cgi-bin/get_api_domain_ip?access_token="+o.access[appid], nil))
	return strings.Contains(w.Body.String(), "ip_list")
}

// gatewayOfMove is the gateway that takes over from the old system, at its paths.
func gatewayOfMove(t *testing.T, o *oldSystem) (n caddy.Node, run func() *caddy.Process) {
	t.Helper()
	api := httptest.NewServer(o.weChat)
	t.Cleanup(api.Close)
	n = node(t, api.URL, caddy.FreeAddress(t), caddy.FreeAddress(t))
	n.Admin = "unix/" + filepath.Join(t.TempDir(), "admin")
	site := strings.TrimSuffix(strings.TrimPrefix(caddyfileBlock(t, migratingPage, "open.example.com {"), "open.example.com {"), "}")
	text, file := strings.Replace(n.Caddyfile(), "\twechat_platform\n", site, 1), filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return n, func() *caddy.Process {
		p := caddy.Launch(t, "run", "--config", file)
		p.Serves(n.Platform, n.Proxy)
		return p
	}
}

// A platform moves from an old system to the gateway, as docs/migrating.md says, back, and
// to the gateway again: no admin authorises anew, and while one of the two takes over the
// tokens of the other go on for as long as the page says.
func TestMoveFromAnotherSystemAndBack(t *testing.T) {
	o := newOldSystem(t)
	o.pushTo(o.address)
	o.fetchComponentToken()
	o.exchange(officialAccount)
	o.exchange(miniProgram)
	n, run := gatewayOfMove(t, o)
	o.weChat.ResetCounts()

	p := run()
	o.pushTo(n.Platform)
	for _, each := range commandBlocks(strings.ReplaceAll(page(t, migratingPage), "\n   ", "\n")) {
		arguments, got := strings.Fields(strings.TrimPrefix(each.command, "caddy ")), ""
		p.Until(each.command+" prints what the page shows", func() bool { // accounts are counted in the background
			shown := caddy.Launch(t, append(arguments, "--address", n.Admin)...)
			shown.Wait()
			got = shape(strings.TrimSpace(shown.Printed()))
			return got == shape(each.answer) || arguments[1] == "sync"
		})
		if got != shape(each.answer) {
			t.Errorf("%s shows after %q\n%s\nwhich prints\n%s", migratingPage, each.command, shape(each.answer), got)
		}
	}
	o.weChat.AdvanceClock(6 * time.Minute)
	for _, appid := range []string{officialAccount, miniProgram} {
		if !o.works(appid) {
			t.Errorf("after sync and before a call the old token of %s is dead", appid)
		}
	}
	serves(t, n, officialAccount)
	if !o.works(officialAccount) {
		t.Error("the old token is dead at once")
	}
	o.weChat.AdvanceClock(6 * time.Minute)
	if o.works(officialAccount) || !o.works(miniProgram) {
		t.Error("five minutes after the call, the old token of another account than the one called for is dead")
	}
	serves(t, n, miniProgram)
	if _, err := o.weChat.PushMessage(t.Context(), officialAccount, "o123", "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[VIEW]]></Event>"); err != nil {
		t.Errorf("a message at the old path: %v", err)
	}
	if exchanged := o.weChat.Count(queryAuth); exchanged != 0 {
		t.Errorf("%d codes were exchanged: admins have authorised again", exchanged)
	}

	// Back: what the old system has is dead, what WeChat tells it works.
	p.Terminate()
	o.pushTo(o.address)
	o.fetchComponentToken()
	o.readList()
	for _, appid := range []string{officialAccount, miniProgram} {
		o.renew(appid)
		if !o.works(appid) {
			t.Errorf("the old system cannot serve %s", appid)
		}
	}
	newcomer := "wxcccccccccccccccc"
	if err := o.weChat.AddAccount(sandbox.Account{AppID: newcomer}); err != nil {
		t.Fatal(err)
	}
	o.exchange(newcomer)

	// And again: the gateway's tokens have been replaced, and one account is new to it.
	o.weChat.AdvanceClock(6 * time.Minute)
	p = run()
	o.pushTo(n.Platform)
	again := caddy.Launch(t, "wechat", "sync", "--address", n.Admin)
	if code := again.Wait(); code != 0 || !strings.HasSuffix(again.Printed(), "3 of 3\n1 account new, 0 restored\n") {
		t.Errorf("sync: exit code %d, %s", code, again.Printed())
	}
	for _, appid := range []string{officialAccount, miniProgram, newcomer} {
		serves(t, n, appid)
	}
	caddy.WantNoCredential(t, o.weChat.Credentials(), "what is printed", p.Printed()+again.Printed())
}

func TestMigratingPageShowsTheSameInChinese(t *testing.T) {
	want, got := commandBlocks(strings.ReplaceAll(page(t, migratingPage), "\n   ", "\n")), commandBlocks(strings.ReplaceAll(page(t, "../../docs/zh/migrating.md"), "\n   ", "\n"))
	if len(want) == 0 || !slices.Equal(want, got) {
		t.Errorf("docs/zh/migrating.md shows\n%q\nwant\n%q", got, want)
	}
}

// serves fails the test unless the gateway answers a call for an account.
func serves(t *testing.T, n caddy.Node, appid string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.Proxy+"/cgi-bin/get_api_domain_ip", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+caddy.ClientSecret)
	r.Header.Set("Wechat-Appid", appid)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if slug := response.Header.Get("Wechat-Gateway-Error"); response.StatusCode != http.StatusOK || slug != "" {
		t.Errorf("a call for %s is answered %s, %s", appid, response.Status, slug)
	}
}
