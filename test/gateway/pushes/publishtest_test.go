// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// publishTestGroups are the accounts with which WeChat tests a platform: an official
// account and a mini program each.
var publishTestGroups = [][2]sandbox.Account{
	{{AppID: "wx570bc396a51b8ff8", UserName: "gh_3c884a361561"}, {AppID: "wxd101a85aa106f53e", UserName: "gh_8dad206e9538", MiniProgram: true}},
	{{AppID: "wx9252c5e0bb1836fc", UserName: "gh_c0f28a78b318"}, {AppID: "wxc39235c15087f6f3", UserName: "gh_905ae9d01059", MiniProgram: true}},
	{{AppID: "wx8e1097c5bc82cde9", UserName: "gh_3f222ed8d140"}, {AppID: "wx7720d01d4b2a4500", UserName: "gh_393666f1fdf4", MiniProgram: true}},
	{{AppID: "wx14550af28c71a144", UserName: "gh_26128078e9ab"}, {AppID: "wx05d483572dcd5d8b", UserName: "gh_39abb5d4e1b7", MiniProgram: true}},
	{{AppID: "wxa35b9c23cfe664eb", UserName: "gh_2b3713f184a6"}, {AppID: "wx5910277cae6fd970", UserName: "gh_7818dcb60240", MiniProgram: true}},
}

const publishTester = "oWeChatsTester"

// publishTest plays WeChat, which runs its test against a gateway.
type publishTest struct {
	*gwtest.Gateway
	t *testing.T
}

// run makes all steps with the accounts of a group.
func (p publishTest) run(group [2]sandbox.Account) {
	p.t.Helper()
	if err := p.WeChat.PushTicket(p.t.Context()); err != nil {
		p.t.Error(err)
	}
	official, mini := group[0].AppID, group[1].AppID
	codes := map[string]string{official: p.authorize(group[0]), mini: p.authorize(group[1])}
	p.wantReply(p.WeChat.Text(official, publishTester, "TESTCOMPONENT_MSG_TYPE_TEXT"), "TESTCOMPONENT_MSG_TYPE_TEXT_callback")
	event, err := p.WeChat.Message(official, publishTester, "LOCATION", "")
	if err != nil {
		p.t.Fatal(err)
	}
	p.wantReply(event, "LOCATIONfrom_callback")
	for appid, code := range codes {
		p.wantEmpty(p.WeChat.Text(appid, publishTester, "QUERY_AUTH_CODE:"+code))
	}
	for appid, code := range codes {
		p.wantCodeBack(appid, code)
	}
}

// authorize lets an account authorise the platform, and returns the code.
func (p publishTest) authorize(account sandbox.Account) (code string) {
	p.t.Helper()
	if err := p.WeChat.AddAccount(account); err != nil {
		p.t.Fatal(err)
	}
	code, err := p.WeChat.Authorize(p.t.Context(), account.AppID)
	if err != nil {
		p.t.Error(err)
	}
	return code
}

// wantReply pushes a message, whose reply must be this text.
func (p publishTest) wantReply(message sandbox.Push, text string) {
	p.t.Helper()
	answer, err := p.WeChat.Push(p.t.Context(), message)
	if err != nil || answer.Attempts != 1 || !strings.Contains(answer.Reply, "<Content><![CDATA["+text+"]]></Content>") {
		p.t.Errorf("replied %q at attempt %d, %v; want %q", answer.Reply, answer.Attempts, err, text)
	}
}

// wantEmpty pushes a message, whose answer must be empty, in time.
func (p publishTest) wantEmpty(message sandbox.Push) {
	p.t.Helper()
	answer, err := p.WeChat.Push(p.t.Context(), message)
	if err != nil || answer.Attempts != 1 || answer.Status != http.StatusOK || answer.Body != "" {
		p.t.Errorf("answered %d %q at attempt %d, %v; want an empty answer", answer.Status, answer.Body, answer.Attempts, err)
	}
}

// sent are the customer service messages of an account.
func (p publishTest) sent(appid string) (texts []string) {
	for _, m := range p.WeChat.SentMessages() {
		if m.AppID == appid {
			texts = append(texts, m.ToUser+" "+string(m.Body))
		}
	}
	return texts
}

// wantCodeBack waits for the message with the code.
func (p publishTest) wantCodeBack(appid, code string) {
	p.t.Helper()
	eventually(p.t, appid+" has sent its code", func() bool { return len(p.sent(appid)) > 0 }, p.Logs)
	want := publishTester + ` {"msgtype":"text","text":{"content":"` + code + `_from_api"},"touser":"` + publishTester + `"}`
	if got := p.sent(appid); len(got) != 1 || got[0] != want {
		p.t.Errorf("%s has sent %q, want %s\n%s", appid, got, want, p.Logs())
	}
}

// wantNothingSetOff checks that no code was sent back, and none waits for that.
func (p publishTest) wantNothingSetOff() {
	p.t.Helper()
	waiting, err := filepath.Glob(filepath.Join(p.Storage, "wechat", "*", "publish-test", "*"))
	if err != nil || len(waiting) > 0 {
		p.t.Errorf("waiting are %v, %v", waiting, err)
	}
	if sent := p.WeChat.SentMessages(); len(sent) > 0 {
		p.t.Errorf("sent %+v", sent)
	}
}

// anyAccount is a client that gets the messages of all accounts.
func anyAccount(t *testing.T, application http.Handler) string {
	return "client shop {\n secret " + gwtest.ClientSecret + "\n authorizers *\n component_api\n deliver " + gwtest.Serve(t, application) + " {\n token SHOPTOKEN\n }\n}"
}

// The platform passes by itself, whatever the applications do, and no credential leaves
// the gateway by any way.
func TestPublishTestPassesWithoutTheApplications(t *testing.T) {
	ended := make(chan struct{})
	answers := map[string]gwtest.DeliveryAnswer{
		"no client at all": nil,
		"one that hangs": func(url.Values, string) (int, string) {
			<-ended
			return http.StatusOK, ""
		},
		"one that answers nonsense": func(url.Values, string) (int, string) { return http.StatusOK, "<html>not found" },
		"one that replies itself":   func(url.Values, string) (int, string) { return http.StatusOK, passive("I know better") },
		"one that fails":            func(url.Values, string) (int, string) { return http.StatusInternalServerError, "" },
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			application := gwtest.NewApplication()
			clients := "# none"
			if answer != nil {
				application.AnswerWith(answer)
				clients = anyAccount(t, application)
			}
			p := publishTest{gwtest.Start(t, gwtest.Options{Clients: clients, Watch: true, Quiet: true}), t}
			if name == "one that hangs" {
				defer close(ended)
			}
			for _, group := range publishTestGroups {
				p.run(group)
			}
			for _, delivery := range application.Deliveries() {
				if delivery.Query.Get("openid") == publishTester {
					t.Errorf("the application got %s", delivery.Body)
				}
			}
		})
	}
}

// The publish test of the sandbox, which has its own reading of WeChat's pages, passes:
// with the same code in push and message or with two, and with the steps of before.
func TestPublishTestOfTheSandbox(t *testing.T) {
	for name, switches := range map[string]sandbox.Switches{
		"one code": {}, "two codes": {DifferentCodes: true}, "the steps of before": {PublishOldSteps: true}, "no event for the authorisation": {DifferentCodes: true, NoAuthorizedPush: true},
	} {
		t.Run(name, func(t *testing.T) {
			g := gwtest.Start(t, gwtest.Options{Sandbox: sandbox.Config{Switches: switches}, Clients: "# none", Quiet: true})
			steps, err := g.WeChat.PublishTest(t.Context(), 0)
			if err != nil || len(steps) < 20 {
				t.Errorf("%d steps, %v", len(steps), err)
			}
			for _, step := range steps {
				if !step.OK {
					t.Errorf("%+v", step)
				}
			}
		})
	}
}

// Applications get the messages of all other accounts, also with the texts of the test.
func TestPublishTestIsForItsAccountsOnly(t *testing.T) {
	application := gwtest.NewApplication()
	p := publishTest{gwtest.Start(t, gwtest.Options{Clients: anyAccount(t, application), Watch: true}), t}
	code := p.authorize(publishTestGroups[0][0])
	wrongName := p.WeChat.Text(gwtest.OfficialAccount, "follower", "QUERY_AUTH_CODE:"+code)
	wrongName.AppID = publishTestGroups[0][0].AppID
	for _, message := range []sandbox.Push{
		p.WeChat.Text(gwtest.OfficialAccount, "follower", "TESTCOMPONENT_MSG_TYPE_TEXT"),
		p.WeChat.Text(gwtest.MiniProgram, "follower", "QUERY_AUTH_CODE:queryauthcode@@@unknown"),
		p.WeChat.Text(publishTestGroups[0][0].AppID, "follower", "hello"),
	} {
		answer, err := p.WeChat.Push(t.Context(), message)
		if err != nil || answer.Body != "success" {
			t.Errorf("answered %q, %v", answer.Body, err)
		}
	}
	if got := application.Count("FromUserName"); got != 3 {
		t.Errorf("the application got %d messages, want 3", got)
	}
	if answer, err := p.WeChat.Push(t.Context(), wrongName); err != nil || answer.Body != "success" {
		t.Errorf("answered %q, %v", answer.Body, err)
	}
	p.wantNothingSetOff()
}

// A restart between the push and the exchange, while WeChat is down, loses nothing; nor
// does a reload.
func TestPublishTestSurvivesARestart(t *testing.T) {
	for name, again := range map[string]func(p publishTest){
		"restart": func(p publishTest) { p.Restart(p.t, p.WeChat.ClearFaults) },
		"reload":  func(p publishTest) { p.Load(); p.WeChat.ClearFaults() },
	} {
		t.Run(name, func(t *testing.T) {
			p := publishTest{gwtest.Start(t, gwtest.Options{Watch: true}), t}
			p.WeChat.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
			account := publishTestGroups[4][1]
			code := p.authorize(account)
			p.WeChat.Inject(sandbox.Fault{Path: "/cgi-bin/component/api_query_auth", Reset: true})
			p.wantEmpty(p.WeChat.Text(account.AppID, publishTester, "QUERY_AUTH_CODE:"+code))
			again(p)
			p.wantCodeBack(account.AppID, code)
		})
	}
}

// A platform whose application passes the test itself turns it off here.
func TestPublishTestOff(t *testing.T) {
	application := gwtest.NewApplication()
	application.AnswerWith(func(_ url.Values, body string) (int, string) { return http.StatusOK, passive("the application's") })
	p := publishTest{gwtest.Start(t, gwtest.Options{Component: "publish_test off", Clients: anyAccount(t, application), Watch: true}), t}
	account := publishTestGroups[2][0]
	code := p.authorize(account)
	for _, text := range []string{"TESTCOMPONENT_MSG_TYPE_TEXT", "QUERY_AUTH_CODE:" + code} {
		p.wantReply(p.WeChat.Text(account.AppID, publishTester, text), "the application's")
	}
	p.wantNothingSetOff()
	p.Change(func(o *gwtest.Options) { o.Component = "" })
	p.wantReply(p.WeChat.Text(account.AppID, publishTester, "TESTCOMPONENT_MSG_TYPE_TEXT"), "TESTCOMPONENT_MSG_TYPE_TEXT_callback")
}
