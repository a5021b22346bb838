// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"

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

func TestTheAppidIsFilledInToTheURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://shop.test/wechat/$APPID$":            "/wechat/" + account,
		"https://shop.test/$APPID$/in/$APPID$":        "/" + account + "/in/" + account,
		"https://shop.test/a%2Fb/$APPID$/%24APPID%24": "/a%2Fb/" + account + "/%24APPID%24",
		"https://shop.test/你/$APPID$":                 "/%E4%BD%A0/" + account,
		"https://shop.test/a?for=$APPID$&$APPID$=b":   "/a?for=" + account + "&" + account + "=b",
		"https://shop.test?for=x-$APPID$":             "/?for=x-" + account,
		"https://shop.test/$appid$?a=%24APPID%24":     "/$appid$?a=%24APPID%24",
	} {
		target := plainTarget(t, "shop")
		var err error
		if target.URL, err = url.Parse(text); err != nil {
			t.Fatal(err)
		}
		before := *target.URL
		var got *url.URL
		sendTo(t, transportFunc(func(r *http.Request) (*http.Response, error) {
			got = r.URL
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		}), target, aMessage)
		query := got.Query()
		for _, name := range []string{"appid", "event_id", "nonce", "openid", "signature", "timestamp"} {
			query.Del(name)
		}
		got.RawQuery = query.Encode()
		wanted, err := url.Parse(want)
		if err != nil {
			t.Fatal(err)
		}
		wanted.RawQuery = wanted.Query().Encode()
		if got := "/" + strings.TrimPrefix(got.RequestURI(), "/"); got != wanted.RequestURI() {
			t.Errorf("%s: %s, want %s", text, got, wanted.RequestURI())
		}
		if *target.URL != before {
			t.Errorf("the URL has changed into %s", target.URL)
		}
	}
}

// Whoever can choose the URL of a target must not be able to fix what is signed.
func TestParametersOfTheURLDoNotStandInForSignedOnes(t *testing.T) {
	target := plainTarget(t, "shop")
	target.Tokens, target.WebhookSecrets = nil, []secret.Secret{secret.New("0123456789abcdef01234567")}
	target.URL.RawQuery = "signature=a&timestamp=b&nonce=c&appid=d&openid=e&event_id=f&encrypt_type=g&msg_signature=h&app=1"
	got := requestFor(t, target, anEvent)
	if diff := cmp.Diff(url.Values{"app": {"1"}, "appid": {account}, "event_id": {itemID}}, got.query); diff != "" {
		t.Error(diff)
	}
}

func TestHeadersAreSent(t *testing.T) {
	target := plainTarget(t, "shop")
	target.Headers = []delivery.Header{{Name: "Authorization", Value: secret.New("Bearer a b")}, {Name: "x-tenant", Value: secret.New("shop")}, {Name: "User-Agent", Value: secret.New("ours")}}
	got := requestFor(t, target, aMessage).header
	if got.Get("Authorization") != "Bearer a b" || got.Get("X-Tenant") != "shop" || got.Get("User-Agent") != "ours" || got.Get("Content-Type") != "text/xml; charset=utf-8" {
		t.Errorf("%v", got)
	}
	if text := fmt.Sprintf("%v %+v %#v", target, target, *target); strings.Contains(text, "Bearer") {
		t.Errorf("printed: %s", text)
	}
	if got := requestFor(t, plainTarget(t, "shop"), aMessage).header; got.Get("User-Agent") != "caddy-wechat" || got.Get("webhook-id") != "" || len(got) != 2 {
		t.Errorf("%v", got)
	}
}

// It covers the body as it is sent, in clear or sealed, and there is one for each secret.
func TestTheSignatureOfStandardWebhooks(t *testing.T) {
	current, previous := []byte("0123456789abcdef0123456789abcdef"), []byte("fedcba9876543210fedcba98")
	for name, target := range map[string]*delivery.Target{"plain": plainTarget(t, "shop"), "safe": safeTarget(t, "shop")} {
		target.WebhookSecrets = []secret.Secret{secret.New(string(current)), secret.New(string(previous))}
		got := requestFor(t, target, aMessage)
		if got.header.Get("webhook-id") != itemID || got.header.Get("webhook-timestamp") != got.query.Get("timestamp") {
			t.Errorf("%s: %v", name, got.header)
		}
		var want []string
		for _, key := range [][]byte{current, previous} {
			mac := hmac.New(sha256.New, key)
			fmt.Fprintf(mac, "%s.%s.%s", itemID, got.header.Get("webhook-timestamp"), got.body)
			want = append(want, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		}
		if got.header.Get("webhook-signature") != strings.Join(want, " ") {
			t.Errorf("%s: %v", name, got.header)
		}
	}
}
