// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	// ticketAhead is how long before its end a shared ticket is asked for anew. SDKs
	// subtract up to 1500 s from expires_in, and something must be left of it.
	ticketAhead = 30 * time.Minute
	// ticketInterval is how often that is tried while WeChat answers with the same
	// ticket, or with none.
	ticketInterval = time.Minute
	// ticketPatience is how long callers wait for it while there is a ticket that lives.
	ticketPatience = 2 * time.Second
	// maxHeldTickets is how many shared tickets are held, about 50 MB. If there are
	// more, WeChat is asked again for those that have been left out.
	maxHeldTickets = 100_000
)

// SharedKinds are the kinds of tickets that are shared. WeChat calls them types.
var SharedKinds = []string{openapi.TicketJSAPI, openapi.TicketCard}

// SharedTicket is a ticket that all who sign for an account share.
type SharedTicket struct {
	Value   secret.Secret
	Expires time.Time
}

// Left returns how many whole seconds a ticket lives on; 0 for nil.
func (t *SharedTicket) Left(now time.Time) int {
	if t == nil {
		return 0
	}
	return max(0, int(t.Expires.Sub(now)/time.Second))
}

// heldTickets are the shared tickets in memory. They survive reloads, not the process.
// Nothing but a ticket is held: a refusal is none. It is safe for concurrent use and
// waits for nothing.
type heldTickets struct {
	max int // tickets

	mu sync.Mutex // guards all below
	of map[heldKey]*heldTicket
}

type heldKey struct {
	who  subject.Subject
	kind string // one of SharedKinds
}

// heldTicket is the place of one ticket.
type heldTicket struct {
	ticket *SharedTicket // nil until WeChat has answered
	asked  time.Time     // when WeChat was asked last, or is being asked
}

func newHeldTickets() *heldTickets {
	return &heldTickets{max: maxHeldTickets, of: make(map[heldKey]*heldTicket)}
}

// live returns the ticket, nil if it does not live. The caller holds mu.
func (p *heldTicket) live(now time.Time) *SharedTicket {
	if p == nil || p.ticket.Left(now) == 0 {
		return nil
	}
	return p.ticket
}

// settled reports whether a ticket is to be served without asking WeChat: it lives
// long enough, or it lives and WeChat was asked within the last minute. The caller
// holds mu.
func (p *heldTicket) settled(now time.Time) bool {
	ticket := p.live(now)
	return ticket != nil && (ticket.Expires.Sub(now) > ticketAhead || now.Sub(p.asked) < ticketInterval)
}

// Get returns the ticket that lives, nil if there is none, and whether to serve it at
// once. Those who come while WeChat is being asked for a newer one are to wait with
// the others, but not after ticketPatience.
func (h *heldTickets) Get(key heldKey, now time.Time) (ticket *SharedTicket, serve bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	place := h.of[key]
	ticket = place.live(now)
	if ticket == nil || !place.settled(now) {
		return ticket, false
	}
	return ticket, ticket.Expires.Sub(now) > ticketAhead || now.Sub(place.asked) >= ticketPatience
}

// Begin notes that WeChat is asked now, and returns the place that Keep wants. If
// somebody else has asked meanwhile, it returns the ticket instead.
func (h *heldTickets) Begin(key heldKey, now time.Time) (place *heldTicket, ticket *SharedTicket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	place = h.of[key]
	if place.settled(now) {
		return nil, place.ticket
	}
	if place == nil {
		h.makeRoom()
		place = new(heldTicket)
		h.of[key] = place
	}
	place.asked = now
	return place, nil
}

// makeRoom drops any ticket if there are too many. The caller holds mu.
func (h *heldTickets) makeRoom() {
	for key := range h.of {
		if len(h.of) < h.max {
			return
		}
		delete(h.of, key)
	}
}

// Keep puts what WeChat has answered into its place and returns the ticket that is now
// in force; nil if the place was dropped since Begin. The same ticket again has no new
// life: its end is the earliest that WeChat has told.
func (h *heldTickets) Keep(key heldKey, place *heldTicket, ticket *SharedTicket, now time.Time) *SharedTicket {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of[key] != place {
		return nil
	}
	if known := place.live(now); known != nil && known.Value.Equal(ticket.Value) && known.Expires.Before(ticket.Expires) {
		return known
	}
	place.ticket = ticket
	return ticket
}

// Drop forgets the tickets of who, and what WeChat is about to answer.
func (h *heldTickets) Drop(who subject.Subject) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, kind := range SharedKinds {
		delete(h.of, heldKey{who, kind})
	}
}

// Sweep forgets tickets that have ended, so that memory is bounded by what is asked for.
func (h *heldTickets) Sweep(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, place := range h.of {
		if place.live(now) == nil && now.Sub(place.asked) > ticketInterval {
			delete(h.of, key)
		}
	}
}
