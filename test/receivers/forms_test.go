// SPDX-License-Identifier: Apache-2.0

package receivers_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// form is how deliveries are verified.
type form struct {
	environment          []string // of the receiver
	right, wrong, mended string   // lines of deliver; mended: as they are while secrets are exchanged
	forgeries            map[string]forgery
}

// forgery changes a captured delivery.
type forgery struct {
	change func(*testing.T, *delivery)
	want   int // the status of the answer
}

// refused is a forgery that must be refused.
func refused(change func(*delivery)) forgery {
	return forgery{func(_ *testing.T, d *delivery) { change(d) }, http.StatusUnauthorized}
}

const (
	webhookSecret = "whsec_cmVjZWl2ZXItc2VjcmV0LTAxMjM0NTY3ODlhYmNkZWY="
	anotherSecret = "whsec_YW5vdGhlci1zZWNyZXQtMDEyMzQ1Njc4OWFiY2RlZjAx"
)

// webhooks is plain mode with the headers of Standard Webhooks.
var webhooks = form{
	environment: []string{"WEBHOOK_SECRET=" + webhookSecret},
	right:       "webhook_secret " + webhookSecret,
	wrong:       "webhook_secret " + anotherSecret,
	mended:      "webhook_secret " + anotherSecret + " " + webhookSecret,
	forgeries: map[string]forgery{
		"genuine":             {library(webhookSecret, 0), http.StatusOK},
		"four minutes old":    {library(webhookSecret, 4*time.Minute), http.StatusOK},
		"six minutes old":     {library(webhookSecret, 6*time.Minute), http.StatusUnauthorized},
		"six minutes early":   {library(webhookSecret, -6*time.Minute), http.StatusUnauthorized},
		"another secret":      {library(anotherSecret, 0), http.StatusUnauthorized},
		"another body":        refused(func(d *delivery) { d.body += " " }),
		"another id":          refused(func(d *delivery) { d.header.Set("webhook-id", strings.Repeat("0", 32)) }),
		"no headers":          refused(func(d *delivery) { d.header = http.Header{} }),
		"an empty signature":  refused(func(d *delivery) { d.header.Set("webhook-signature", "v1,") }),
		"no signature":        refused(func(d *delivery) { d.header.Set("webhook-signature", "v1") }),
		"a time that is none": refused(func(d *delivery) { d.header.Set("webhook-timestamp", "now") }),
	},
}

// library signs a delivery with the published library of Standard Webhooks.
func library(key string, age time.Duration) func(*testing.T, *delivery) {
	return func(t *testing.T, d *delivery) {
		webhook, err := standardwebhooks.NewWebhook(key)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		signature, err := webhook.Sign(d.header.Get("webhook-id"), at, []byte(d.body))
		if err != nil {
			t.Fatal(err)
		}
		d.header.Set("webhook-timestamp", fmt.Sprint(at.Unix()))
		d.header.Set("webhook-signature", signature)
	}
}

const (
	token        = "RECEIVERTOKEN"
	anotherToken = "ANOTHERTOKEN"
	aesKey       = "RECEIVERAESKEY00000000000000000000000000000"
	anotherKey   = "ANOTHERAESKEY000000000000000000000000000000"
)

// safeMode is WeChat's safe mode.
var safeMode = form{
	environment: []string{"TOKEN=" + token, "ENCODING_AES_KEY=" + aesKey},
	right:       safeLines(token, aesKey),
	wrong:       safeLines(anotherToken, anotherKey),
	mended:      safeLines(token+" "+anotherToken, aesKey+" "+anotherKey),
	forgeries: map[string]forgery{
		"genuine":              {signed(token, 0), http.StatusOK},
		"six minutes old":      {signed(token, 6*time.Minute), http.StatusUnauthorized},
		"another token":        {signed(anotherToken, 0), http.StatusUnauthorized},
		"another body":         refused(func(d *delivery) { d.body = strings.Replace(d.body, "<Encrypt><![CDATA[", "<Encrypt><![CDATA[AAAA", 1) }),
		"another account":      refused(func(d *delivery) { d.query.Set("appid", "wxbbbbbbbbbbbbbbbb") }),
		"no signature":         refused(func(d *delivery) { d.query.Del("msg_signature") }),
		"that of plain mode":   refused(func(d *delivery) { d.query.Set("msg_signature", d.query.Get("signature")) }),
		"another time":         refused(func(d *delivery) { d.query.Set("timestamp", fmt.Sprint(time.Now().Unix()+7)) }),
		"nothing that it says": refused(func(d *delivery) { d.query, d.body = nil, "" }),
		// event_id is not signed: the receiver knows a repetition by its text.
		"another event_id": {func(_ *testing.T, d *delivery) { d.query.Set("event_id", strings.Repeat("0", 32)) }, http.StatusOK},
	},
}

func safeLines(tokens, keys string) string { return "token " + tokens + "\nencoding_aes_key " + keys }

// signed signs what is encrypted in a delivery anew.
func signed(by string, age time.Duration) func(*testing.T, *delivery) {
	return func(t *testing.T, d *delivery) {
		envelope, err := bizmsg.ParseEnvelope([]byte(d.body))
		if err != nil {
			t.Fatal(err)
		}
		d.query.Set("timestamp", fmt.Sprint(time.Now().Add(-age).Unix()))
		d.query.Set("msg_signature", bizmsg.Sign(secret.New(by), d.query.Get("timestamp"), d.query.Get("nonce"), envelope.Encrypt))
	}
}
