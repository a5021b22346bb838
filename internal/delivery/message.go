// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
)

var (
	// ErrUndelivered means that no client has accepted the message. WeChat
	// should push it again.
	ErrUndelivered = errors.New("delivering message: no client took it")

	// errNotAReply is the error for an answer that WeChat would not understand.
	errNotAReply = errors.New("reading the answer: neither success, nor empty, nor a passive reply in XML")
)

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
// failed is called for each delivery that fails, also after Deliver has
// returned, and by several goroutines at the same time. Such a delivery counts
// as not accepted.
func (m Message) Deliver(deadline time.Time, transport http.RoundTripper, targets []*Target, failed func(*Target, error)) ([]byte, error) {
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
			reply, err := m.to(ctx, transport, target)
			if err != nil {
				failed(target, err)
			}
			answers[i] <- answer{reply, err}
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

// to sends m to one target and returns its passive reply in clear text. The
// reply is nil if the answer is empty or success, the two answers by which a
// message server says that it does not reply (message_push.html). It waits
// until ctx ends at the latest.
func (m Message) to(ctx context.Context, transport http.RoundTripper, t *Target) ([]byte, error) {
	answer, err := t.post(ctx, transport, push{
		appID:    m.AppID,
		envelope: bizmsg.Envelope{ToUserName: m.ToUserName},
		extra:    [2]string{"openid", m.OpenID},
		plain:    m.Plain,
	})
	if err != nil {
		return nil, err
	}
	answer = bytes.TrimSpace(answer)
	if len(answer) == 0 || string(answer) == "success" {
		return nil, nil
	}
	if t.Key != nil {
		if answer, err = t.openReply(m.AppID, answer); err != nil {
			return nil, err
		}
	}
	if !isReply(answer) {
		return nil, errNotAReply
	}
	return answer, nil
}

// openReply verifies and decrypts the reply of a client in safe mode. A reply
// in clear text is an error: in safe mode somebody between the client and the
// gateway could have made it.
func (t *Target) openReply(appID string, answer []byte) ([]byte, error) {
	e, err := bizmsg.ParseEnvelope(answer)
	if err != nil {
		return nil, fmt.Errorf("reading the reply: %w", err)
	}
	message, err := t.codec(appID).Open(e.MsgSignature, e.TimeStamp, e.Nonce, e.Encrypt)
	if err != nil {
		return nil, fmt.Errorf("reading the reply: %w", err)
	}
	return message.Plain, nil
}

// isReply reports whether text is one well-formed element <xml> and nothing
// else. If WeChat gets any other answer, it tells the follower that the service
// is unavailable (message_push.html). An error page of the application is such
// an answer, so it must not be passed on.
func isReply(text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	roots, depth := 0, 0
	for {
		token, err := d.Token()
		if err != nil {
			return errors.Is(err, io.EOF) && roots == 1
		}
		switch t := token.(type) {
		case xml.StartElement:
			if depth == 0 {
				roots++
				if t.Name.Local != "xml" {
					return false
				}
			}
			depth++
		case xml.EndElement:
			depth--
		case xml.CharData:
			if depth == 0 && len(bytes.TrimSpace(t)) > 0 {
				return false
			}
		case xml.Directive:
			return false
		}
	}
}
