// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// signWebhook sets the headers of Standard Webhooks
// (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md):
// webhook-id, webhook-timestamp, and webhook-signature with one signature for each
// secret, so that an application may know either while they are exchanged. A
// signature is HMAC-SHA256 over id, Unix seconds and the body as it is sent.
func signWebhook(header http.Header, secrets []secret.Secret, id string, now time.Time, body []byte) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	signatures := make([]string, len(secrets))
	for i, key := range secrets {
		mac := hmac.New(sha256.New, []byte(key.Reveal()))
		mac.Write([]byte(id + "." + timestamp + ".")) // a hash takes everything
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	header.Set("webhook-id", id)
	header.Set("webhook-timestamp", timestamp)
	header.Set("webhook-signature", strings.Join(signatures, " "))
}
