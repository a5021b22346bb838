// SPDX-License-Identifier: Apache-2.0

package push

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

// Event is a verified and decrypted push to the events URL.
type Event struct {
	component string
	event     bizmsg.Event
	plain     []byte // the decrypted text; it contains the ticket or a code
	previous  bool   // signed or encrypted with the previous token or key
	id        string // of the text: WeChat may sign a repetition anew
	arrived   time.Time
	mayRepeat bool // it is old enough to be a repetition of WeChat's
	fact      pushlog.Push
}

// OpenEvent reads, verifies and decrypts a push to the events URL, see
// openSealed. It changes nothing. Its errors are for [Receiver.Reject].
//
// The AppId in the decrypted text must be the component, as the receive id
// must. A push in which the two differ is refused.
func (rx *Receiver) OpenEvent(w http.ResponseWriter, r *http.Request) (*Event, error) {
	sealed, err := rx.openSealed(w, r)
	if err != nil {
		return nil, err
	}
	event, err := bizmsg.ParseEvent(sealed.message.Plain)
	if err == nil && event.AppID != sealed.component {
		err = fmt.Errorf("opening push: AppId %.32q is not the component's", event.AppID)
	}
	if err != nil {
		return nil, &claimedError{err, sealed.component}
	}
	id := delivery.EventID(sealed.component, sealed.message.Plain)
	mayRepeat := sealed.age(event.CreateTime) >= repeatAge
	fact := sealed.fact(EventsURL, "", pushlog.Word(event.InfoType))
	if subject.ValidAppID(event.AuthorizerAppID) {
		fact.AppID = strings.Clone(event.AuthorizerAppID)
	}
	return &Event{sealed.component, event, sealed.message.Plain, sealed.message.Previous, id, time.Now(), mayRepeat, fact}, nil
}

// HandleEvent stores what the event reports and queues the event for
// applications. If it returns nil, the push must be acknowledged with the text
// success
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/authorize_event.html).
// Its errors are for [Receiver.Reject], which answers 503, so that WeChat
// pushes again. It waits for the storage, at most storeTimeout; a withdrawal is
// saved for longer if the storage is slow, see tokens.Keeper. It does not
// wait for the exchange of a code or for a delivery.
//
// One event is handled once on this node, however often it is pushed while pushes
// are believed and however these are signed. It is known by its text: two events that
// differ in anything are two. A push that comes while another one of the event is
// being handled waits for it and has the same result.
func (rx *Receiver) HandleEvent(ctx context.Context, p *Event) error {
	outcome, err, _ := rx.handling.Do(p.id, func() (any, error) {
		return rx.handleOnce(context.WithoutCancel(ctx), p) // another push may wait for this one
	})
	rx.note(p.fact, outcome.(string), err)
	return err
}

// handleOnce is HandleEvent for one push of an event at a time. It returns the outcome
// for operators.
//
// The order is important. A repeated event is acknowledged, but not handled
// again. The event is stored before it is queued, because an application may
// use the account as soon as it gets the event. The event is remembered last,
// after both steps have succeeded. Otherwise, if a step fails, WeChat's next
// attempt would count as a repeat and the event would be lost.
func (rx *Receiver) handleOnce(ctx context.Context, p *Event) (outcome string, err error) {
	if rx.Seen.Has(p.id) {
		return pushlog.Repeated, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	isTicket := p.event.InfoType == bizmsg.InfoTicket
	if p.mayRepeat && !isTicket && rx.Deliveries.WasHandled(ctx, p.component, p.id) { // by another node
		rx.Seen.Add(p.id, time.Now())
		return pushlog.Repeated, nil
	}
	if err := rx.apply(ctx, p); err != nil {
		return pushlog.Failed, &retryableError{err}
	}
	queued, err := rx.queue(ctx, p)
	if err != nil {
		return pushlog.Failed, &retryableError{err}
	}
	rx.Seen.Add(p.id, time.Now())
	if queued {
		rx.Deliveries.NoteHandled(ctx, p.component, p.id)
	}
	metrics.Pushes.WithLabelValues(metrics.PushType(p.event.InfoType), "acknowledged").Inc()
	return pushlog.Acknowledged, nil
}

// apply stores what an event reports. No other function knows what an InfoType
// means. WeChat expects success for every push, so an unknown InfoType is no
// error
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/component_verify_ticket.html).
// An event without the value that its InfoType should have is no error either:
// if WeChat pushed it again, the value would be missing again.
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
		if p.previous {
			// Logged for tickets only: they come every ten minutes, so this
			// is enough to see when WeChat uses the new token and key.
			log.Info("WeChat still pushes with the previous token or encoding_aes_key")
		}
		if err := rx.Tokens.Ticket(ctx, p.component, e.ComponentVerifyTicket, e.CreateTime); err != nil {
			return err
		}
		rx.Deliveries.SendTickets(p.component)
		return nil
	case bizmsg.InfoAuthorized, bizmsg.InfoUpdateAuthorized, bizmsg.InfoFastRegister, bizmsg.InfoUnauthorized:
		return rx.applyAuthorization(ctx, p, log)
	default:
		log.Info("push acknowledged, nothing to do for this InfoType")
		return nil
	}
}

// applyAuthorization stores that an account has authorised the component,
// changed the permission sets, or withdrawn. Package tokens compares
// CreateTime, so an old event that arrives late changes no record. The code is
// stored here and exchanged in the background. A fast registration
// (notify_third_fasteregister) has a code as well: if it were not exchanged,
// the new mini program would have no refresh token.
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
		return nil // the event of a registration that has failed
	}
	return rx.Tokens.Authorized(ctx, tokens.Grant{Component: p.component, Authorizer: e.AuthorizerAppID, Code: e.AuthorizationCode, Time: e.CreateTime})
}

// queue stores an event in the queues of the targets that get it, see
// delivery.Event.Shares, and reports whether there are any. No client gets WeChat's
// ticket, which is a credential of the platform; apply lets those that want one have a
// ticket of the gateway. From other events delivery.NewEvent removes the codes. If
// storing fails for one target, the push is not acknowledged. When WeChat pushes the
// event again, it has the same id, so it is not queued twice for the others.
//
// An event from which the codes cannot be removed is not acknowledged either: WeChat
// then says in its console that pushes fail, and gives up after three attempts.
// What it reports has been stored before, and other pushes, such as tickets, do not
// depend on it.
func (rx *Receiver) queue(ctx context.Context, p *Event) (queued bool, err error) {
	if p.event.InfoType == bizmsg.InfoTicket || rx.Recipients == nil {
		return false, nil
	}
	event, err := delivery.NewEvent(p.component, p.event, p.plain, p.arrived)
	if err != nil {
		rx.Log.Error("event cannot be delivered", zap.String("info_type", p.event.InfoType), zap.Error(err))
		return false, err
	}
	for _, share := range event.Shares(rx.Recipients) {
		if err := rx.Courier.Enqueue(ctx, share.Item, share.Targets, p.arrived); err != nil {
			return false, err
		}
		queued = true
	}
	return queued, nil
}
