// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"context"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
)

// Result is what one attempt to deliver has shown.
type Result struct {
	// Err says why the application has not taken the item; nil: it has taken it,
	// by any 2xx status.
	Err error
	// Reply is the passive reply to a message, in clear text; nil: none.
	Reply []byte
	// Unusable says why the body of the answer is no reply, where it should be
	// one; the item is taken all the same.
	Unusable error
	// Hung: no answer came within the time of the attempt.
	Hung bool
	// Gone: the application has answered 410.
	Gone bool
	// RetryAfter is how long the application wants to be left alone; 0: not said.
	RetryAfter time.Duration
}

// Send makes one attempt to deliver an item. It waits until the answer is read or
// ctx ends.
func (t *Target) Send(ctx context.Context, item Item) Result {
	p := push{appID: item.AppID, extra: [2]string{"event_id", item.ID}, plain: item.Body, envelope: bizmsg.Envelope{AppID: item.Component}}
	if item.Kind == KindMessage {
		p.envelope, p.extra = bizmsg.Envelope{ToUserName: item.ToUserName}, [2]string{"openid", item.OpenID}
	}
	answer, err := t.post(ctx, t.Transport, p)
	if err != nil {
		return Result{Err: err, Hung: ctx.Err() != nil}
	}
	answer = bytes.TrimSpace(answer)
	if item.Kind != KindMessage || len(answer) == 0 || string(answer) == "success" {
		return Result{}
	}
	if t.Key != nil {
		if answer, err = t.openReply(item.AppID, answer); err != nil {
			return Result{Unusable: err}
		}
	}
	if !isReply(answer) {
		return Result{Unusable: errNotAReply}
	}
	return Result{Reply: answer}
}
