// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// fakeGateway answers the texts of the publish test. WeChat's pushes come one after
// the other, so it has no lock.
type fakeGateway struct {
	codec  bizmsg.Codec
	api    string // of WeChat
	silent bool   // takes messages, but does nothing for them

	component string            // the component's token
	tokens    map[string]string // of accounts, by appid
}

func (g *fakeGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	envelope, err := bizmsg.ParseEnvelope(body)
	if err != nil {
		http.Error(w, "", http.StatusBadRequest)
		return
	}
	query := r.URL.Query()
	message, err := g.codec.Open(query.Get("msg_signature"), query.Get("timestamp"), query.Get("nonce"), envelope.Encrypt)
	if err != nil {
		http.Error(w, "", http.StatusForbidden)
		return
	}
	plain := string(message.Plain)
	content := element(plain, "Content")
	code, asked := strings.CutPrefix(content, "QUERY_AUTH_CODE:")
	switch appid := strings.TrimPrefix(r.URL.Path, "/messages/"); {
	case element(plain, "InfoType") == "component_verify_ticket":
		answer := g.call("/cgi-bin/component/api_component_token", map[string]any{"component_appid": sandbox.DefaultComponent,
			"component_appsecret": sandbox.DefaultAppSecret, "component_verify_ticket": element(plain, "ComponentVerifyTicket")})
		g.component, _ = answer["component_access_token"].(string)
	case element(plain, "InfoType") == "authorized":
		answer := g.call("/cgi-bin/component/api_query_auth?access_token="+g.component, map[string]any{"component_appid": sandbox.DefaultComponent,
			"authorization_code": element(plain, "AuthorizationCode")})
		info, _ := answer["authorization_info"].(map[string]any)
		g.tokens[element(plain, "AuthorizerAppid")], _ = info["authorizer_access_token"].(string)
	case asked && !g.silent:
		g.call("/cgi-bin/message/custom/send?access_token="+g.tokens[appid], map[string]any{"touser": element(plain, "FromUserName"),
			"msgtype": "text", "text": map[string]string{"content": code + "_from_api"}})
		return
	case content != "" && !asked:
		reply := fmt.Sprintf("<xml><ToUserName>%s</ToUserName><FromUserName>gh_1</FromUserName><MsgType>text</MsgType><Content>%s_callback</Content></xml>",
			element(plain, "FromUserName"), content)
		sealed := message.Seal([]byte(reply), time.Now(), query.Get("nonce"))
		fmt.Fprintf(w, "<xml><Encrypt>%s</Encrypt><MsgSignature>%s</MsgSignature><TimeStamp>%s</TimeStamp><Nonce>%s</Nonce></xml>",
			sealed.Encrypt, sealed.MsgSignature, sealed.TimeStamp, sealed.Nonce)
		return
	}
	_, _ = io.WriteString(w, "success")
}

func (g *fakeGateway) call(path string, body map[string]any) (answer map[string]any) {
	encoded, _ := json.Marshal(body)
	response, err := http.Post(g.api+path, "application/json", strings.NewReader(string(encoded)))
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	_ = json.NewDecoder(response.Body).Decode(&answer)
	return answer
}

func element(document, name string) string {
	_, rest, _ := strings.Cut(document, "<"+name+"><![CDATA[")
	text, _, _ := strings.Cut(rest, "]]></"+name+">")
	return text
}

// runPublish runs the test against a gateway that change has changed.
func runPublish(t *testing.T, group int, change func(g *fakeGateway)) (printed string, exit int, err error) {
	t.Helper()
	key, err := bizmsg.ParseKey(secret.New(sandbox.DefaultEncodingAESKey))
	if err != nil {
		t.Fatal(err)
	}
	g := &fakeGateway{codec: bizmsg.Codec{ReceiveID: sandbox.DefaultComponent, Tokens: []secret.Secret{secret.New(sandbox.DefaultToken)}, Keys: []bizmsg.Key{key}}, tokens: map[string]string{}}
	gateway := httptest.NewServer(g)
	defer gateway.Close()
	weChat, err := newSandbox(sandbox.Config{EventsURL: gateway.URL + "/events", MessagesURL: gateway.URL + "/messages/$APPID$"})
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(weChat)
	defer api.Close()
	g.api = api.URL
	if change != nil {
		change(g)
	}
	var out strings.Builder
	exit, err = code(publishTest(t.Context(), &out, weChat, "http://sandbox.test", group))
	return out.String(), exit, err
}

// What an operator reads of a gateway that passes.
func TestThePublishTestIsPrinted(t *testing.T) {
	printed, exit, err := runPublish(t, 1, nil)
	want := `
Group 1 of the test accounts
  ok      ticket
          sent    the event component_verify_ticket
          got     ` + "`success`" + `
          wanted  ` + "`success`" + ` within 5s
`
	if err != nil || exit != caddy.ExitCodeSuccess || !strings.HasPrefix(printed, want) || !strings.HasSuffix(printed, "\nAll 6 steps passed.\n") {
		t.Errorf("exit code %d, %v\n%s", exit, err, printed)
	}
	for _, want := range []string{`
  ok      official account: text (wx570bc396a51b8ff8)
          sent    the text "TESTCOMPONENT_MSG_TYPE_TEXT"
          got     the text "TESTCOMPONENT_MSG_TYPE_TEXT_callback"
          wanted  as reply the text "TESTCOMPONENT_MSG_TYPE_TEXT_callback" within 5s
`, `
  ok      mini program: customer message (wxd101a85aa106f53e)
          sent    the text "QUERY_AUTH_CODE:$query_auth_code$"
          got     an empty answer;
                  the code was exchanged;
                  custom/send of the text "$query_auth_code$_from_api" to the follower
          wanted  an empty answer within 5s;
                  then, within 10s, api_query_auth with the code;
                  and with the token of that custom/send of the text "$query_auth_code$_from_api" to the follower
`} {
		if !strings.Contains(printed, want) {
			t.Errorf("%s\nlacks%s", printed, want)
		}
	}
	if printed, exit, err := runPublish(t, 0, nil); err != nil || exit != 0 || strings.Count(printed, "\nGroup ") != 5 {
		t.Errorf("all groups: exit code %d, %v\n%s", exit, err, printed)
	}
}

// A gateway that fails: the failed step, an exit code, and what it may lack.
func TestAFailedPublishTestIsPrinted(t *testing.T) {
	const lines = "token            " + sandbox.DefaultToken
	foreign := func(g *fakeGateway) { g.codec.Tokens = []secret.Secret{secret.New("another")} }
	elsewhere := func(g *fakeGateway) { g.api = "http://127.0.0.1:1" }
	silent := func(g *fakeGateway) { g.silent = true }
	for name, row := range map[string]struct {
		change func(g *fakeGateway)
		prints []string
		hint   bool
		failed string
	}{
		"other keys":      {foreign, []string{"FAILED  ticket\n", "status 403", "wechat_platform", "api   http://sandbox.test"}, true, "1 of 1 steps"},
		"another API":     {func(g *fakeGateway) { silent(g); elsewhere(g) }, []string{"ok      ticket\n", "has made no call", "api   http://sandbox.test"}, true, "2 of 6 steps"},
		"nothing is done": {silent, []string{"FAILED  official account: customer message", "got     `success`\n"}, false, "2 of 6 steps"},
		"nothing at all":  {func(g *fakeGateway) { g.codec.Keys = nil }, []string{"FAILED  ticket\n"}, true, "1 of 1 steps"},
	} {
		printed, exit, err := runPublish(t, 1, row.change)
		if exit != 1 || err == nil || err.Error() != "the publish test failed: "+row.failed || strings.Contains(printed, lines) != row.hint || strings.Contains(printed, "passed") {
			t.Errorf("%s: exit code %d, %v\n%s", name, exit, err, printed)
		}
		for _, want := range row.prints {
			if !strings.Contains(printed, want) {
				t.Errorf("%s: %q is not in\n%s", name, want, printed)
			}
		}
	}
}

func TestThePublishTestDoesNotBegin(t *testing.T) {
	if printed, exit, err := runPublish(t, 6, nil); exit != 1 || err == nil || !strings.Contains(err.Error(), "groups 1 to 5") || printed != "" {
		t.Errorf("exit code %d, %v, printed %q", exit, err, printed)
	}
	taken := httptest.NewServer(nil)
	defer taken.Close()
	address := taken.Listener.Addr().String()
	err := runPublishTest(context.Background(), io.Discard, sandbox.Config{}, address, 0)
	if err == nil || !strings.Contains(err.Error(), address+" is in use") || !strings.Contains(err.Error(), "curl http://"+address+"/_sandbox/publish-test") {
		t.Error(err)
	}
	for _, arguments := range [][]string{{"--group", "1"}, {"--group", "1", "--publish-test=false"}} {
		cmd := sandboxCommand()
		cmd.SetArgs(arguments)
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "--publish-test") {
			t.Errorf("%q: %v", arguments, err)
		}
	}
}
