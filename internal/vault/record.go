// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// State tells whether an account has authorised the component. Its JSON is a
// word, see [State.String].
type State uint8

const (
	// Authorized is the normal state. The record of a component always has it.
	Authorized State = iota
	// Unauthorized marks a tombstone: the account has withdrawn its
	// authorisation. The record stays, without tokens. Its EventTime prevents
	// that an older event, or one that somebody sends again, makes the account
	// authorised.
	Unauthorized
)

// Trouble is what keeps an account from working. Its values are stored.
type Trouble string

const (
	// NoTrouble: the account works, as far as it is known.
	NoTrouble Trouble = ""
	// RenewalsFail: calls are refused, because no token can be had.
	RenewalsFail Trouble = "renewals_fail"
	// NeedsAuthorization: the refresh token is lost, so an admin of the account must
	// authorise again.
	NeedsAuthorization Trouble = "needs_authorization"
)

// Record is what is stored about the access token of a component, or about an
// authorizer. It is a value; a copy shares only the slice Functions, which
// nobody may change.
type Record struct {
	// Generation is the number of times that this record was written. Merge
	// increases it with each write. 0 means that there was no record.
	Generation uint64

	// Token is the access token, nil if there is none. Obtained is the time
	// when a node asked WeChat for the tokens in this record, Expires the time
	// until which Token is valid. Both are by the clock of that node.
	Token             secret.Secret
	Obtained, Expires time.Time

	// Refresh is the authorizer_refresh_token. Components have none. It is
	// valid until the account withdraws
	// (developers.weixin.qq.com/doc/oplatform/developers/dev/AuthorizerAccessToken.html).
	Refresh secret.Secret

	// State is Unauthorized after the account has withdrawn.
	State State

	// EventTime is the CreateTime of the newest authorisation event that was
	// applied to this record, zero if there was none. It is by WeChat's clock.
	EventTime time.Time

	// Code is an authorization_code that WeChat has pushed and that is not
	// exchanged yet. It is stored before the push is acknowledged, because
	// WeChat does not push it again afterwards. CodeExpires is the time until
	// which it can be exchanged.
	Code        secret.Secret
	CodeExpires time.Time

	// Functions are the ids of the permission sets that the account has granted
	// (func_info).
	Functions []int

	// Trouble is what keeps the account from working, as far as that has been noted,
	// and TroubleSince when it was noticed. What is noted has been told to the
	// applications, so that a cluster tells them once.
	Trouble      Trouble
	TroubleSince time.Time

	// Note is why the account has the trouble or the state that the writer of this
	// record gives it. It is not stored with the record but in the index of the
	// standings, see Vault.LoadNote; Load leaves it zero.
	Note Note

	// Met is when the gateway met the account although no event had told of it, until
	// the applications have been told; otherwise zero.
	Met time.Time
}

// Merge returns the record to store if a writer has new while old is stored.
// The zero Record stands for no record. Merge does not change its arguments.
//
// The generations tell whether the writer has read old. If new.Generation is
// not lower, it has: new is old with changes, and replaces it. The times in the
// records are not compared then, because the clocks of two nodes may differ by
// more than the time between two renewals. If new.Generation is lower, another
// writer has stored old in the meantime: the lock was lost, or this write comes
// late. Then reconcile chooses each part by its time.
//
// In both cases:
//   - A refresh token is never replaced by an empty one, except in a tombstone,
//     which has no tokens.
//   - EventTime never becomes earlier.
//   - Generation increases.
//   - Of a tombstone there is nothing to be told but what its event says.
//   - Note is empty: it is no part of what is stored.
func Merge(old, new Record) Record {
	merged := new
	if new.Generation < old.Generation {
		merged = reconcile(old, new)
	}
	if merged.Refresh == nil {
		merged.Refresh = old.Refresh
	}
	if merged.EventTime.Before(old.EventTime) {
		merged.EventTime = old.EventTime
	}
	if merged.State == Unauthorized {
		merged.Token, merged.Refresh = nil, nil
		merged.Obtained, merged.Expires = time.Time{}, time.Time{}
		merged.Trouble, merged.TroubleSince, merged.Met = NoTrouble, time.Time{}, time.Time{}
	}
	merged.Note = Note{}
	merged.Generation = max(old.Generation, new.Generation) + 1
	return merged
}

// reconcile merges two records if the writer of new has not read old. State and
// permissions are those of the record with the later event. Tokens are those
// that WeChat has issued later. If the times are equal, the values of old stay.
// Of the codes the one that expires later is kept, and the only one is always
// kept. If a code is exchanged twice, WeChat rejects the second exchange and
// nothing is lost. If a code is lost, the authorisation is lost with it.
func reconcile(old, new Record) Record {
	merged := old
	if new.EventTime.After(old.EventTime) {
		merged.State, merged.EventTime, merged.Functions = new.State, new.EventTime, new.Functions
	}
	if new.Obtained.After(old.Obtained) {
		merged.Token, merged.Obtained, merged.Expires = new.Token, new.Obtained, new.Expires
		merged.Refresh = new.Refresh
	}
	if old.Code == nil || new.Code != nil && new.CodeExpires.After(old.CodeExpires) {
		merged.Code, merged.CodeExpires = new.Code, new.CodeExpires
	}
	return merged
}

// Ticket is a component_verify_ticket. A component_access_token can only be
// requested with it. WeChat pushes one every ten minutes, and each is valid for
// twelve hours
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/component_verify_ticket.html).
type Ticket struct {
	Value      secret.Secret
	CreateTime time.Time // by WeChat's clock; decides which ticket is newer
	Received   time.Time // when the push arrived, by the clock of that node
	Asked      time.Time // when a node called api_start_push_ticket last
}

// MergeTicket returns the ticket to store if a writer has new while old is
// stored. A new ticket replaces the old one only if its CreateTime is later:
// WeChat repeats pushes, and somebody could send an old push again. Of the two
// Asked the later one is kept. A node that has asked for a ticket stores a
// Ticket in which only Asked is set; it does not replace the value.
func MergeTicket(old, new Ticket) Ticket {
	merged := old
	if new.Value != nil && (old.Value == nil || new.CreateTime.After(old.CreateTime)) {
		merged = new
	}
	merged.Asked = old.Asked
	if new.Asked.After(old.Asked) {
		merged.Asked = new.Asked
	}
	return merged
}
