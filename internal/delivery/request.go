// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
)

// appIDMark stands for the appid of the account in a URL, as in the addresses in
// WeChat's console.
const appIDMark = "$APPID$"

// parameters are those that a delivery may have. Ones of the same name in the URL
// of the target never arrive, so that an application cannot take a fixed value for
// one that was signed.
var parameters = [...]string{"signature", "timestamp", "nonce", "appid", "openid", "event_id", "encrypt_type", "msg_signature"}

// request returns the signed request for one attempt. Timestamp and nonce are
// new in each attempt, because applications may reject old or repeated ones.
func (t *Target) request(ctx context.Context, item Item) (*http.Request, error) {
	now, nonce := time.Now(), newNonce()
	to, query := t.address(item.AppID)
	query.Set("appid", item.AppID)
	query.Set("event_id", item.ID)
	if item.Kind == KindMessage {
		query.Set("openid", item.OpenID)
	}
	if len(t.Tokens) > 0 {
		timestamp := strconv.FormatInt(now.Unix(), 10)
		query.Set("signature", bizmsg.Sign(t.Tokens[0], timestamp, nonce, ""))
		query.Set("timestamp", timestamp)
		query.Set("nonce", nonce)
	}
	body := t.body(item, now)
	isJSON := startsJSON(body)
	if t.safe() {
		envelope := t.codec(t.receiveIDs(item)[0]).Seal(body, now, nonce)
		query.Set("encrypt_type", "aes")
		query.Set("msg_signature", envelope.MsgSignature)
		body = outer(item, envelope.Encrypt, isJSON)
	}
	to.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("making the request: the URL is not valid") // err would quote it
	}
	request.Header.Set("User-Agent", "caddy-wechat")
	for _, h := range t.Headers {
		request.Header.Set(h.Name, h.Value.Reveal())
	}
	request.Header.Set("Content-Type", "text/xml; charset=utf-8")
	if isJSON {
		request.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	if len(t.WebhookSecrets) > 0 {
		signWebhook(request.Header, t.WebhookSecrets, item.ID, now, body)
	}
	return request, nil
}

// address returns the URL for an account, and its query without the parameters of
// a delivery. The URL was checked when it was configured.
func (t *Target) address(appID string) (*url.URL, url.Values) {
	to := *t.URL
	to.RawPath = strings.ReplaceAll(to.EscapedPath(), appIDMark, url.PathEscape(appID))
	to.Path, _ = url.PathUnescape(to.RawPath)
	query, _ := url.ParseQuery(strings.ReplaceAll(to.RawQuery, appIDMark, url.QueryEscape(appID)))
	for _, name := range parameters {
		query.Del(name)
	}
	return &to, query
}

// outer returns the body in safe mode: what WeChat puts around an encrypted text.
// That of a message names the account, that of an event the component.
func outer(item Item, encrypted string, isJSON bool) []byte {
	envelope := bizmsg.Envelope{AppID: item.Component, Encrypt: encrypted}
	if item.Kind == KindMessage {
		envelope.AppID, envelope.ToUserName = "", item.ToUserName
	}
	if isJSON {
		return envelope.JSON()
	}
	return envelope.XML()
}

// startsJSON reports whether a text is JSON, if it is JSON or XML.
func startsJSON(text []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) }

// newNonce returns up to ten random digits, the form of WeChat's nonces.
func newNonce() string {
	n, _ := rand.Int(rand.Reader, big.NewInt(1e10)) // crypto/rand never fails
	return n.String()
}
