// SPDX-License-Identifier: Apache-2.0

package sandbox

import "time"

// sharedTicketLifetime is what WeChat's page states
// (developers.weixin.qq.com/doc/service/api/webdev/js/api_getticket).
const sharedTicketLifetime = 7200 * time.Second

// sharedTicket is what applications sign with: a jsapi_ticket, or the api_ticket of cards.
type sharedTicket struct {
	value   string
	expires time.Time
}

// sharedTicketMarks begin the tickets of each kind.
var sharedTicketMarks = map[string]string{KindJSAPI: "JSAPITICKET-", KindCard: "CARDTICKET-"}

// getTicket is ticket/getticket. Its tickets are for the application to have, so they
// are none of Credentials.
func (s *Sandbox) getTicket(x *exchange) (any, error) {
	kind := x.query.Get("type")
	mark, known := sharedTicketMarks[kind]
	if !known {
		return nil, refuse(40097, "invalid args")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, shared := s.now(), s.accounts[x.token.appid].shared
	if shared[kind].expires.Sub(now) < time.Second || s.cfg.Switches.NewSharedTickets {
		shared[kind] = sharedTicket{random(mark, 86), now.Add(sharedTicketLifetime)}
	}
	return object{"errcode": 0, "errmsg": "ok", "ticket": shared[kind].value, "expires_in": s.expiresIn(shared[kind].expires.Sub(now))}, nil
}
