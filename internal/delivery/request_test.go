// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
)

const itemID = "0123456789abcdef0123456789abcdef"

// aMessage and anEvent are what the tests deliver.
var (
	aMessage = delivery.Item{
		Kind: delivery.KindMessage, Component: component, AppID: account, ID: itemID, MsgType: "text",
		ToUserName: userName, OpenID: openID, Body: []byte(incoming),
	}
	anEvent = delivery.Item{
		Kind: delivery.KindEvent, Component: component, AppID: account, ID: itemID, InfoType: "authorized",
		Body: []byte("<xml><InfoType>authorized</InfoType></xml>"),
	}
)

// sendTo delivers the item to the target at the application.
func sendTo(t testing.TB, app http.RoundTripper, target *delivery.Target, item delivery.Item) delivery.Result {
	t.Helper()
	target.Transport = app
	return target.Send(t.Context(), item)
}

// requestFor returns the request that an application gets.
func requestFor(t testing.TB, target *delivery.Target, item delivery.Item) received {
	t.Helper()
	app := answering(http.StatusOK, "success")
	if result := sendTo(t, app, target, item); result.Err != nil || result.Unusable != nil {
		t.Fatal(result)
	}
	return app.all()[0]
}

func names(query url.Values) []string { return slices.Sorted(maps.Keys(query)) }

func TestPlainModeIsAsWeChatDefinesIt(t *testing.T) {
	got := requestFor(t, plainTarget(t, "shop"), aMessage)
	if got.method != http.MethodPost || got.host != "shop.test" || got.path != "/wechat" || got.contentType != "text/xml; charset=utf-8" {
		t.Errorf("%+v", got)
	}
	if got.body != incoming {
		t.Errorf("body %s", got.body)
	}
	q := got.query
	if diff := cmp.Diff([]string{"app", "appid", "event_id", "nonce", "openid", "signature", "timestamp"}, names(q)); diff != "" {
		t.Error(diff)
	}
	if q.Get("appid") != account || q.Get("openid") != openID || q.Get("event_id") != itemID || q.Get("app") != "1" {
		t.Errorf("query %v", q)
	}
	if q.Get("signature") != sign(clientToken, q.Get("timestamp"), q.Get("nonce")) {
		t.Error("signature does not fit")
	}
	seconds, _ := strconv.ParseInt(q.Get("timestamp"), 10, 64)
	if time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
		t.Errorf("timestamp %s", q.Get("timestamp"))
	}
}

func TestSafeModeIsThatOfAnOrdinaryAccount(t *testing.T) {
	got := requestFor(t, safeTarget(t, "shop"), aMessage)
	want := []string{"app", "appid", "encrypt_type", "event_id", "msg_signature", "nonce", "openid", "signature", "timestamp"}
	if diff := cmp.Diff(want, names(got.query)); diff != "" {
		t.Error(diff)
	}
	envelope := elements(t, got.body)
	if len(envelope) != 2 || envelope["ToUserName"] != userName {
		t.Errorf("envelope %v", envelope)
	}
	q := got.query
	if q.Get("msg_signature") != sign(clientToken, q.Get("timestamp"), q.Get("nonce"), envelope["Encrypt"]) {
		t.Error("msg_signature does not fit")
	}
	if q.Get("signature") != sign(clientToken, q.Get("timestamp"), q.Get("nonce")) || q.Get("encrypt_type") != "aes" {
		t.Errorf("query %v", q)
	}
	if text, receiveID := unseal(t, clientKey, envelope["Encrypt"]); text != incoming || receiveID != account {
		t.Errorf("%q for %q", text, receiveID)
	}
}

func TestAnEventNamesTheComponentAndNoSender(t *testing.T) {
	got := requestFor(t, safeTarget(t, "shop"), anEvent)
	if got.query.Has("openid") || got.query.Get("appid") != account || got.query.Get("event_id") != itemID {
		t.Errorf("query %v", got.query)
	}
	if envelope := elements(t, got.body); envelope["AppId"] != component || len(envelope) != 2 {
		t.Errorf("envelope %v", envelope)
	}
}

// Applications may reject a timestamp or a nonce that they have seen.
func TestNoTwoAttemptsAreTheSame(t *testing.T) {
	first, second := requestFor(t, safeTarget(t, "shop"), aMessage), requestFor(t, safeTarget(t, "shop"), aMessage)
	for _, name := range []string{"nonce", "signature", "msg_signature"} {
		if first.query.Get(name) == second.query.Get(name) {
			t.Errorf("%s is the same twice", name)
		}
	}
	if first.query.Get("event_id") != second.query.Get("event_id") {
		t.Error("another event_id")
	}
}

func TestJSONIsSentAsJSON(t *testing.T) {
	message, event := aMessage, anEvent
	message.Body, event.Body = []byte(` {"ToUserName":"gh"}`), []byte(`{"InfoType":"authorized"}`)
	for _, item := range []delivery.Item{message, event} {
		if got := requestFor(t, plainTarget(t, "shop"), item); got.body != string(item.Body) || got.contentType != "application/json; charset=utf-8" {
			t.Errorf("%+v", got)
		}
		got := requestFor(t, safeTarget(t, "shop"), item)
		begin := `{"ToUserName":"` + userName + `","Encrypt":"`
		if item.Kind == delivery.KindEvent {
			begin = `{"AppId":"` + component + `","Encrypt":"`
		}
		encrypted, ok := strings.CutPrefix(got.body, begin)
		if !ok || got.contentType != "application/json; charset=utf-8" {
			t.Fatalf("%+v", got)
		}
		if text, _ := unseal(t, clientKey, strings.TrimSuffix(encrypted, `"}`)); text != string(item.Body) {
			t.Errorf("%s", text)
		}
	}
}
