// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// sharedTickets serves the tickets with which applications sign. WeChat gives few calls
// for them and wants them cached in one place, while SDKs cache in each process: so all
// who ask for one ticket on this node share it, and share one call.
type sharedTickets struct{ *authorizers }

// errTicketDropped means that the account's tokens were dropped while WeChat answered.
var errTicketDropped = errors.New("the account's tokens were dropped while its ticket was fetched")

// get is Keeper.SharedTicket. A ticket that lives is served also where a newer one
// cannot be had, or comes too late. Whoever waited while the account's tokens were
// dropped looks once more: it may have withdrawn, or be back.
func (s *sharedTickets) get(ctx context.Context, key heldKey, client string) (*SharedTicket, error) {
	known, serve := s.held.Get(key, time.Now())
	if serve {
		return known, nil
	}
	limited := ctx
	if known != nil {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, ticketPatience)
		defer cancel()
	}
	ticket, err := s.fetchTicket(limited, key, client)
	if errors.Is(err, errTicketDropped) {
		ticket, err = s.fetchTicket(limited, key, client)
	}
	if err == nil {
		return ticket, nil
	}
	if known, _ = s.held.Get(key, time.Now()); known != nil {
		s.log(key.who).Debug("no newer shared ticket, the known one is served", zap.String("type", key.kind), zap.Error(err))
		return known, nil
	}
	return nil, err
}

// fetchTicket joins or starts the one call for this ticket on this node, which goes on
// without the caller. Each caller needs a token of its own: the look-ups of one client
// that tries appids are not to be felt by others.
func (s *sharedTickets) fetchTicket(ctx context.Context, key heldKey, client string) (*SharedTicket, error) {
	if _, err := s.current(ctx, key.who, client); err != nil {
		return nil, ticketError(err)
	}
	ticket, err := await[*SharedTicket](ctx, s.join(string(key.who)+" ticket "+key.kind, func(ctx context.Context) (any, error) {
		return s.askTicket(ctx, key, Caller{client, openapi.EndpointSharedTicket})
	}))
	return ticket, ticketError(err)
}

// askTicket asks WeChat for a ticket, unless somebody else has just done so. Its life
// counts from before the call.
func (s *sharedTickets) askTicket(ctx context.Context, key heldKey, by Caller) (*SharedTicket, error) {
	place, known := s.held.Begin(key, time.Now())
	if place == nil {
		return known, nil
	}
	var ticket *SharedTicket
	err := s.withToken(ctx, key.who, by, func(token secret.Secret) error {
		began := time.Now()
		got, err := s.settings().API.SharedTicket(ctx, key.kind, token)
		ticket = &SharedTicket{got.Value, began.Add(got.Lifetime)}
		return err
	})
	if err != nil {
		s.suspectWithdrawal(key.who, err)
		return nil, err
	}
	if ticket = s.held.Keep(key, place, ticket, time.Now()); ticket == nil {
		return nil, errTicketDropped
	}
	return ticket, nil
}

// suspectWithdrawal is Keeper.Recheck for a refusal of WeChat's.
func (s *sharedTickets) suspectWithdrawal(who subject.Subject, err error) {
	var refusal *openapi.Refusal
	if !errors.As(err, &refusal) || refusal.Code != 61003 {
		return
	}
	if token := s.memory.Get(who); token != nil {
		s.recheck(who, token)
	}
}

// ticketError is callError. What WeChat has refused in another call, such as the
// renewal of a token, is not the answer to this one.
func ticketError(err error) error {
	var refusal *openapi.Refusal
	err = callError(err)
	if errors.As(err, &refusal) && !strings.HasPrefix(refusal.Endpoint, openapi.EndpointSharedTicket) {
		return fmt.Errorf("%w: %w", problem.Of(err), err)
	}
	return err
}
