// SPDX-License-Identifier: Apache-2.0

package check

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

func TestWebhookSecrets(t *testing.T) {
	of := func(n int) string {
		return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("SECRET", 20)[:n]))
	}
	for text, length := range map[string]int{
		of(24): 24, of(32): 32, of(64): 64,
		of(23): 0, of(65): 0, "": 0, "whsec_": 0, "SECRET": 0,
		strings.ToUpper(of(24)[:6]) + of(24)[6:]: 0, of(24)[6:]: 0, of(24) + "=": 0, strings.TrimRight(of(25), "="): 0, of(24) + "\n=": 0,
		"whsec_" + base64.URLEncoding.EncodeToString([]byte(strings.Repeat("\xff", 24))): 0,
	} {
		key, err := ParseWebhookSecret(text)
		if len(key) != length || (err != nil) != (length == 0) {
			t.Errorf("%q: %d bytes, %v", text, len(key), err)
		}
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("quotes the secret: %v", err)
		}
	}
}

func TestHeadersOfDeliveries(t *testing.T) {
	for name, possible := range map[string]bool{
		"Authorization": true, "X-Api-Key": true, "cookie": true, "User-Agent": true, "X-Tenant": true, "Accept": true,
		"": false, "A B": false, "A:": false, "Ä": false, "a\n": false,
		"Host": false, "HOST": false, "content-type": false, "Content-Length": false, "Content-Encoding": false, "Transfer-Encoding": false, "TE": false, "Trailer": false,
		"Connection": false, "Keep-Alive": false, "Proxy-Connection": false, "proxy-authorization": false, "Upgrade": false, "HTTP2-Settings": false, "Expect": false,
		"Accept-Encoding": false, "Range": false, "Date": false, "Webhook-Id": false, "webhook-signature": false, "WEBHOOK-TIMESTAMP": false, "webhook-other": false, "Idempotency-Key": false,
	} {
		if err := DeliverHeader(name, make(map[string]struct{})); (err == nil) != possible {
			t.Errorf("%q: %v", name, err)
		}
	}
	for value, possible := range map[string]bool{
		"Bearer a b": true, "a\tb": true, "ä": true, "": false, " a": false, "a ": false, "a\nb": false, "a\rb": false, "a\x00b": false, "a\n": false,
	} {
		if err := HeaderValue(value); (err == nil) != possible {
			t.Errorf("%q: %v", value, err)
		}
	}
	for name, likely := range map[string]bool{"Authorization": true, "X-API-KEY": true, "X-Shop-Token": true, "Cookie": true, "X-Tenant": false, "User-Agent": false} {
		if NamesCredential(name) != likely {
			t.Errorf("%s: %t", name, !likely)
		}
	}
}

func TestBoundsOfDeliveries(t *testing.T) {
	for name, row := range map[string]struct {
		err      error
		possible bool
	}{
		"the shortest attempt": {DeliverTimeout(time.Second), true}, "the longest": {DeliverTimeout(5 * time.Minute), true},
		"a shorter one": {DeliverTimeout(time.Second - 1), false}, "a longer one": {DeliverTimeout(5*time.Minute + 1), false},
		"tried a minute": {RetryFor(time.Minute), true}, "tried 30 days": {RetryFor(720 * time.Hour), true},
		"tried shorter": {RetryFor(time.Minute - 1), false}, "tried longer": {RetryFor(720*time.Hour + 1), false},
		"one account": {Concurrency(1), true}, "256 accounts": {Concurrency(256), true}, "no account": {Concurrency(0), false}, "257": {Concurrency(257), false},
		"one waits": {QueueLength(1), true}, "a million": {QueueLength(1_000_000), true}, "none": {QueueLength(0), false}, "one more": {QueueLength(1_000_001), false},
	} {
		if (row.err == nil) != row.possible {
			t.Errorf("%s: %v", name, row.err)
		}
	}
}

func TestNamesThatWeChatCouldPush(t *testing.T) {
	for text, possible := range map[string]bool{
		"text": true, "CLICK": true, "notify_third_fasteregister": true, "gateway_recovered": true, "a.b-c": true, strings.Repeat("a", 64): true,
		"": false, "a b": false, " text": false, "text,image": false, "*": false, "文本": false, strings.Repeat("a", 65): false,
	} {
		if err := TypeName(text); (err == nil) != possible {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestDeliverURLs(t *testing.T) {
	for text, possible := range map[string]bool{
		"https://shop.test/wechat": true, "http://[::1]:9000": true, "https://shop.test/$APPID$?a=$APPID$": true, "https://shop.test/a%2Fb": true,
		"https://$APPID$.test/": false, "https://shop.test:$APPID$/": false, "https://$appid$.test/": false, "https://a@shop.test": false, "https://shop.test/#a": false,
		"shop.test": false, "ftp://shop.test": false, "https:///a": false, "https://shop.test:0x50/": false, "https://shop.test:65535": true, "https://shop.test:65536": false, "https://shop.test:0": false,
		"https://shop.test/$appid$": false, "https://shop.test/?a=$AppId$": false,
	} {
		if _, err := ParseDeliverURL(text); (err == nil) != possible {
			t.Errorf("%s: %v", text, err)
		}
	}
}
