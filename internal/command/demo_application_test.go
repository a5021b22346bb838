// SPDX-License-Identifier: Apache-2.0

package command

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whoever reads the application of the demo learns to refuse what is forged.
func TestApplicationOfTheDemoRefusesForgedDeliveries(t *testing.T) {
	const text = "<xml><FromUserName>o1</FromUserName><MsgType>text</MsgType><Content>hi &lt;</Content></xml>"
	for _, row := range []struct {
		name, signed, body string
		status             int
		reply              string
	}{
		{"a text", text, text, http.StatusOK, "<Content>收到：hi &lt;</Content>"},
		{"another body than the signed one", text, strings.Replace(text, "hi", "ho", 1), http.StatusUnauthorized, "not from the gateway"},
		{"a picture", "<xml><MsgType>image</MsgType></xml>", "<xml><MsgType>image</MsgType></xml>", http.StatusOK, ""},
		{"no XML", "hi", "hi", http.StatusOK, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/wechat?event_id=1", strings.NewReader(row.body))
			mac := hmac.New(sha256.New, []byte(demoWebhookKey))
			_, _ = io.WriteString(mac, "1.1700000000."+row.signed)
			r.Header.Set("webhook-id", "1")
			r.Header.Set("webhook-timestamp", "1700000000")
			r.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
			w, a := httptest.NewRecorder(), &application{}
			a.ServeHTTP(w, r)
			if got := w.Body.String(); w.Code != row.status || !strings.Contains(got, row.reply) || row.reply == "" && got != "" {
				t.Errorf("answered %d %q, want %d with %q", w.Code, got, row.status, row.reply)
			}
			if taken := a.last().body != ""; taken != strings.Contains(row.reply, "收到") {
				t.Errorf("remembered: %t", taken)
			}
		})
	}
}
