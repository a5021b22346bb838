// SPDX-License-Identifier: Apache-2.0

// Package delivery sends what WeChat pushes to the applications. Messages are
// sent at once, and the passive reply of the application is returned.
// Authorisation events are sent through a queue in the storage, so that none is
// lost if a node crashes or an application fails for some time.
//
// A delivery looks like a push of WeChat to an ordinary account that is
// configured with the client's token and key. So the message server of any SDK
// accepts it
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/message_push.html,
// and Technical_Plan.html there). The query has
//
//	signature, timestamp, nonce    made with the client's token
//	appid                          the account that this is about
//	openid                         the sender, with messages
//	event_id                       the same at every attempt, with authorisation events
//	encrypt_type=aes, msg_signature   where the client has an EncodingAESKey
//
// and the body is the XML. If the client has an EncodingAESKey, the body is the
// envelope of WeChat's safe mode, with the XML encrypted. In plain mode,
// without the key, the signature does not cover the body: WeChat has defined it
// so. Whoever can read and change the connection can then change the XML.
//
// Entry points: [Message.Deliver] for messages, [NewEvent] and [Courier] for
// events. A [Target] is where a client gets both.
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
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// maxAnswer is the size in bytes of the largest answer that is read from a
// client. A passive reply is far smaller; a client must not be able to fill the
// memory.
const maxAnswer = 64 << 10

// errAnswerTooLarge means that an answer is larger than maxAnswer.
var errAnswerTooLarge = errors.New("reading the answer: larger than 64 KiB")

// Target is the address to which deliveries for one client are sent, with the
// token and key for them. Its fields never change, so it is safe for concurrent
// use.
type Target struct {
	// Component is the component_appid of the client, Client its name, Name that of
	// the target. Together they name the queue.
	Component, Client, Name string
	// Transport makes the requests. It belongs to this target alone, so that one
	// that is stuck uses up nobody else's connections.
	Transport http.RoundTripper
	// NoReply: the target's answer is never the reply to a follower.
	NoReply bool
	// Timeout is the time of one attempt from the queue.
	Timeout time.Duration
	// RetryFor is how long a queued item is tried, from its arrival on; then it
	// becomes a dead letter.
	RetryFor time.Duration
	// Concurrency is how many accounts are served from the queue at a time.
	Concurrency int
	// MaxWaiting is how many items may wait in the queue; more become dead letters.
	MaxWaiting int
	// URL is http or https. Its query is sent too; the parameters of a delivery
	// replace those with the same names.
	URL *url.URL
	// Token signs the deliveries. It is never empty: everybody could sign with
	// an empty token.
	Token secret.Secret
	// Key encrypts the deliveries and decrypts the replies. The receive id is
	// the account's appid, as in WeChat's pushes to an ordinary account. nil
	// means plain mode.
	Key bizmsg.Key
}

// Queue returns the name of the target's queue.
func (t *Target) Queue() vault.Queue {
	return vault.Queue{Component: t.Component, Client: t.Client, Target: t.Name}
}

// Wants reports whether the target gets an item of an account for which its client
// may act.
func (t *Target) Wants(Item) bool { return true }

// push is one request to a target.
type push struct {
	appID    string
	envelope bizmsg.Envelope // the elements beside Encrypt in safe mode
	extra    [2]string       // name and value of one more query parameter
	plain    []byte          // the XML, in clear text
}

// codec returns the codec for safe mode between the gateway and the client, for
// one account. t.Key must not be nil.
func (t *Target) codec(appID string) *bizmsg.Codec {
	return &bizmsg.Codec{ReceiveID: appID, Tokens: []secret.Secret{t.Token}, Keys: []bizmsg.Key{t.Key}}
}

// post makes one attempt to deliver, and returns the body of a 2xx answer.
// Another status, a larger answer than maxAnswer, and an answer that ends too
// early are errors. It waits until the answer is read or ctx ends; it sets no
// limit itself.
//
// Redirects are not followed: RoundTrip does not. Otherwise somebody who can
// answer in the place of the client could have the messages sent to any
// address. The errors are for logs and for the dead letters.
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

// request returns the signed request for one attempt. Timestamp and nonce are
// new in each attempt, because applications may reject old or repeated ones.
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
		return nil, errors.New("making the request: the URL is not valid") // err would quote it
	}
	request.Header.Set("Content-Type", "text/xml; charset=utf-8")
	request.Header.Set("User-Agent", "caddy-wechat")
	return request, nil
}

// newNonce returns up to ten random digits, the form of WeChat's nonces.
func newNonce() string {
	n, _ := rand.Int(rand.Reader, big.NewInt(1e10)) // crypto/rand never fails
	return n.String()
}
