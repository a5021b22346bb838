// SPDX-License-Identifier: Apache-2.0

// Package delivery hands what WeChat pushes on to the applications: messages
// at once, with the passive reply coming back, and authorisation events through
// a durable queue.
//
// A delivery looks like a push of WeChat's own to an ordinary account with the
// client's token and key, so that the message server of any SDK takes it
// (message_push.html, Technical_Plan.html). The query has
//
//	signature, timestamp, nonce    made with the client's token
//	appid                          the account that this is about
//	openid                         the sender, with messages
//	event_id                       the same at every attempt, with authorisation events
//	encrypt_type=aes, msg_signature   where the client has an EncodingAESKey
//
// and the body is the XML itself, or with an EncodingAESKey the envelope of
// WeChat's safe mode. In plain mode the signature, as WeChat defines it, proves
// nothing about the body.
//
// Entry points: Target says where to, Message.Deliver and Courier do it.
package delivery

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// maxAnswer is the size of the largest answer read from a client, in bytes.
const maxAnswer = 64 << 10

// errAnswerTooLarge says that more than maxAnswer bytes came back.
var errAnswerTooLarge = errors.New("reading the answer: larger than 64 KiB")

// Target is where one client takes delivery, and how. It is read only.
type Target struct {
	// Client is the client's name, for queues and logs.
	Client string
	// URL is http or https. Its query is kept, save for the parameters above.
	URL *url.URL
	// Token signs. It is never empty.
	Token secret.Secret
	// Key encrypts, with the account's appid as receive id, as WeChat does for an
	// ordinary account. nil means plain mode.
	Key bizmsg.Key
}

// push is one request to a target.
type push struct {
	appID    string
	envelope bizmsg.Envelope // what stands beside Encrypt in safe mode
	extra    [2]string       // one more query parameter: name, value
	plain    []byte
}

// codec speaks with the client about one account.
func (t *Target) codec(appID string) *bizmsg.Codec {
	return &bizmsg.Codec{ReceiveID: appID, Tokens: []secret.Secret{t.Token}, Keys: []bizmsg.Key{t.Key}}
}

// post makes one attempt and returns the body of a 2xx answer. Redirects are
// not followed: whoever can answer for the client must not choose who else
// gets to read its messages.
func (t *Target) post(ctx context.Context, transport http.RoundTripper, p push) ([]byte, error) {
	request, err := t.request(ctx, p)
	if err != nil {
		return nil, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("posting: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return nil, fmt.Errorf("answered with status %d", response.StatusCode)
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if len(answer) > maxAnswer {
		return nil, errAnswerTooLarge
	}
	return answer, nil
}

func (t *Target) request(ctx context.Context, p push) (*http.Request, error) {
	now, nonce := time.Now(), newNonce()
	timestamp := strconv.FormatInt(now.Unix(), 10)
	query := t.URL.Query()
	query.Set("signature", bizmsg.Sign(t.Token, timestamp, nonce, ""))
	query.Set("timestamp", timestamp)
	query.Set("nonce", nonce)
	query.Set("appid", p.appID)
	query.Set(p.extra[0], p.extra[1])
	body := p.plain
	if t.Key != nil {
		sealed := t.codec(p.appID).Seal(p.plain, now, nonce)
		query.Set("encrypt_type", "aes")
		query.Set("msg_signature", sealed.MsgSignature)
		p.envelope.Encrypt = sealed.Encrypt
		body = p.envelope.XML()
	}
	to := *t.URL
	to.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("making the request: the URL is not valid")
	}
	request.Header.Set("Content-Type", "text/xml; charset=utf-8")
	request.Header.Set("User-Agent", "caddy-wechat")
	return request, nil
}

// newNonce returns up to ten random digits, as WeChat's own nonces are.
func newNonce() string {
	n, _ := rand.Int(rand.Reader, big.NewInt(1e10)) // crypto/rand does not fail
	return n.String()
}
