// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// recordWire is the JSON of a Record. It contains secrets in clear text and so
// exists only between encoding and sealing, or between opening and decoding.
// The names of its members are the stored format; to rename one needs a new
// schema.
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

	Trouble      Trouble   `json:"trouble,omitempty"`
	TroubleSince time.Time `json:"trouble_since,omitzero"`
	Met          time.Time `json:"met,omitzero"`
}

// newRecordWire returns what is stored of r. The result must be sealed at once.
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

		Trouble:      r.Trouble,
		TroubleSince: r.TroubleSince.UTC(),
		Met:          r.Met.UTC(),
	}
}

// record returns the Record that was stored. Empty texts become nil secrets.
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

		Trouble:      w.Trouble,
		TroubleSince: w.TroubleSince,
		Met:          w.Met,
	}
}

// ticketWire is the JSON of a Ticket, with the ticket in clear text, see
// recordWire.
type ticketWire struct {
	Value      string    `json:"value,omitempty"`
	CreateTime time.Time `json:"create_time,omitzero"`
	Received   time.Time `json:"received,omitzero"`
	Asked      time.Time `json:"asked,omitzero"`
}

// newTicketWire returns what is stored of t. The result must be sealed at once.
func newTicketWire(t Ticket) ticketWire {
	return ticketWire{
		Value:      t.Value.Reveal(),
		CreateTime: t.CreateTime.UTC(),
		Received:   t.Received.UTC(),
		Asked:      t.Asked.UTC(),
	}
}

// ticket returns the Ticket that was stored.
func (w ticketWire) ticket() Ticket {
	return Ticket{
		Value:      secret.New(w.Value),
		CreateTime: w.CreateTime,
		Received:   w.Received,
		Asked:      w.Asked,
	}
}

// eventWire is the JSON of an Event, without the fields of its EventKey: these
// are in the storage key.
type eventWire struct {
	Kind       string    `json:"kind,omitempty"`
	InfoType   string    `json:"info_type"`
	ToUserName string    `json:"to_user_name,omitempty"`
	OpenID     string    `json:"openid,omitempty"`
	CodeIn     string    `json:"code_in,omitempty"`
	Body       []byte    `json:"body"`
	Queued     time.Time `json:"queued"`
	Attempts   int       `json:"attempts,omitempty"`
	Due        time.Time `json:"due"`
	NotBefore  time.Time `json:"not_before,omitzero"`
	Failure    string    `json:"failure,omitempty"`
	Died       time.Time `json:"died,omitzero"`
}

// newEventWire returns what is stored of e.
func newEventWire(e Event) eventWire {
	return eventWire{
		Kind:       e.Kind,
		InfoType:   e.InfoType,
		ToUserName: e.ToUserName,
		OpenID:     e.OpenID,
		CodeIn:     e.CodeIn,
		Body:       e.Body,
		Queued:     e.Queued.UTC(),
		Attempts:   e.Attempts,
		Due:        e.Due.UTC(),
		NotBefore:  e.NotBefore.UTC(),
		Failure:    e.Failure,
		Died:       e.Died.UTC(),
	}
}

// event returns the Event that was stored under key.
func (w eventWire) event(key EventKey) Event {
	return Event{
		EventKey:   key,
		Kind:       w.Kind,
		InfoType:   w.InfoType,
		ToUserName: w.ToUserName,
		OpenID:     w.OpenID,
		CodeIn:     w.CodeIn,
		Body:       w.Body,
		Queued:     w.Queued,
		Attempts:   w.Attempts,
		Due:        w.Due,
		NotBefore:  w.NotBefore,
		Failure:    w.Failure,
		Died:       w.Died,
	}
}

// String returns the word that is stored in records: "authorized" or
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

// MarshalText returns the word of [State.String], for encoding/json.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a word of [State.String]. Any other word is an error, and
// the record is then *Unreadable: a state that a newer release has added must
// not be treated as authorized.
func (s *State) UnmarshalText(text []byte) error {
	for _, known := range []State{Authorized, Unauthorized} {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return errors.New("unknown state")
}
