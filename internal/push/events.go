// SPDX-License-Identifier: Apache-2.0

package push

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

// Event is an opened push to the events URL.
type Event struct {
	component string
	event     bizmsg.Event
	plain     []byte // what event was read from
	previous  bool   // made with a token or key before the current one
	signature pushID
}

// OpenEvent reads and verifies a push to the events URL.
func (rx *Receiver) OpenEvent(w http.ResponseWriter, r *http.Request) (*Event, error) {
	sealed, err := rx.openSealed(w, r)
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
	return &Event{sealed.component, event, sealed.message.Plain, sealed.message.Previous, sealed.signature}, nil
}

// HandleEvent acts on a push. When it returns nil, what the push brought is stored
// and the push may be acknowledged; a repeat of it is acknowledged again.
func (rx *Receiver) HandleEvent(ctx context.Context, p *Event) error {
	if rx.Replays.seen(p.signature) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := rx.apply(ctx, p); err != nil {
		return &retryableError{err}
	}
	if err := rx.queue(ctx, p); err != nil {
		return &retryableError{err}
	}
	rx.Replays.acknowledged(p.signature, time.Now())
	metrics.Pushes.WithLabelValues(metrics.PushType(p.event.InfoType), "acknowledged").Inc()
	return nil
}

// apply is the one place that knows what an InfoType means.
func (rx *Receiver) apply(ctx context.Context, p *Event) error {
	e := p.event
	log := rx.Log.With(zap.String("component", p.component), zap.String("info_type", e.InfoType))
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
		return rx.Tokens.Ticket(ctx, p.component, e.ComponentVerifyTicket, e.CreateTime)
	case bizmsg.InfoAuthorized, bizmsg.InfoUpdateAuthorized, bizmsg.InfoFastRegister, bizmsg.InfoUnauthorized:
		return rx.applyAuthorization(ctx, p, log)
	default:
		log.Info("push acknowledged, nothing to do for this InfoType")
		return nil
	}
}

func (rx *Receiver) applyAuthorization(ctx context.Context, p *Event, log *zap.Logger) error {
	e := p.event
	log = log.With(zap.String("authorizer", e.AuthorizerAppID))
	if !subject.ValidAppID(e.AuthorizerAppID) {
		log.Warn("push without an appid of an authorizer ignored")
		return nil
	}
	log.Info("authorization event received")
	if e.InfoType == bizmsg.InfoUnauthorized {
		return rx.Tokens.Unauthorized(ctx, p.component, e.AuthorizerAppID, e.CreateTime)
	}
	if e.AuthorizationCode == nil {
		return nil // a registration that failed
	}
	return rx.Tokens.Authorized(ctx, tokens.Grant{Component: p.component, Authorizer: e.AuthorizerAppID, Code: e.AuthorizationCode, Time: e.CreateTime})
}

// queue queues an authorisation event for the clients it is for: those
// that may act for the account, or if it names none those with component_api.
// The ticket is for nobody.
func (rx *Receiver) queue(ctx context.Context, p *Event) error {
	if p.event.InfoType == bizmsg.InfoTicket || rx.Recipients == nil {
		return nil
	}
	event, err := delivery.NewEvent(p.component, p.event, p.plain)
	if err != nil {
		rx.Log.Error("event cannot be delivered", zap.String("info_type", p.event.InfoType), zap.Error(err))
		return nil // it would fail in the same way when pushed again
	}
	var names []string
	for _, target := range rx.Recipients(p.component, event.Authorizer) {
		names = append(names, target.Client)
	}
	return rx.Courier.Enqueue(ctx, event, names)
}
