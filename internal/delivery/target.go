// SPDX-License-Identifier: Apache-2.0

// Package delivery sends what WeChat pushes to the applications. Messages are
// sent at once, and the passive reply of the application is returned.
// Authorisation events are sent through a queue in the storage, so that none is
// lost if a node crashes or an application fails for some time.
//
// A delivery looks like a push of WeChat to an ordinary account that is
// configured with the target's token and key. So the message server of any SDK
// accepts it
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/message_push.html,
// and Technical_Plan.html there). The query has
//
//	signature, timestamp, nonce       made with the target's token, where it has one
//	appid                             the account that this is about
//	openid                            the sender, with messages
//	event_id                          the same at every attempt
//	encrypt_type=aes, msg_signature   where the target has an EncodingAESKey
//
// and the body is the XML or the JSON of the push. If the target has an
// EncodingAESKey, the body is the envelope of WeChat's safe mode, with the text
// encrypted. In plain mode, without the key, the signature does not cover the
// body: WeChat has defined it so. Whoever can read and change the connection can
// then change the body, unless the application checks the signature of Standard
// Webhooks, which a target with a webhook_secret gets beside WeChat's.
//
// A target with a [Platform] is spoken to as WeChat speaks to a third-party platform: the
// receive id is the component, events have a gateway code, and gateway tickets come.
//
// Entry points: [Message.Deliver] for messages, [NewEvent] and [Courier] for
// events. A [Target] is where a client gets both; [Target.Send] makes one attempt.
package delivery

import (
	"net/http"
	"net/url"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Target is one address to which deliveries for a client are sent, with the
// secrets for them and the limits of its queue. Its fields never change, so it is
// safe for concurrent use.
type Target struct {
	// Component is the component_appid of the client, Client its name, Name that of
	// the target. Together they name the queue.
	Component, Client, Name string
	// URL is http or https. In its path and its query $APPID$ stands for the appid
	// that an item is about. The parameters of a delivery replace those of the
	// query with the same names.
	URL *url.URL
	// Tokens sign the deliveries as WeChat does, and replies in safe mode are
	// accepted with any of them. The current one comes first; it signs. Without one,
	// the target has a webhook secret.
	Tokens []secret.Secret
	// Keys encrypt the deliveries and decrypt the replies. The current one comes
	// first; it encrypts. The receive id is the account's appid, as in WeChat's
	// pushes to an ordinary account, or for a Platform that of the component. None
	// means plain mode.
	Keys []bizmsg.Key
	// Platform is set if the target gets deliveries as WeChat pushes to a platform; then
	// there are Keys. Nil: as to an ordinary account.
	Platform *Platform
	// WebhookSecrets sign as Standard Webhooks wants it, each with a signature of
	// its own. They are the bytes that follow whsec_ in base64. None: no such headers.
	WebhookSecrets []secret.Secret
	// Headers are sent with each delivery.
	Headers []Header
	// Match says which items the target gets. Empty: all.
	Match Match
	// NoReply: the target's answer is never the reply to a follower.
	NoReply bool
	// Transport makes the requests. It belongs to this target alone, so that one
	// that is stuck uses up nobody else's connections. It must not follow redirects,
	// and must end a request when its context ends.
	Transport http.RoundTripper
	// Timeout is the time of one attempt from the queue.
	Timeout time.Duration
	// Place is that of the target among those of its client, from 0: the first
	// takes over what is in the queues of targets that are gone.
	Place int
	// RetryFor is how long a queued item is tried, from its arrival on; then it
	// becomes a dead letter.
	RetryFor time.Duration
	// Concurrency is how many accounts are served from the queue at a time.
	Concurrency int
	// MaxWaiting is how many items may wait in the queue; more become dead letters.
	MaxWaiting int
}

// Header is one header of the deliveries to a target.
type Header struct {
	Name  string
	Value secret.Secret
}

// Queue returns the name of the target's queue.
func (t *Target) Queue() vault.Queue {
	return vault.Queue{Component: t.Component, Client: t.Client, Target: t.Name}
}

// Wants reports whether the target gets an item of an account for which its client
// may act.
func (t *Target) Wants(item Item) bool { return t.Match.wants(item) }

// safe reports whether deliveries are encrypted, as in WeChat's safe mode.
func (t *Target) safe() bool { return len(t.Keys) > 0 }

// codec returns the codec for safe mode between the gateway and the client, with a
// receive id.
func (t *Target) codec(receiveID string) *bizmsg.Codec {
	return &bizmsg.Codec{ReceiveID: receiveID, Tokens: t.Tokens, Keys: t.Keys}
}

// receiveIDs returns the appids for which a reply to an item may be encrypted. The
// first is that for which the item is encrypted.
func (t *Target) receiveIDs(item Item) []string {
	if t.Platform != nil {
		return []string{item.Component, item.AppID}
	}
	return []string{item.AppID}
}
