// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"time"
)

// ticketInterval lies between two pushes of Run.
const ticketInterval = 10 * time.Minute

// PushTicket makes a new component_verify_ticket and pushes it. The ticket is
// valid even if the push fails. It fails unless answered exactly `success`.
func (s *Sandbox) PushTicket(ctx context.Context) error {
	s.mu.Lock()
	ticket := s.newTicket()
	s.stopped = false
	s.mu.Unlock()
	return s.PushEvent(ctx, "component_verify_ticket",
		"<ComponentVerifyTicket>"+cdata(ticket)+"</ComponentVerifyTicket>")
}

// Run pushes a ticket now and every 10 minutes of the sandbox's clock, until ctx
// ends, whose error it returns. Failed pushes stand in Pushes. Without Run,
// tickets go out only when PushTicket or api_start_push_ticket asks.
func (s *Sandbox) Run(ctx context.Context) error {
	s.setRunning(true)
	defer s.setRunning(false)
	ticker := time.NewTicker(max(time.Millisecond, time.Duration(float64(ticketInterval)/s.cfg.Speed)))
	defer ticker.Stop()
	for {
		if !s.ticketsStopped() {
			_ = s.PushTicket(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-s.wake:
		}
	}
}

// StopTickets makes WeChat give up pushing tickets, as after too many failures,
// until api_start_push_ticket or PushTicket.
func (s *Sandbox) StopTickets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

func (s *Sandbox) ticketsStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

func (s *Sandbox) setRunning(running bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = running
}

// startPushTicket wakes the pushing of tickets. The push comes before the answer
// or, while Run is at work, at about the same time; once a minute at most.
func (s *Sandbox) startPushTicket(x *exchange) (any, error) {
	body, err := s.componentBody(x)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if err := s.secretError(body.ComponentSecret); err != nil {
		s.mu.Unlock()
		return nil, err
	}
	now := s.now()
	text := "in a normal state"
	abnormal := s.stopped || s.ticketError(s.ticket) != nil
	if abnormal {
		text = "ok"
	}
	push := abnormal || !s.cfg.Switches.QuietStartPush && now.Sub(s.startedAt) >= time.Minute
	if push {
		s.startedAt, s.stopped = now, false
	}
	running := s.running
	s.mu.Unlock()
	switch {
	case push && running:
		select {
		case s.wake <- struct{}{}:
		default: // a push is due already
		}
	case push:
		_ = s.PushTicket(x.r.Context()) // its failure is the gateway's, and stands in Pushes
	}
	return object{"errcode": 0, "errmsg": text}, nil
}

// newTicket makes a ticket.
func (s *Sandbox) newTicket() string {
	s.ticket = s.record(random("ticket@@@REALTICKET", 96))
	s.tickets[s.ticket] = s.now()
	return s.ticket
}

// ticketError says why api_component_token would refuse a ticket, or nil.
func (s *Sandbox) ticketError(ticket string) *refusal {
	made, known := s.tickets[ticket]
	switch {
	case !known:
		return refuse(61006, "component ticket is invalid")
	case !s.now().Before(made.Add(s.cfg.TicketLifetime)):
		return refuse(61005, "component ticket is expired")
	}
	return nil
}
