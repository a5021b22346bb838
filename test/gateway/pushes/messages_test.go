// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

func passive(content string) string {
	return "<xml><ToUserName><![CDATA[follower]]></ToUserName><FromUserName><![CDATA[gh_1]]></FromUserName>" +
		"<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[" + content + "]]></Content></xml>"
}

func TestTheReplyOfAnApplicationReachesTheFollower(t *testing.T) {
	w := newDeliveryWorld(t)
	w.shop.AnswerWith(func(query url.Values, body string) (int, string) {
		if query.Get("signature") != bizmsg.Sign(secret.New(shopToken), query.Get("timestamp"), query.Get("nonce"), "") ||
			query.Get("appid") != shopAccount || query.Get("openid") != "follower" || !strings.Contains(body, "hello") {
			return http.StatusForbidden, ""
		}
		return http.StatusOK, passive("from shop")
	})
	reply, err := w.PushMessage(t.Context(), shopAccount, "follower", gwtest.HelloMessage)
	if err != nil || reply != passive("from shop") {
		t.Errorf("%q, %v", reply, err)
	}
	w.eventually("crm gets it too", func() bool { return w.crm.Count("<Encrypt>") == 1 })
}

func TestAClientInSafeModeIsSpokenToAsAnOrdinaryAccount(t *testing.T) {
	w := newDeliveryWorld(t)
	key, err := bizmsg.ParseKey(secret.New(crmAESKey))
	if err != nil {
		t.Fatal(err)
	}
	account := bizmsg.Codec{ReceiveID: otherAccount, Tokens: []secret.Secret{secret.New(crmToken)}, Keys: []bizmsg.Key{key}}
	w.crm.AnswerWith(func(query url.Values, body string) (int, string) {
		envelope, err := bizmsg.ParseEnvelope([]byte(body))
		if err != nil {
			return http.StatusBadRequest, ""
		}
		message, err := account.Open(query.Get("msg_signature"), query.Get("timestamp"), query.Get("nonce"), envelope.Encrypt)
		if err != nil || !strings.Contains(string(message.Plain), "hello") || query.Get("x") != "1" {
			return http.StatusForbidden, ""
		}
		return http.StatusOK, string(account.Seal([]byte(passive("from crm")), time.Now(), query.Get("nonce")).XML())
	})
	reply, err := w.PushMessage(t.Context(), otherAccount, "follower", gwtest.HelloMessage)
	if err != nil || reply != passive("from crm") {
		t.Errorf("%q, %v", reply, err)
	}
	if n := w.shop.Count("hello"); n != 0 {
		t.Error("shop got a message of an account it may not act for")
	}
}

func TestAReplyInClearIsNoneInSafeMode(t *testing.T) {
	w := newDeliveryWorld(t)
	w.shop.AnswerWith(func(url.Values, string) (int, string) { return http.StatusOK, passive("from shop") })
	w.crm.AnswerWith(func(url.Values, string) (int, string) { return http.StatusOK, passive("in clear, so not a reply") })
	reply, err := w.PushMessage(t.Context(), shopAccount, "follower", gwtest.HelloMessage)
	if err != nil || reply != passive("from shop") {
		t.Errorf("%q, %v", reply, err)
	}
}

func TestAMessageNobodyTookWaitsForTheApplication(t *testing.T) {
	w := newDeliveryWorld(t)
	down := func(url.Values, string) (int, string) { return http.StatusBadGateway, "" }
	w.shop.AnswerWith(down)
	w.crm.AnswerWith(down)
	answer, err := w.Push(t.Context(), w.Text(shopAccount, "follower", "hello \x1d 你好"))
	if err != nil || answer.Shown != "silence" || answer.Attempts != 1 {
		t.Errorf("%+v, %v", answer, err)
	}
	w.shop.AnswerWith(gwtest.Success)
	w.crm.AnswerWith(gwtest.Success)
	w.eventually("shop and crm get it later", func() bool { return w.shop.Count("hello \x1d 你好") >= 2 && w.crm.Count("<Encrypt>") >= 2 })
	deliveries := w.shop.Deliveries()
	if id := deliveries[0].Query.Get("event_id"); len(id) != 32 || id != deliveries[1].Query.Get("event_id") {
		t.Errorf("%v", deliveries)
	}
}

func TestMessagesDoNotDependOnStorage(t *testing.T) {
	w := newDeliveryWorld(t)
	w.breakStorage()
	w.shop.AnswerWith(func(url.Values, string) (int, string) { return http.StatusOK, passive("from shop") })
	if reply, err := w.PushMessage(t.Context(), shopAccount, "follower", gwtest.HelloMessage); err != nil || reply != passive("from shop") {
		t.Errorf("%q, %v", reply, err)
	}
}

func TestTheDoorForMessages(t *testing.T) {
	w := newDeliveryWorld(t)
	for name, row := range map[string]struct {
		push sandbox.Push
		want int
	}{
		"another signature":       {sandbox.Push{ForgedSignature: true}, 403},
		"another token":           {sandbox.Push{Token: "WRONGTOKEN"}, 403},
		"another key":             {sandbox.Push{EncodingAESKey: crmAESKey}, 403},
		"another platform's":      {sandbox.Push{ReceiveID: shopAccount}, 403},
		"11 minutes old":          {sandbox.Push{Age: 11 * time.Minute}, 403},
		"11 minutes early":        {sandbox.Push{Age: -11 * time.Minute}, 403},
		"9 minutes old is well":   {sandbox.Push{Age: 9 * time.Minute}, 200},
		"more than 64 KiB":        {sandbox.Push{Plain: strings.Repeat("a", 64<<10)}, 413},
		"no appid in the path":    {sandbox.Push{AppID: "$APPID$"}, 403},
		"something like an appid": {sandbox.Push{AppID: "wxAAAAAAAAAAAAAAAA"}, 403},
		"another path below":      {sandbox.Push{AppID: shopAccount + "/x"}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			if row.push.AppID == "" {
				row.push.AppID = shopAccount
			}
			if row.push.Plain == "" {
				row.push.Plain = "<xml>" + name + "</xml>"
			}
			row.push.Attempts = 1
			answer, _ := w.Push(t.Context(), row.push)
			if answer.Status != row.want || row.want != 200 && answer.Body != "" {
				t.Errorf("%+v", answer)
			}
			if n := w.shop.Count(name); row.want != 200 && n != 0 {
				t.Error("it was delivered")
			}
		})
	}
	response, err := w.pushes.Get("http://gateway.test/wechat/messages/" + shopAccount)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != http.MethodPost {
		t.Errorf("GET: %d", response.StatusCode)
	}
}

func TestAMessageIsDeliveredOnceHoweverOftenItIsReplayed(t *testing.T) {
	w := newDeliveryWorld(t)
	w.shop.AnswerWith(func(url.Values, string) (int, string) { return http.StatusOK, passive("once") })
	first, err := w.Push(t.Context(), w.Text(shopAccount, "follower", "hello"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := w.Push(t.Context(), sandbox.Push{Replay: true, Number: first.Tries[0].Number, Attempts: 1})
	if err != nil || answer.Reply != passive("once") {
		t.Errorf("%+v, %v", answer, err)
	}
	if n := w.shop.Count("hello"); n != 1 {
		t.Errorf("delivered %d times", n)
	}
}

func TestAuthorisationEventsReachThoseTheyConcern(t *testing.T) {
	w := newDeliveryWorld(t)
	if err := w.PushTicket(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Authorize(t.Context(), shopAccount); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Authorize(t.Context(), otherAccount); err != nil {
		t.Fatal(err)
	}
	if err := w.PushEvent(t.Context(), "notify_3rd_wxa_auth_and_icp", "<procedure_id>7</procedure_id>"); err != nil {
		t.Fatal(err)
	}
	if err := w.Revoke(t.Context(), shopAccount); err != nil {
		t.Fatal(err)
	}
	w.eventually("shop gets both events of its account", func() bool { return w.shop.Count("<InfoType>") == 2 })
	w.eventually("crm gets all four", func() bool { return w.crm.Count("<Encrypt>") == 4 })
	deliveries := w.shop.Deliveries()
	for _, delivery := range deliveries {
		query, body := delivery.Query, delivery.Body
		if query.Get("appid") != shopAccount || len(query.Get("event_id")) != 32 {
			t.Errorf("query %v", query)
		}
		if strings.Contains(body, "@@@") || strings.Contains(body, "Code>") || strings.Contains(strings.ToLower(body), "ticket") {
			t.Errorf("a credential in %s", body)
		}
	}
	if !strings.Contains(deliveries[0].Body, ">authorized<") || !strings.Contains(deliveries[1].Body, ">unauthorized<") {
		t.Errorf("%v", deliveries)
	}
}

func TestAnEventThatCannotBeQueuedIsNotAcknowledged(t *testing.T) {
	w := newDeliveryWorld(t)
	w.breakStorage()
	err := w.PushEvent(t.Context(), "notify_3rd_wxa_wxverify", "<appid>"+shopAccount+"</appid>")
	if err == nil || !strings.Contains(err.Error(), "503") {
		t.Error(err)
	}
}

func TestAQueuedEventOutlivesReloadAndRestart(t *testing.T) {
	w := newDeliveryWorld(t)
	w.shop.AnswerWith(func(url.Values, string) (int, string) { return http.StatusBadGateway, "" })
	if err := w.PushEvent(t.Context(), "notify_3rd_wxa_wxverify", "<appid>"+shopAccount+"</appid>"); err != nil {
		t.Fatal(err)
	}
	attempts := func(n int) func() bool { return func() bool { return w.shop.Count("wxverify") >= n } }
	w.eventually("a first attempt", attempts(1))
	w.reload()
	w.eventually("an attempt after the reload", attempts(2))
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	before := w.shop.Count("wxverify")
	w.shop.AnswerWith(gwtest.Success)
	w.reload()
	w.eventually("the delivery after the restart", attempts(before+1))
	deliveries := w.shop.Deliveries()
	for _, delivery := range deliveries {
		if delivery.Query.Get("event_id") != deliveries[0].Query.Get("event_id") {
			t.Error("the event_id has changed on the way")
		}
	}
}
