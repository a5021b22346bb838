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

// replyTimeout is the time for everything, from the request's arrival to the
// passive reply. WeChat waits five seconds.
const replyTimeout = 4500 * time.Millisecond

// errMessageIsEvent stands against somebody who sends a captured push for the
// events URL here, ticket and all, to have it delivered.
var errMessageIsEvent = errors.New("a push for the events URL came to the messages URL")

var errMessagePath = errors.New("the path does not end in an appid; the URL in WeChat's console must end in /messages/$APPID$")

// Message is an opened push to the messages URL.
type Message struct {
	began     time.Time
	component string
	content   delivery.Message
	sealed    *bizmsg.Message // seals the reply with what opened the push
	nonce     string
	signature pushID
}

// OpenMessage reads and verifies a push to the messages URL. The path, which
// says whose message it is, is not signed by WeChat, and nothing the gateway
// holds ties an account to the gh_ name inside. What protects it is that a
// signed push is taken once by each node, within ten minutes of its making; an
// application that must be sure compares ToUserName with the appid it is given.
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

// HandleMessage hands the message to the clients that may act for its account and
// returns what to answer WeChat: a sealed passive reply, or success. Storage
// is not touched.
//
// All clients get the message. Where several reply, the first by name is heard.
// Where none does, success is the answer as long as one client took the
// message: a broken bystander must not make WeChat repeat it to the others, or
// show the follower that the account is out of service. Only when no client
// took it is there an error, so that WeChat pushes it again, three times in
// all, just as if the application were connected to WeChat itself.
func (rx *Receiver) HandleMessage(m *Message) ([]byte, error) {
	if !rx.Replays.claim(m.signature, time.Now()) {
		return []byte("success"), nil
	}
	log := rx.Log.With(zap.String("component", m.component), zap.String("authorizer", m.content.AppID))
	var targets []*delivery.Target
	if rx.Recipients != nil {
		targets = rx.Recipients(m.component, m.content.AppID)
	}
	answer := []byte("success")
	if len(targets) > 0 {
		reply, err := m.content.Deliver(m.began.Add(replyTimeout), rx.Transport, targets,
			func(t *delivery.Target, err error) {
				log.Warn("message not delivered", zap.String("client", t.Client), zap.Error(err))
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
