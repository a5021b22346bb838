// SPDX-License-Identifier: Apache-2.0

package leaks_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// pushes sends tickets, events and messages, good and bad.
func pushes(t *testing.T, g *gwtest.Gateway) {
	ticket := "<xml><AppId>" + sandbox.DefaultComponent + "</AppId><CreateTime>1</CreateTime><InfoType>component_verify_ticket</InfoType>" +
		"<ComponentVerifyTicket>" + g.WeChat.ValidToken(sandbox.KindTicket, "") + "</ComponentVerifyTicket></xml>"
	text := "<MsgType>text</MsgType><Content>x</Content><MsgId>1</MsgId>"
	for range 2 {
		_ = g.WeChat.PushTicket(t.Context())
		_ = g.WeChat.PushEvent(t.Context(), "something_new", "<appid>wxcccccccccccccccc</appid>")
		_ = g.WeChat.Revoke(t.Context(), both[0])
		_, _ = g.WeChat.Authorize(t.Context(), both[0])
		for _, push := range []sandbox.Push{
			{Plain: ticket}, {Replay: true}, {Plain: ticket, AppID: both[0]}, {Plain: ticket, AppID: "nonsense"},
			{Plain: ticket, ForgedSignature: true}, {Plain: ticket, Token: "anothertoken"}, {Plain: ticket, Age: 11 * time.Minute},
			{Plain: ticket, EncodingAESKey: strings.Repeat("b", 43)}, {Plain: ticket, ReceiveID: "wxffffffffffffffff"},
			{Plain: ticket[:len(ticket)-10]}, {Plain: strings.TrimSuffix(ticket, "</xml>")}, {Plain: "<!DOCTYPE a>" + ticket},
			{Plain: strings.ReplaceAll(ticket, "</ComponentVerifyTicket>", "<")}, {Plain: strings.ReplaceAll(ticket, "ticket@@@", "&ticket@@@;")},
			{Plain: strings.ReplaceAll(ticket, sandbox.DefaultComponent, "wxffffffffffffffff")}, {Plain: ""},
			{Plain: "<xml>" + text + "</xml>", AppID: both[0]}, {Plain: "<xml>" + text, AppID: both[0]},
		} {
			push.Attempts = 1
			_, _ = g.WeChat.Push(t.Context(), push)
		}
		for _, body := range []string{"", "<xml>", ticket, strings.Repeat("x", 1<<17), "<xml><Encrypt>bm90aGluZw==</Encrypt></xml>"} {
			for _, path := range []string{"/wechat/events", "/wechat/messages/" + both[0], "/wechat/nowhere"} {
				post(g.Platform+path+"?signature=a&timestamp=1&nonce=2&encrypt_type=aes&msg_signature=c", body)
			}
		}
		g.Load()
	}
}

func post(address, body string) {
	response, err := http.Post(address, "text/xml", strings.NewReader(body))
	if err != nil {
		return // the connection breaks where a body is refused before its end
	}
	_, _ = io.Copy(io.Discard, response.Body)
	response.Body.Close()
}

// pages lets admins authorise, in the right way and in wrong ones.
func pages(t *testing.T, g *gwtest.Gateway) {
	g.WeChat.SetLaunchDomain(strings.TrimPrefix(g.Platform, "http://"))
	b := gwtest.NewBrowser(t)
	visits := 0
	launch := func(query string) *url.URL {
		visits++
		b.From = fmt.Sprint("192.0.2.", visits) // each address has a share only
		return b.Launch(g, query)
	}
	back := b.Agree(g, launch("auth_type=1"), both[0])
	for range 2 {
		b.Get(back, "")
	}
	b.Get(back+"x", "")
	gwtest.NewBrowser(t).Get(back, "")
	link := launch("state=mine&return_url=" + url.QueryEscape("https://console.example.com/a?b=c"))
	b.Get(b.Agree(g, link, both[1]), "")
	for _, code := range []string{"", "&auth_code=", "&auth_code=queryauthcode@@@made-up", "&auth_code=queryauthcode@@@made-up", "&auth_code=" + strings.Repeat("c", 600)} {
		b.Get(launch("").Query().Get("redirect_uri")+code, "")
	}
	for _, query := range []string{"component=wxffffffffffffffff", "auth_type=7", "return_url=https://evil.example.com/", "biz_appid=" + gwtest.ClientSecret[:4]} {
		b.Get(g.LaunchURL(query), "")
		b.Press(g.LaunchURL(query))
	}
	for _, fault := range []sandbox.Fault{
		{Status: 502}, {ErrCode: 61004, ErrMsg: strings.Join(g.WeChat.Credentials(), " ")}, {CutHalf: true}, {ErrCode: 40001}, {Empty: true},
	} {
		redirect := b.Agree(g, launch(""), both[0])
		fault.Path = "/cgi-bin/component/"
		g.WeChat.Inject(fault)
		b.Get(redirect, "")
		b.Press(g.LaunchURL(""))
		g.WeChat.ClearFaults()
		_ = g.WeChat.PushTicket(t.Context())
	}
	for range 10 { // until the share is spent
		b.Press(g.LaunchURL(""))
		b.Get(launch("").Query().Get("redirect_uri")+"&auth_code=queryauthcode@@@another", "")
	}
}

const (
	deliverToken = "shoppushtoken0123456789"
	deliverKey   = "shopaeskey000000000000000000000000000000001"

	deliverTokenBefore = "shoppushtoken9876543210"
	deliverKeyBefore   = "shopaeskey000000000000000000000000000000000"
	deliverWebhook     = "whsec_c2hvcC13ZWJob29rLXNlY3JldC0wMTIzNDU2Nzg5"
	deliverHeader      = "shop-header-secret-0123456789"
)

// deliverOptions are for every deliver here.
const deliverOptions = "token " + deliverToken + " " + deliverTokenBefore + "\nwebhook_secret " + deliverWebhook + "\nheader Authorization \"Bearer " + deliverHeader + "\"\n"

// application takes every event unless it is to fail, and answers each message
// in another way, often with what it got.
func application(fails bool) http.HandlerFunc {
	var messages atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got := fmt.Sprint(r.RequestURI, r.Header)
		if fails || !r.URL.Query().Has("openid") {
			if fails {
				http.Error(w, got, http.StatusInternalServerError)
			}
			return
		}
		switch messages.Add(1) % 5 {
		case 0:
			_, _ = io.WriteString(w, "success")
		case 1:
			_, _ = w.Write(body)
		case 2:
			_, _ = io.WriteString(w, got)
		case 3:
			http.Error(w, got, http.StatusBadGateway)
		case 4:
			panic(http.ErrAbortHandler)
		}
	}
}

// deliveries hands messages and events to applications that take them, fail,
// and are away, in plain and in safe mode.
func deliveries(t *testing.T, g *gwtest.Gateway) {
	var clients strings.Builder
	key := "encoding_aes_key " + deliverKey + " " + deliverKeyBefore
	for mode, key := range map[string]string{"plain": "", "safe": key, "platform": key + "\nas platform"} {
		for name, to := range map[string]string{
			"takes": gwtest.Serve(t, application(false)), "fails": gwtest.Serve(t, application(true)), "away": gwtest.RefusingURL(t),
		} {
			fmt.Fprintf(&clients, "client %s-%s {\nsecret %[1]s-%[2]s-%s\nauthorizers *\ndeliver %s {\n%s%s\n}\n}\n",
				name, mode, gwtest.SoloSecret, to, deliverOptions, key)
		}
	}
	g.Change(func(o *gwtest.Options) { o.Clients = gwtest.ShopClient + clients.String() })
	for range 10 {
		message := g.WeChat.Text(both[0], "o1", "x")
		message.Attempts = 1
		_, _ = g.WeChat.Push(t.Context(), message)
	}
	if _, err := g.WeChat.UpdateAuthorized(t.Context(), both[1]); err != nil {
		t.Error(err)
	}
	if err := g.WeChat.PushTicket(t.Context()); err != nil {
		t.Error(err)
	}
	for text, clients := range map[string]int{`"event delivered"`: 3, `"event not delivered`: 6, "ticket not delivered": 2} {
		for end := time.Now().Add(20 * time.Second); strings.Count(g.Logs(), text) < clients; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not logged %d times: %s\n%s", clients, text, g.Logs())
			}
		}
	}
}
