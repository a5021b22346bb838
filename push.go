// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

const (
	maxPush     = 64 << 10
	pushArrives = 10 * time.Second // a slow body does not hold a connection longer
	pushAge     = 10 * time.Minute // how far the timestamp may be off, either way
	pushAnswer  = 4 * time.Second  // WeChat waits five
)

var (
	errPushTooLarge = errors.New("larger than 64 KiB")
	errPushStale    = errors.New("timestamp is more than 10 minutes off; is this server's clock right?")
	errPushForeign  = errors.New("component is not configured here")
	errPushBroken   = errors.New("the body broke off")
)

// push is an opened push to the events URL.
type push struct {
	component string
	event     bizmsg.Event
	plain     []byte // what event was read from
	previous  bool   // made with a token or key before the current one
	signature pushID
}

// open reads and verifies a push to the events URL.
func (a *App) open(w http.ResponseWriter, r *http.Request) (*push, error) {
	sealed, err := a.openSealed(w, r)
	if err != nil {
		return nil, err
	}
	event, err := bizmsg.ParseEvent(sealed.message.Plain)
	if err != nil {
		return nil, err
	}
	if event.AppID != sealed.component {
		return nil, fmt.Errorf("opening push: AppId %.32q is not the component's", event.AppID)
	}
	return &push{sealed.component, event, sealed.message.Plain, sealed.message.Previous, sealed.signature}, nil
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
func (a *App) openSealed(w http.ResponseWriter, r *http.Request) (*sealedPush, error) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(pushArrives))
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
	component, message, err := a.openEnvelope(r, envelope)
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
func (a *App) openEnvelope(r *http.Request, e bizmsg.Envelope) (appid string, m *bizmsg.Message, err error) {
	query := r.URL.Query()
	signature, timestamp, nonce := query.Get("msg_signature"), query.Get("timestamp"), query.Get("nonce")
	if e.AppID != "" {
		component := a.components[e.AppID]
		if component == nil {
			return "", nil, errPushForeign
		}
		m, err = component.codec.Open(signature, timestamp, nonce, e.Encrypt)
		return e.AppID, m, err
	}
	err = bizmsg.ErrSignature
	for appid, component := range a.components {
		m, failure := component.codec.Open(signature, timestamp, nonce, e.Encrypt)
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
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > pushAge {
		return errPushStale
	}
	return nil
}

// take acts on a push. When it returns nil, what the push brought is stored
// and the push may be acknowledged; a repeat of it is acknowledged again.
func (a *App) take(ctx context.Context, p *push) error {
	if a.state.replays.seen(p.signature) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pushAnswer)
	defer cancel()
	if err := a.apply(ctx, p); err != nil {
		return &unstoredPush{err}
	}
	if err := a.queueEvent(ctx, p); err != nil {
		return &unstoredPush{err}
	}
	a.state.replays.acknowledged(p.signature, time.Now())
	metrics.Pushes.WithLabelValues(metrics.PushType(p.event.InfoType), "acknowledged").Inc()
	return nil
}

// apply is the one place that knows what an InfoType means.
func (a *App) apply(ctx context.Context, p *push) error {
	keeper, e := a.state.keeper, p.event
	log := a.log.With(zap.String("component", p.component), zap.String("info_type", e.InfoType))
	switch e.InfoType {
	case bizmsg.InfoTicket:
		if e.ComponentVerifyTicket == nil {
			log.Warn("push without a ticket ignored")
			return nil
		}
		log.Debug("component_verify_ticket received", zap.Time("created", e.CreateTime))
		if p.previous { // said with tickets alone, every ten minutes
			log.Info("WeChat still pushes with the previous token or encoding_aes_key")
		}
		return keeper.Ticket(ctx, p.component, e.ComponentVerifyTicket, e.CreateTime)
	case bizmsg.InfoAuthorized, bizmsg.InfoUpdateAuthorized, bizmsg.InfoFastRegister, bizmsg.InfoUnauthorized:
		return a.applyAuthorization(ctx, p, log)
	default:
		log.Info("push acknowledged, nothing to do for this InfoType")
		return nil
	}
}

func (a *App) applyAuthorization(ctx context.Context, p *push, log *zap.Logger) error {
	keeper, e := a.state.keeper, p.event
	log = log.With(zap.String("authorizer", e.AuthorizerAppID))
	if !subject.ValidAppID(e.AuthorizerAppID) {
		log.Warn("push without an appid of an authorizer ignored")
		return nil
	}
	log.Info("authorization event received")
	if e.InfoType == bizmsg.InfoUnauthorized {
		return keeper.Unauthorized(ctx, p.component, e.AuthorizerAppID, e.CreateTime)
	}
	if e.AuthorizationCode == nil {
		return nil // a registration that failed
	}
	return keeper.Authorized(ctx, tokens.Grant{Component: p.component, Authorizer: e.AuthorizerAppID, Code: e.AuthorizationCode, Time: e.CreateTime})
}

// unstoredPush marks the failures that are ours: WeChat shall push again.
type unstoredPush struct{ error }

func (u *unstoredPush) Unwrap() error { return u.error }

// refusePush answers a push that is not acknowledged. The sender learns
// nothing but the status, the log says why.
func (a *App) refusePush(w http.ResponseWriter, r *http.Request, err error) error {
	status, outcome := http.StatusForbidden, "refused"
	var ours *unstoredPush
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
	a.log.Warn("push not acknowledged", fields...)
	metrics.Pushes.WithLabelValues("any", outcome).Inc()
	w.WriteHeader(status)
	return nil
}

// pushID names a push in the replay window, by its msg_signature: timestamp
// and nonce can be cut elsewhere under the same signature.
type pushID [16]byte

// replays remembers the pushes acknowledged for at least as long as their
// timestamps are accepted. Only what verified is remembered, so nobody but
// WeChat can fill it.
type replays struct {
	mu     sync.Mutex
	recent map[pushID]struct{}
	before map[pushID]struct{}
	turned time.Time // when before was recent
}

func newReplays() *replays { return &replays{recent: make(map[pushID]struct{})} }

// seen reports whether a push was acknowledged.
func (r *replays) seen(id pushID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.has(id)
}

// acknowledged remembers a push.
func (r *replays) acknowledged(id pushID, now time.Time) { r.claim(id, now) }

// claim remembers a push that is about to be acknowledged, and reports whether
// it was not remembered before: of two copies at once, one is taken.
func (r *replays) claim(id pushID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.has(id) {
		return false
	}
	if now.Sub(r.turned) > 2*pushAge { // a timestamp may be off either way
		r.recent, r.before, r.turned = make(map[pushID]struct{}), r.recent, now
	}
	r.recent[id] = struct{}{}
	return true
}

// forget takes a claim back: the push was not taken.
func (r *replays) forget(id pushID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.recent, id)
	delete(r.before, id)
}

func (r *replays) has(id pushID) bool {
	_, recent := r.recent[id]
	_, before := r.before[id]
	return recent || before
}
