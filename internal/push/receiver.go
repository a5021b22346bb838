// SPDX-License-Identifier: Apache-2.0

// Package push receives what WeChat pushes: tickets and authorisation events at
// the events URL, messages of the accounts at the messages URL. It uses nothing
// of a push before the push is verified and decrypted. It acknowledges an event
// only after it is stored, and a message only after each application that wants it has
// taken it or has it in its queue.
//
// It makes no calls to WeChat, and has no app secret and no list of clients:
// the function Receiver.Recipients returns who gets a push. Package delivery
// makes the deliveries, package tokens stores tickets and codes.
//
// Entry points: [Receiver.OpenEvent] and [Receiver.HandleEvent] for one URL,
// [Receiver.OpenMessage] and [Receiver.HandleMessage] for the other,
// [Receiver.Reject] for the errors of all four.
package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

const (
	// maxPush is the largest body in bytes. Anybody can send to the URLs, and a
	// body is in memory before its signature is checked.
	maxPush = 64 << 10
	// bodyTimeout is the time in which the whole body must arrive. A sender that
	// is slow on purpose cannot keep a connection longer than that.
	bodyTimeout = 10 * time.Second
	// maxAge is how far the timestamp of a push may differ from this clock, into
	// the past and into the future. A captured push is refused after that time.
	// delivery.Seen remembers a push for twice as long.
	maxAge = 10 * time.Minute
	// storeTimeout is the time to store an event. WeChat waits five seconds for
	// the answer
	// (developers.weixin.qq.com/community/develop/doc/00084aca7b437062ef638108d6b400).
	storeTimeout = 4 * time.Second
)

// Errors of openSealed, beside those of package bizmsg. Their texts are for the
// log.
var (
	errPushTooLarge = errors.New("larger than 64 KiB")
	errPushStale    = errors.New(pushlog.Stale)
	errPushForeign  = errors.New("component is not configured here")
	errPushBroken   = errors.New("the body broke off")
	errTooMany      = errors.New("too many pushes from this address have not ended")
)

// Receiver receives pushes. There is one for each configuration. Its fields are
// set before the first push and never changed, so it is safe for concurrent use.
type Receiver struct {
	// Codecs has for each component_appid the tokens and keys that open the
	// component's pushes, the current and the previous ones.
	Codecs map[string]*bizmsg.Codec
	// Tokens stores tickets, codes and withdrawals.
	Tokens *tokens.Keeper
	// Courier queues events for applications.
	Courier *delivery.Courier
	// Deliveries delivers messages to applications.
	Deliveries *delivery.Deliveries
	// Habits knows for which accounts WeChat does not repeat messages.
	Habits *Habits
	// Seen has the events that were handled. It survives a reload. Otherwise a captured push could be sent again
	// after each reload.
	Seen *delivery.Seen
	// Account reports whether a message that is addressed to toUserName may be that of
	// the account with this appid, and whether the account may be an official one; both
	// are true as long as nobody knows. It may wait for the storage, for a second at most.
	// Nil means that nothing is known of any account.
	Account func(ctx context.Context, component, appid, toUserName string) (its, official bool)
	// Address returns the address from which a push comes; the zero Addr if it has none.
	Address func(r *http.Request) netip.Addr
	// Facts remembers what came of each push, for operators. It survives a reload. Nil
	// means that nothing is remembered.
	Facts *pushlog.Log
	// Log receives why a push was refused; the sender does not see it. Anybody
	// can send a push, so it must be a logger of logging.Throttle.
	Log *zap.Logger

	reading  reading
	handling singleflight.Group // events, by their id, see HandleEvent

	// Recipients returns the clients that get a push about an account of the
	// component; if authorizer is "*", about every account; or, if it is "", about the
	// component itself. Nil means that no client takes deliveries. It must be safe for
	// concurrent use.
	Recipients func(component, authorizer string) []*delivery.Target

	// PublishTest answers the messages of WeChat's publish test in the place of all
	// clients. ok is false for all others. reply is in clear text, nil for an answer
	// without a body. The error is one of the storage, for which it waits no longer than
	// ctx. Nil means that the test is not answered. It must be safe for concurrent use.
	PublishTest func(ctx context.Context, message delivery.Item) (reply []byte, ok bool, err error)
}

// sealedPush is a push to either URL, verified and decrypted.
type sealedPush struct {
	component string          // its token signed the push, its appid is the receive id
	envelope  bizmsg.Envelope // not signed, except for its Encrypt
	message   *bizmsg.Message
	timestamp time.Time // of the push, signed; WeChat makes it anew with each repetition
	began     time.Time // of its arrival
	remote    string    // the address it came from
}

// openSealed reads, verifies and decrypts a push to either URL. No other
// function reads a push. It waits until the body has arrived, at most
// bodyTimeout.
//
// The checks have this order, so that an unknown sender can cause little work:
// the size, the form of the envelope, the signature, the decryption, the
// receive id (bizmsg.Codec.Open), the age. The age comes last, because the
// timestamp is unverified text before the signature is checked. So an error
// about the clock in the log always concerns a push that WeChat has made.
//
// The parameter msg_signature is checked. The parameter signature is not used:
// it does not cover the body
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/message_push.html).
func (rx *Receiver) openSealed(w http.ResponseWriter, r *http.Request) (*sealedPush, error) {
	// A ResponseWriter that has no deadlines returns an error. The push is then
	// read without one.
	from, began := rx.Address(r), time.Now()
	if !rx.reading.begin(from) {
		return nil, errTooMany
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPush))
	rx.reading.end(from)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, errPushTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPushBroken, err)
	}
	_ = control.SetReadDeadline(time.Time{}) // a deadline that passes now would cancel the request
	envelope, err := bizmsg.ParseEnvelope(body)
	if err != nil {
		return nil, err
	}
	component, message, err := rx.openEnvelope(r, envelope)
	if err != nil {
		return nil, &claimedError{err, component}
	}
	timestamp, err := fresh(r.URL.Query().Get("timestamp"), time.Now())
	if err != nil {
		return nil, &claimedError{err, component}
	}
	return &sealedPush{component, envelope, message, timestamp, began, rx.remote(r)}, nil
}

// openEnvelope opens an envelope with the codec of the component that it names, which it
// also returns with an error if that component is configured.
// The name is not signed, but it only selects the codec: the encrypted text
// contains the component's appid as receive id, and the codec compares it.
//
// The envelope of a message has a ToUserName and no AppId
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/message_push.html).
// Then all codecs are tried. The component is the one whose token made the
// signature and whose key opens the text.
func (rx *Receiver) openEnvelope(r *http.Request, e bizmsg.Envelope) (appid string, m *bizmsg.Message, err error) {
	query := r.URL.Query()
	signature, timestamp, nonce := query.Get("msg_signature"), query.Get("timestamp"), query.Get("nonce")
	if e.AppID != "" {
		codec := rx.Codecs[e.AppID]
		if codec == nil {
			return "", nil, errPushForeign
		}
		m, err = codec.Open(signature, timestamp, nonce, e.Encrypt)
		return e.AppID, m, err
	}
	err = bizmsg.ErrSignature
	for appid, codec := range rx.Codecs {
		m, failure := codec.Open(signature, timestamp, nonce, e.Encrypt)
		if failure == nil {
			return appid, m, nil
		}
		if !errors.Is(failure, bizmsg.ErrSignature) {
			// The signature is right, so this error says more than
			// ErrSignature of the other components.
			err = failure
		}
	}
	return "", nil, err
}

// fresh checks the age of a push, and returns its timestamp, which is in Unix seconds.
func fresh(timestamp string, now time.Time) (time.Time, error) {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > maxAge {
		return time.Time{}, errPushStale
	}
	return time.Unix(seconds, 0), nil
}

// age returns how long before a push what it reports was made, by the later of our
// clock and that of WeChat. If nobody knows, it may be a repetition.
func (s *sealedPush) age(created time.Time) time.Duration {
	if created.IsZero() {
		return repeatAge
	}
	return max(time.Since(created), s.timestamp.Sub(created))
}

// retryableError marks a failure of the storage. The push is valid and WeChat should
// push it again.
type retryableError struct{ error }

// Unwrap returns the cause, which the log shows.
func (u *retryableError) Unwrap() error { return u.error }

// The URLs at which pushes arrive, for Reject.
const (
	EventsURL   = "events"
	MessagesURL = "messages"
)

// Reject answers a push that failed with err, and logs err. The status is 503
// if WeChat should push again, 413 if the body is too large, 400 if it did not
// arrive completely, else 403. The answer has no body: an attacker must not
// learn why the push was refused.
//
// The log has a line a minute for each reason and URL, with the count and the
// last sender: a line for each sender would be one for each push, because
// anybody has many addresses.
func (rx *Receiver) Reject(w http.ResponseWriter, r *http.Request, url string, err error) {
	status, outcome := http.StatusForbidden, "refused"
	var ours *retryableError
	switch {
	case errors.As(err, &ours):
		status, outcome = http.StatusServiceUnavailable, "failed"
	case errors.Is(err, errPushTooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, errPushBroken):
		status = http.StatusBadRequest
	case errors.Is(err, errTooMany):
		status = http.StatusTooManyRequests
	}
	fields := []zap.Field{zap.Int("status", status), zap.String("remote", r.RemoteAddr), zap.Error(err)}
	if errors.Is(err, bizmsg.ErrSignature) {
		fields = append(fields, zap.String("remedy", "if this was WeChat: compare the token here with the one in its console"))
	}
	if errors.Is(err, bizmsg.ErrCiphertext) {
		fields = append(fields, zap.String("remedy", "compare the encoding_aes_key here with the one in WeChat's console"))
	}
	rx.Log.With(zap.String("url", url), zap.String("reason", reason(err))).Warn("push not acknowledged", fields...)
	metrics.Pushes.WithLabelValues("any", outcome).Inc()
	if ours == nil { // else it is noted where its facts are known
		rx.noteRefused(r, url, status, err)
	}
	w.WriteHeader(status)
}

// reason returns what kind of failure err is, one of a small number of texts. The
// text of err itself may depend on the push, such as the byte at which its XML is
// malformed.
func reason(err error) string {
	if errors.As(err, new(*retryableError)) {
		return "storing failed"
	}
	for _, known := range []error{
		errPushTooLarge, errPushBroken, errTooMany, errPushForeign, errPushStale, errMessagePath, errMessageIsEvent,
		bizmsg.ErrSignature, bizmsg.ErrCiphertext, bizmsg.ErrReceiveID,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	doing, _, _ := strings.Cut(err.Error(), ":")
	return doing
}
