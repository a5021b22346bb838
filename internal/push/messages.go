// SPDX-License-Identifier: Apache-2.0

package push

import (
	"errors"
	"net/http"
	"path"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// replyTimeout is the time from the arrival of a message until the passive
// reply. WeChat waits five seconds and then pushes the message again
// (developers.weixin.qq.com/doc/service/en/guide/product/message/Receiving_standard_messages.html).
const replyTimeout = 4500 * time.Millisecond

// errMessageIsEvent prevents an attack: both URLs use the same token and key,
// so somebody could send a captured push for the events URL to the messages
// URL. The gateway would deliver it, with the ticket in it, to an application.
var errMessageIsEvent = errors.New("a push for the events URL came to the messages URL")

var errMessagePath = errors.New("the path does not end in an appid; the URL in WeChat's console must end in /messages/$APPID$")

// Message is a verified and decrypted push to the messages URL.
type Message struct {
	began     time.Time // arrival of the request; replyTimeout starts here
	component string
	content   delivery.Message
	sealed    *bizmsg.Message // encrypts the reply with the key that opened the push
	nonce     string          // of the request, repeated in the reply
	signature pushID
}

// OpenMessage reads, verifies and decrypts a push to the messages URL, see
// openSealed. It delivers nothing. Its errors are for [Receiver.Reject].
//
// The path ends in the appid of the account. WeChat does not sign the path, and
// the message has only the gh_ name of the account, for which the gateway has
// no appid. So somebody who has captured a push could send it with the appid of
// another account. Two things make that hard: each node accepts a signed push
// once, and only for ten minutes (maxAge). An application that needs certainty
// must compare ToUserName with the appid that it receives.
func (rx *Receiver) OpenMessage(w http.ResponseWriter, r *http.Request) (*Message, error) {
	began, appid := time.Now(), path.Base(r.URL.Path)
	if !subject.ValidAppID(appid) {
		return nil, errMessagePath
	}
	sealed, err := rx.openSealed(w, r)
	if err != nil {
		return nil, err
	}
	if _, err := bizmsg.ParseEvent(sealed.message.Plain); err == nil {
		return nil, errMessageIsEvent
	}
	query := r.URL.Query()
	return &Message{
		began:     began,
		component: sealed.component,
		content: delivery.Message{
			AppID:      appid,
			ToUserName: sealed.envelope.ToUserName,
			OpenID:     query.Get("openid"),
			Plain:      sealed.message.Plain,
		},
		sealed:    sealed.message,
		nonce:     query.Get("nonce"),
		signature: sealed.signature,
	}, nil
}

// HandleMessage delivers the message to all clients that may act for its
// account, at the same time, and returns the answer for WeChat: an encrypted
// passive reply, or the text success, which is never encrypted. It returns as
// soon as the answer is certain, at the latest replyTimeout after the arrival.
// Other deliveries go on until that time, also if WeChat closes the connection.
// It uses no storage, so messages are delivered while the storage fails.
//
// If several clients reply, the reply of the first by name is used. If no
// client replies, the answer is success, provided that one client has accepted
// the message: the failure of another client must not make WeChat send the
// message to all of them again, or show the follower that the account is out of
// service. If no client has accepted it, there is an error for
// [Receiver.Reject]. WeChat then pushes the message again, three times in all,
// as it does when an application that is connected to WeChat itself fails.
//
// A message is remembered before it is delivered, unlike an event: of two
// copies at the same time only one may reach the applications. If no client has
// accepted it, it is forgotten, so that WeChat's next attempt is delivered.
func (rx *Receiver) HandleMessage(m *Message) ([]byte, error) {
	if !rx.Replays.claim(m.signature, time.Now()) {
		return []byte("success"), nil
	}
	var targets []*delivery.Target
	if rx.Recipients != nil {
		targets = rx.Recipients(m.component, m.content.AppID)
	}
	answer := []byte("success")
	if len(targets) > 0 {
		reply, err := m.content.Deliver(m.began.Add(replyTimeout), targets,
			func(t *delivery.Target, err error) {
				rx.Log.With(zap.String("client", t.Client)).Warn("message not delivered",
					zap.String("component", m.component), zap.String("authorizer", m.content.AppID), zap.Error(err))
			})
		if err != nil {
			rx.Replays.forget(m.signature)
			return nil, &retryableError{err}
		}
		if reply != nil {
			answer = m.sealed.Seal(reply, time.Now(), m.nonce).XML()
		}
	}
	metrics.Pushes.WithLabelValues("message", "acknowledged").Inc()
	return answer, nil
}
