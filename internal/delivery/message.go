// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"
)

// ErrUndelivered means that no client has accepted the message. WeChat should push
// it again.
var ErrUndelivered = errors.New("delivering message: no client took it")

// Message is a message or an event of an authorizer, verified and decrypted.
type Message struct {
	AppID      string // of the authorizer; from the path of the push, which is not signed
	ToUserName string // its gh_ id, from the envelope of the push
	OpenID     string // of the sender, from the query of the push
	Plain      []byte // the XML, in clear text; Deliver only reads it
}

// Deliver sends m to all targets at the same time and returns the passive
// reply. If several targets reply, it is the reply of the first one in the
// order of targets. It is nil if no target replies and at least one has
// accepted m. The error ErrUndelivered means that no target has accepted m;
// Deliver has no other errors.
//
// Deliver waits for the targets in their order, until one replies and all
// before it have answered without a reply or failed, at the latest until
// deadline. The other deliveries go on in the background until deadline.
// Nothing else ends them, so an application can finish its work even if WeChat
// has closed the connection.
//
// failed is called for each delivery that fails, which then counts as not
// accepted, and for each answer that is no reply. It is called also after Deliver
// has returned, and by several goroutines at the same time.
func (m Message) Deliver(deadline time.Time, targets []*Target, failed func(*Target, error)) ([]byte, error) {
	type answer struct {
		reply []byte
		err   error
	}
	answers := make([]chan answer, len(targets))
	for i, target := range targets {
		answers[i] = make(chan answer, 1)
		go func() {
			ctx, cancel := context.WithDeadline(context.Background(), deadline)
			defer cancel()
			result := target.Send(ctx, m.item())
			if err := cmp.Or(result.Err, result.Unusable); err != nil {
				failed(target, err)
			}
			answers[i] <- answer{result.Reply, result.Err}
		}()
	}
	taken := false
	for _, each := range answers {
		switch a := <-each; {
		case a.err != nil:
		case a.reply != nil:
			return a.reply, nil
		default:
			taken = true
		}
	}
	if !taken {
		return nil, ErrUndelivered
	}
	return nil, nil
}

// item returns what is sent. The same message has the same ID.
func (m Message) item() Item {
	digest := sha256.Sum256(append([]byte(m.AppID+"\n"), m.Plain...))
	return Item{
		Kind: KindMessage, AppID: m.AppID, ID: hex.EncodeToString(digest[:16]),
		ToUserName: m.ToUserName, OpenID: m.OpenID, Body: m.Plain,
	}
}
