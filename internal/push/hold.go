// SPDX-License-Identifier: Apache-2.0

package push

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// WeChat hangs up after five seconds, and sends a message three times in all
// (developers.weixin.qq.com/doc/service/en/guide/product/message/Receiving_standard_messages.html).
// So an application has about 14 seconds for its reply, if each request but the last is
// held until WeChat hangs up.
const (
	// replyTimeout is the time until the last request is answered.
	replyTimeout = 4500 * time.Millisecond
	// holdTimeout is the time until any request is answered, should WeChat not hang up.
	holdTimeout = 6 * time.Second
	// maxVisits is how often WeChat sends a message.
	maxVisits = 3
	// lastAge is the age of a message, counted from its CreateTime, from which on no
	// further repetition may come.
	lastAge = 8 * time.Second
	// settleInterval is the time between two attempts to queue what was not taken, while
	// WeChat waits.
	settleInterval = 500 * time.Millisecond
	// repeatAge is the age from which on a message may be a repetition. The first
	// one comes after five seconds; CreateTime is in whole seconds.
	repeatAge = 3 * time.Second
)

// hold waits until the answer to a message is certain, and returns the reply in clear
// text, nil for silence. If the account is no official one, WeChat shows the follower
// nothing of it, so a request is never held until WeChat hangs up. hungUp means that
// WeChat does not wait any more: it asks again, and the delivery goes on. An error is one
// of the storage.
func (rx *Receiver) hold(ctx context.Context, m *Message, d *delivery.Delivery, official bool) (reply []byte, hungUp bool, err error) {
	who := subject.Of(m.component, m.item.AppID)
	visits := d.Visits()
	if visits > 1 {
		rx.Habits.repeated(who)
	}
	limit := holdTimeout
	hurried := !official || rx.Habits.hurried(who, m.began)
	if hurried {
		d.Hurry()
	}
	if hurried || visits >= maxVisits || m.age > lastAge {
		limit = replyTimeout
	}
	timer := time.NewTimer(time.Until(m.began.Add(limit)))
	defer timer.Stop()
	select {
	case <-d.Decided():
	case <-timer.C:
	case <-ctx.Done():
		time.AfterFunc(repeatTimeout, func() { rx.expectRepeat(who, d, visits) })
		return nil, true, nil
	}
	for {
		reply, err = settle(ctx, d)
		if err == nil || ctx.Err() != nil || time.Until(m.began.Add(replyTimeout)) < settleInterval {
			return reply, false, err
		}
		backoff.Wait(ctx, settleInterval) // a storage that fails for a moment is no trouble for the follower
	}
}

// settle makes sure that the message is taken or queued, and returns the reply. The
// storage may take until WeChat has hung up, but what it does then counts.
func settle(ctx context.Context, d *delivery.Delivery) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return d.Settle(ctx)
}

// expectRepeat is called repeatTimeout after WeChat has hung up on the copy of a message
// that was the last of so many.
func (rx *Receiver) expectRepeat(who subject.Subject, d *delivery.Delivery, visits int) {
	if d.RepeatedSince(visits) || !rx.Habits.missed(who, time.Now()) {
		return
	}
	rx.Log.Warn("WeChat does not repeat messages of this account after it has hung up; for an hour they are answered within 4.5 seconds, later replies are lost",
		zap.String("component", who.Component()), zap.String("authorizer", who.Authorizer()),
		zap.String("remedy", "let the application answer success at once and reply by /cgi-bin/message/custom/send; if something stands between WeChat and the gateway, let it wait for six seconds"))
}
