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
	// ErrUndelivered means that no client took the message.
	ErrUndelivered = errors.New("delivering message: no client took it")

	errNotAReply = errors.New("reading the answer: neither success, nor empty, nor a passive reply in XML")
)

// Message is a message or event of an authorizer, opened.
type Message struct {
	AppID      string // of the authorizer
	ToUserName string // its gh_ id, as it stood on the envelope
	OpenID     string // of the sender
	Plain      []byte
}

// Deliver hands m to all targets at once and returns the passive reply: of the
// targets that make one, that of the first in the order given; nil if all that
// took m have none to make. It returns as soon as that is certain, at the
// deadline at the latest; the other deliveries go on until then. Nothing else
// ends them: an application that is at work is not cut off when WeChat hangs up.
//
// An error, ErrUndelivered, means that no target took m. Whatever fails is told
// to failed, which is called from several goroutines, also after the return.
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

// to hands m to one target and returns its passive reply, nil for none.
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

// openReply verifies and decrypts the reply of a client in safe mode. One in
// clear is refused: there, anybody on the way could have made it.
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

// isReply reports whether text is one well-formed <xml> element. All else would
// show the follower "service unavailable" (message_push.html), so that an
// error page of the application must not get through.
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
