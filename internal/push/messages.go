// SPDX-License-Identifier: Apache-2.0

package push

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// errMessageIsEvent prevents an attack: both URLs use the same token and key,
// so somebody could send a captured push for the events URL to the messages
// URL. The gateway would deliver it, with the ticket in it, to an application.
var errMessageIsEvent = errors.New("a push for the events URL came to the messages URL")

var errMessagePath = errors.New("the path does not end in an appid; the URL in WeChat's console must end in /messages/$APPID$")

// ErrHungUp means that WeChat does not wait for the answer to a message any more. It
// asks again, and the delivery goes on meanwhile. There is nobody to answer.
var ErrHungUp = errors.New("WeChat has hung up")

// Message is a verified and decrypted push to the messages URL.
type Message struct {
	began     time.Time // arrival of the request
	component string
	item      delivery.Item
	age       time.Duration   // since CreateTime, by the later of both clocks
	addressee string          // the ToUserName that is signed, "" if there is none
	sealed    *bizmsg.Message // encrypts the reply with the key that opened the push
	nonce     string          // of the request, repeated in the reply
	fact      pushlog.Push
}

// OpenMessage reads, verifies and decrypts a push to the messages URL, see
// openSealed. It delivers nothing. Its errors are for [Receiver.Reject].
//
// The path ends in the appid of the account. WeChat does not sign the path, and
// the message has only the gh_ name of the account. So somebody who has captured a push
// could send it with the appid of another account. HandleMessage compares the name with
// that in the account's profile. While the profile is not known, two things make it
// hard: each node delivers a message once, for one account, and believes it for ten
// minutes only (maxAge).
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
		return nil, &claimedError{errMessageIsEvent, sealed.component}
	}
	return newMessage(began, rx.Courier.Arrival(), appid, sealed, r.URL.Query()), nil
}

// newMessage returns the message of a push that is verified. What cannot be read of it
// is delivered all the same.
func newMessage(began, arrived time.Time, appid string, sealed *sealedPush, query url.Values) *Message {
	fields, _ := bizmsg.ParseMessage(sealed.message.Plain)
	item := delivery.Item{
		Kind: delivery.KindMessage, Component: sealed.component, AppID: appid, ID: messageID(sealed.component, fields, sealed.message.Plain),
		MsgType: fields.MsgType, Event: fields.Event, ToUserName: fields.ToUserName, OpenID: query.Get("openid"),
		Arrived: arrived, Body: sealed.message.Plain,
	}
	if item.ToUserName == "" {
		item.ToUserName = sealed.envelope.ToUserName
	}
	return &Message{
		began: began, component: sealed.component, item: item, age: sealed.age(fields.CreateTime),
		addressee: fields.ToUserName, sealed: sealed.message, nonce: query.Get("nonce"),
		fact: sealed.fact(MessagesURL, strings.Clone(appid), whatMessage(fields.MsgType, fields.Event)),
	}
}

// messageID returns the id of a message: of component, ToUserName, FromUserName and
// MsgId. A MsgId alone is not unique. An event has none, and is known by its whole
// text: many events have no EventKey, and several of them come in one second.
func messageID(component string, fields bizmsg.MessageFields, plain []byte) string {
	if fields.MsgID == "" {
		return delivery.EventID(component, plain)
	}
	known := strings.Join([]string{"message", component, fields.ToUserName, fields.FromUserName, fields.MsgID}, "\n")
	digest := sha256.Sum256([]byte(known))
	return hex.EncodeToString(digest[:16])
}

// HandleMessage delivers the message, once, to all targets that want it, and returns
// the answer for WeChat: an encrypted passive reply, or the text success, which is
// never encrypted. What an application does not take is in its queue before
// HandleMessage returns. Only if the storage fails is there an error for
// [Receiver.Reject]; WeChat then pushes the message again.
//
// It returns as soon as the answer is certain, and at the latest before WeChat gives
// up, see hold. If ctx, which is that of the request, ends before, the error is
// ErrHungUp.
//
// A message of another account than that in the path is acknowledged, so that it is not
// repeated, and delivered to nobody. A message of WeChat's publish test reaches no target,
// see Receiver.PublishTest; its answer may be empty.
func (rx *Receiver) HandleMessage(ctx context.Context, m *Message) ([]byte, error) {
	answer, outcome, err := rx.answer(ctx, m)
	rx.note(m.fact, outcome, err)
	if outcome != pushlog.Failed { // which Reject counts
		metrics.Pushes.WithLabelValues("message", outcome).Inc()
	}
	return answer, err
}

// answer is HandleMessage. It also returns the outcome for operators.
func (rx *Receiver) answer(ctx context.Context, m *Message) (answer []byte, outcome string, err error) {
	answer, ok, err := rx.answerTest(ctx, m)
	if err != nil {
		return nil, pushlog.Failed, &retryableError{err}
	}
	if ok {
		return answer, pushlog.Acknowledged, nil
	}
	answer = []byte("success")
	targets := rx.wanting(m.item)
	if len(targets) == 0 { // nobody gets it, whosever it is
		return answer, pushlog.Acknowledged, nil
	}
	its, official := rx.account(ctx, m)
	if !its {
		return answer, pushlog.Misdirected, nil
	}
	if d := rx.Deliveries.Open(m.item, targets, m.age >= repeatAge); d != nil {
		reply, hungUp, err := rx.hold(ctx, m, d, official)
		switch {
		case hungUp:
			return nil, pushlog.HungUp, ErrHungUp
		case err != nil:
			return nil, pushlog.Failed, &retryableError{err}
		case reply != nil:
			answer = m.seal(reply)
		}
	}
	return answer, pushlog.Acknowledged, nil
}

// account is Receiver.Account for a message. It warns of a message of another account.
func (rx *Receiver) account(ctx context.Context, m *Message) (its, official bool) {
	if rx.Account == nil {
		return true, true
	}
	its, official = rx.Account(ctx, m.component, m.item.AppID, m.addressee)
	if !its {
		rx.Log.With(zap.String("component", m.component)).Warn("a message of another account was pushed to the path of this one, nobody gets it",
			zap.String("authorizer", m.item.AppID), zap.String("to_user_name", m.addressee),
			zap.String("remedy", "WeChat itself does so only if the URL in its console does not have $APPID$ in the place of the appid; otherwise somebody has captured a push: look for who can read the traffic behind the end of TLS"))
	}
	return its, official
}

// answerTest returns the answer to a message of the publish test; ok is false for all
// others. The code in such a message must be stored before WeChat hangs up.
func (rx *Receiver) answerTest(ctx context.Context, m *Message) (answer []byte, ok bool, err error) {
	if rx.PublishTest == nil {
		return nil, false, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	reply, ok, err := rx.PublishTest(ctx, m.item)
	if reply == nil {
		return nil, ok, err
	}
	return m.seal(reply), ok, err
}

// seal returns a reply as WeChat wants it.
func (m *Message) seal(reply []byte) []byte { return m.sealed.Seal(reply, time.Now(), m.nonce).XML() }

// wanting returns the targets that get a message.
func (rx *Receiver) wanting(item delivery.Item) []*delivery.Target {
	if rx.Recipients == nil {
		return nil
	}
	return delivery.Wanting(item, rx.Recipients(item.Component, item.AppID))
}
