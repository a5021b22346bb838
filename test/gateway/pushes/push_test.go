// SPDX-License-Identifier: Apache-2.0

// Package pushes_test tests what comes from outside without a client's secret:
// what WeChat pushes, what of it is delivered to applications, and the pages on
// which an account's admin authorizes.
package pushes_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

func eventsURL(g *gwtest.Gateway) string { return g.Platform + "/wechat/events" }

// Nobody but WeChat can move the gateway: whatever does not verify is refused
// without detail and leaves storage as it was. The log says why.
func TestPushThatDoesNotVerifyChangesNothing(t *testing.T) {
	g := gwtest.StartSettled(t, gwtest.Options{})
	before := g.StoredRecords(t)
	ticket := "<xml><AppId>" + sandbox.DefaultComponent + "</AppId><CreateTime>4000000000</CreateTime>" +
		"<InfoType>component_verify_ticket</InfoType><ComponentVerifyTicket>ticket@@@forged</ComponentVerifyTicket></xml>"
	for name, test := range map[string]struct {
		push   sandbox.Push
		logged string
	}{
		"forged msg_signature":                {sandbox.Push{ForgedSignature: true}, "msg_signature does not match"},
		"signed with another token":           {sandbox.Push{Token: "anothertoken"}, "msg_signature does not match"},
		"sealed with another key":             {sandbox.Push{EncodingAESKey: strings.Repeat("b", 43)}, "not encrypted with any of the keys"},
		"another component's ciphertext":      {sandbox.Push{ReceiveID: "wxffffffffffffffff"}, "another receive id"},
		"timestamp 11 minutes old":            {sandbox.Push{Age: 11 * time.Minute}, "timestamp"},
		"timestamp 11 minutes ahead":          {sandbox.Push{Age: -11 * time.Minute}, "timestamp"},
		"AppId inside is another component's": {sandbox.Push{Plain: strings.ReplaceAll(ticket, sandbox.DefaultComponent, "wxffffffffffffffff")}, "AppId"},
		"DOCTYPE inside":                      {sandbox.Push{Plain: `<!DOCTYPE xml [<!ENTITY a "b">]>` + ticket}, "parsing event"},
		"broken XML inside":                   {sandbox.Push{Plain: ticket[:len(ticket)-9]}, "parsing event"},
		"nothing inside":                      {sandbox.Push{Plain: "<xml></xml>"}, "parsing event"},
	} {
		t.Run(name, func(t *testing.T) {
			push := test.push
			push.Attempts = 1
			if push.Plain == "" {
				push.Plain = ticket
			}
			answer, err := g.WeChat.Push(context.Background(), push)
			if err == nil || answer.Status != http.StatusForbidden || answer.Body != "" {
				t.Errorf("answer %d %q, %v; want 403 without a word", answer.Status, answer.Body, err)
			}
			if !strings.Contains(g.Logs(), test.logged) {
				t.Errorf("the log does not say %q", test.logged)
			}
		})
	}
	if diff := cmp.Diff(before, g.StoredRecords(t)); diff != "" {
		t.Errorf("storage has changed:\n%s", diff)
	}
}

func TestPushWithMalformedRequestChangesNothing(t *testing.T) {
	g := gwtest.StartSettled(t, gwtest.Options{})
	before := g.StoredRecords(t)
	const query = "?signature=a&timestamp=1&nonce=2&encrypt_type=aes&msg_signature=c"
	for name, test := range map[string]struct {
		method, body string
		status       int
	}{
		"a GET":                       {http.MethodGet, "", http.StatusMethodNotAllowed},
		"a PUT":                       {http.MethodPut, "<xml/>", http.StatusMethodNotAllowed},
		"no body":                     {http.MethodPost, "", http.StatusForbidden},
		"a body of 1 MB":              {http.MethodPost, strings.Repeat("a", 1<<20), http.StatusRequestEntityTooLarge},
		"a body of 64 KiB and one":    {http.MethodPost, strings.Repeat("a", 64<<10+1), http.StatusRequestEntityTooLarge},
		"broken XML":                  {http.MethodPost, "<xml><Encrypt>", http.StatusForbidden},
		"a DOCTYPE":                   {http.MethodPost, "<!DOCTYPE a><xml><Encrypt>a</Encrypt></xml>", http.StatusForbidden},
		"two Encrypts":                {http.MethodPost, "<xml><Encrypt>a</Encrypt><Encrypt>b</Encrypt></xml>", http.StatusForbidden},
		"a component unknown here":    {http.MethodPost, "<xml><AppId>wxffffffffffffffff</AppId><Encrypt>a</Encrypt></xml>", http.StatusForbidden},
		"a ticket in plain, unsigned": {http.MethodPost, "<xml><InfoType>component_verify_ticket</InfoType><ComponentVerifyTicket>x</ComponentVerifyTicket></xml>", http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequest(test.method, eventsURL(g)+query, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != test.status || len(body) != 0 {
				t.Errorf("answer %d %q, want %d without a word", response.StatusCode, body, test.status)
			}
		})
	}
	if diff := cmp.Diff(before, g.StoredRecords(t)); diff != "" {
		t.Errorf("storage has changed:\n%s", diff)
	}
}

// A push that WeChat repeats because our answer was lost is acknowledged
// again; one that an eavesdropper repeats moves nothing either.
func TestReplayedPushIsAcknowledgedAndNotReplayed(t *testing.T) {
	g := gwtest.StartSettled(t, gwtest.Options{})
	ctx := context.Background()
	if err := g.WeChat.Revoke(ctx, gwtest.OfficialAccount); err != nil {
		t.Fatal(err)
	}
	before := g.StoredRecords(t)
	for range 3 {
		answer, err := g.WeChat.Push(ctx, sandbox.Push{Replay: true})
		if err != nil || answer.Body != "success" {
			t.Fatalf("replay answered %d %q, %v", answer.Status, answer.Body, err)
		}
	}
	if diff := cmp.Diff(before, g.StoredRecords(t)); diff != "" {
		t.Errorf("the replay has changed storage:\n%s", diff)
	}
}

func TestUnknownInfoTypeIsAcknowledged(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{})
	for _, infoType := range []string{"notify_3rd_wxa_auth", "something_new"} {
		if err := g.WeChat.PushEvent(context.Background(), infoType, "<appid>wxcccccccccccccccc</appid>"); err != nil {
			t.Errorf("%s: %v", infoType, err)
		}
	}
}

// A registration WeChat has made for the platform brings an auth_code. If
// nobody exchanged it, no refresh token would ever exist.
func TestFastRegistrationIsAnAuthorization(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{Quiet: true, Sandbox: sandbox.Config{Switches: sandbox.Switches{NoAuthorizedPush: true}}})
	if err := g.WeChat.PushTicket(context.Background()); err != nil {
		t.Fatal(err)
	}
	const born = "wxcccccccccccccccc"
	if err := g.WeChat.AddAccount(sandbox.Account{AppID: born, MiniProgram: true}); err != nil {
		t.Fatal(err)
	}
	code, err := g.WeChat.Authorize(context.Background(), born)
	if err != nil {
		t.Fatal(err)
	}
	err = g.WeChat.PushEvent(context.Background(), "notify_third_fasteregister",
		fmt.Sprintf("<appid>%s</appid><status>0</status><auth_code>%s</auth_code>", born, code))
	if err != nil {
		t.Fatal(err)
	}
	answer := g.Get("/cgi-bin/user/get?access_token=" + g.Token(born))
	if strings.Contains(answer, "errcode") {
		t.Errorf("answer %s", answer)
	}
}

// An old ticket that arrives late must not take the place of a newer one.
func TestOlderTicketDoesNotReplaceNewer(t *testing.T) {
	g := gwtest.StartSettled(t, gwtest.Options{})
	before := g.StoredRecords(t)
	late := "<xml><AppId>" + sandbox.DefaultComponent + "</AppId><CreateTime>1</CreateTime>" +
		"<InfoType>component_verify_ticket</InfoType><ComponentVerifyTicket>ticket@@@late</ComponentVerifyTicket></xml>"
	if _, err := g.WeChat.Push(context.Background(), sandbox.Push{Plain: late}); err != nil {
		t.Fatal(err)
	}
	g.WeChat.KillTokens(g.WeChat.Component())
	g.WeChat.KillTokens(gwtest.OfficialAccount)
	if answer := g.Get("/cgi-bin/user/get?access_token=" + g.Token(gwtest.OfficialAccount)); strings.Contains(answer, "errcode") {
		t.Errorf("the component token cannot be renewed: %s", answer)
	}
	if len(g.StoredRecords(t)) != len(before) {
		t.Error("files have come or gone")
	}
}

// What could not be stored is not acknowledged, so WeChat pushes it again.
func TestPushIsNotAcknowledgedUnlessStored(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{Quiet: true})
	repair := g.BreakStorage(t)
	answer, err := g.WeChat.Push(context.Background(), sandbox.Push{Attempts: 1, Plain: "<xml><AppId>" + sandbox.DefaultComponent +
		"</AppId><CreateTime>1</CreateTime><InfoType>component_verify_ticket</InfoType><ComponentVerifyTicket>ticket@@@x</ComponentVerifyTicket></xml>"})
	if err == nil || answer.Status != http.StatusServiceUnavailable || strings.Contains(answer.Body, "success") {
		t.Errorf("answer %d %q, want 503", answer.Status, answer.Body)
	}
	repair()
	if err := g.WeChat.PushTicket(context.Background()); err != nil {
		t.Errorf("after storage is back: %v", err)
	}
}

// WeChat's console may name a new token or AES key before or after it is
// configured here: current and previous both open.
func TestPushSealedWithPreviousKeysIsAccepted(t *testing.T) {
	g := gwtest.StartSettled(t, gwtest.Options{})
	_, token, aesKey := g.WeChat.Keys()
	config := g.Caddyfile()
	for _, pair := range [][2]string{{token, "newtoken " + token}, {aesKey, strings.Repeat("n", 43) + " " + aesKey}} {
		config = strings.Replace(config, pair[0], pair[1], 1)
	}
	g.LoadCaddyfile(config)
	if err := g.WeChat.PushTicket(context.Background()); err != nil {
		t.Errorf("push with the previous token and key: %v", err)
	}
	if err := g.WeChat.RotatePushKeys("newtoken", strings.Repeat("n", 43)); err != nil {
		t.Fatal(err)
	}
	if err := g.WeChat.PushTicket(context.Background()); err != nil {
		t.Errorf("push with the current token and key: %v", err)
	}

}

// Somebody who opens a connection and sends a byte now and then does not hold
// it: the body has to arrive within ten seconds.
func TestSlowPushIsCutOff(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{Quiet: true})
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.Platform, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /wechat/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n<xml>")
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 400")) {
		t.Errorf("answer %q, %v; want 400 and the connection closed", answer, err)
	}
}

// Somebody who has captured a push for the events URL sends it to the messages
// URL: opened and delivered there, it would hand the ticket to a client.
func TestEventAtTheMessagesURLIsRefused(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{})
	answer, err := g.WeChat.Push(t.Context(), sandbox.Push{
		AppID: gwtest.OfficialAccount, Attempts: 1,
		Plain: "<xml><AppId>" + sandbox.DefaultComponent + "</AppId><InfoType>component_verify_ticket</InfoType>" +
			"<ComponentVerifyTicket>ticket@@@x</ComponentVerifyTicket></xml>",
	})
	if err == nil || answer.Status != http.StatusForbidden {
		t.Errorf("answer %d %q, want 403", answer.Status, answer.Body)
	}
}
