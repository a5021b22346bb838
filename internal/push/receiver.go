// SPDX-License-Identifier: Apache-2.0

// Package push takes what WeChat pushes: tickets and authorisation events at one
// URL, messages of the accounts at the other. Nothing of a push is believed before
// it is verified and decrypted, and nothing is acknowledged before it is stored or
// taken. Who gets a delivery, it asks; it knows no client and no app secret.
package push

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

const (
	maxPush      = 64 << 10
	bodyTimeout  = 10 * time.Second // a slow body does not hold a connection longer
	maxAge       = 10 * time.Minute // how far the timestamp may be off, either way
	storeTimeout = 4 * time.Second  // WeChat waits five
)

var (
	errPushTooLarge = errors.New("larger than 64 KiB")
	errPushStale    = errors.New("timestamp is more than 10 minutes off; is this server's clock right?")
	errPushForeign  = errors.New("component is not configured here")
	errPushBroken   = errors.New("the body broke off")
)

// Receiver takes what WeChat pushes. It is safe for concurrent use; its fields are
// not changed.
type Receiver struct {
	Codecs    map[string]*bizmsg.Codec // component_appid → what opens its pushes
	Tokens    *tokens.Keeper
	Courier   *delivery.Courier // takes authorisation events to applications
	Transport *http.Transport   // takes messages there
	Replays   *Replays
	Log       *zap.Logger

	// Recipients returns where an application takes delivery of what concerns an
	// authorizer of a component, or with "" the component itself. Nil means that
	// nobody does.
	Recipients func(component, authorizer string) []*delivery.Target
}

// sealedPush is a push to either URL, verified and decrypted.
type sealedPush struct {
	component string
	envelope  bizmsg.Envelope
	message   *bizmsg.Message
	signature pushID
}

// openSealed is the one door for pushes: size, signature, ciphertext, receive
// id, timestamp. Nothing of a push is believed before.
func (rx *Receiver) openSealed(w http.ResponseWriter, r *http.Request) (*sealedPush, error) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPush))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, errPushTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPushBroken, err)
	}
	envelope, err := bizmsg.ParseEnvelope(body)
	if err != nil {
		return nil, err
	}
	component, message, err := rx.openEnvelope(r, envelope)
	if err != nil {
		return nil, err
	}
	if err := fresh(r.URL.Query().Get("timestamp"), time.Now()); err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(component + r.URL.Query().Get("msg_signature")))
	return &sealedPush{component, envelope, message, pushID(digest[:16])}, nil
}

// openEnvelope opens an envelope with the component that it names. Where it
// names none, the component whose token has signed it is the one.
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
			err = failure // the one that knows the token tells more
		}
	}
	return "", nil, err
}

func fresh(timestamp string, now time.Time) error {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > maxAge {
		return errPushStale
	}
	return nil
}

// retryableError marks the failures that are ours: WeChat shall push again.
type retryableError struct{ error }

func (u *retryableError) Unwrap() error { return u.error }

// Reject answers a push that is not acknowledged. The sender learns
// nothing but the status, the log says why.
func (rx *Receiver) Reject(w http.ResponseWriter, r *http.Request, err error) {
	status, outcome := http.StatusForbidden, "refused"
	var ours *retryableError
	switch {
	case errors.As(err, &ours):
		status, outcome = http.StatusServiceUnavailable, "failed"
	case errors.Is(err, errPushTooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, errPushBroken):
		status = http.StatusBadRequest
	}
	fields := []zap.Field{zap.Int("status", status), zap.String("remote", r.RemoteAddr), zap.Error(err)}
	if errors.Is(err, bizmsg.ErrSignature) {
		fields = append(fields, zap.String("remedy", "if this was WeChat: compare the token here with the one in its console"))
	}
	if errors.Is(err, bizmsg.ErrCiphertext) {
		fields = append(fields, zap.String("remedy", "compare the encoding_aes_key here with the one in WeChat's console"))
	}
	rx.Log.Warn("push not acknowledged", fields...)
	metrics.Pushes.WithLabelValues("any", outcome).Inc()
	w.WriteHeader(status)
}
