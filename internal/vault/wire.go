// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// recordWire is the JSON of a Record inside the box, with its secrets in clear.
type recordWire struct {
	Generation  uint64    `json:"generation"`
	Token       string    `json:"token,omitempty"`
	Obtained    time.Time `json:"obtained,omitzero"`
	Expires     time.Time `json:"expires,omitzero"`
	Refresh     string    `json:"refresh,omitempty"`
	State       State     `json:"state"`
	EventTime   time.Time `json:"event_time,omitzero"`
	Code        string    `json:"code,omitempty"`
	CodeExpires time.Time `json:"code_expires,omitzero"`
	Functions   []int     `json:"functions,omitempty"`
}

func newRecordWire(r Record) recordWire {
	return recordWire{
		Generation:  r.Generation,
		Token:       r.Token.Reveal(),
		Obtained:    r.Obtained.UTC(),
		Expires:     r.Expires.UTC(),
		Refresh:     r.Refresh.Reveal(),
		State:       r.State,
		EventTime:   r.EventTime.UTC(),
		Code:        r.Code.Reveal(),
		CodeExpires: r.CodeExpires.UTC(),
		Functions:   r.Functions,
	}
}

func (w recordWire) record() Record {
	return Record{
		Generation:  w.Generation,
		Token:       secret.New(w.Token),
		Obtained:    w.Obtained,
		Expires:     w.Expires,
		Refresh:     secret.New(w.Refresh),
		State:       w.State,
		EventTime:   w.EventTime,
		Code:        secret.New(w.Code),
		CodeExpires: w.CodeExpires,
		Functions:   w.Functions,
	}
}

// ticketWire is the JSON of a Ticket inside the box.
type ticketWire struct {
	Value      string    `json:"value,omitempty"`
	CreateTime time.Time `json:"create_time,omitzero"`
	Received   time.Time `json:"received,omitzero"`
	Asked      time.Time `json:"asked,omitzero"`
}

func newTicketWire(t Ticket) ticketWire {
	return ticketWire{
		Value:      t.Value.Reveal(),
		CreateTime: t.CreateTime.UTC(),
		Received:   t.Received.UTC(),
		Asked:      t.Asked.UTC(),
	}
}

func (w ticketWire) ticket() Ticket {
	return Ticket{
		Value:      secret.New(w.Value),
		CreateTime: w.CreateTime,
		Received:   w.Received,
		Asked:      w.Asked,
	}
}

// eventWire is the JSON of an Event inside the box; the rest of it is its key.
type eventWire struct {
	InfoType string    `json:"info_type"`
	Body     []byte    `json:"body"`
	Queued   time.Time `json:"queued"`
	Attempts int       `json:"attempts,omitempty"`
	Due      time.Time `json:"due"`
	Failure  string    `json:"failure,omitempty"`
}

func newEventWire(e Event) eventWire {
	return eventWire{
		InfoType: e.InfoType,
		Body:     e.Body,
		Queued:   e.Queued.UTC(),
		Attempts: e.Attempts,
		Due:      e.Due.UTC(),
		Failure:  e.Failure,
	}
}

func (w eventWire) event(key EventKey) Event {
	return Event{
		EventKey: key,
		InfoType: w.InfoType,
		Body:     w.Body,
		Queued:   w.Queued,
		Attempts: w.Attempts,
		Due:      w.Due,
		Failure:  w.Failure,
	}
}

// String returns the word that stands in records: "authorized" or
// "unauthorized".
func (s State) String() string {
	switch s {
	case Authorized:
		return "authorized"
	case Unauthorized:
		return "unauthorized"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It accepts the two known
// words only: a state that is not understood must not pass for authorized.
func (s *State) UnmarshalText(text []byte) error {
	for _, known := range []State{Authorized, Unauthorized} {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return errors.New("unknown state")
}
