// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// State says whether an authorizer stands under the component.
type State uint8

const (
	// Authorized is the normal state, and that of every component.
	Authorized State = iota
	// Unauthorized marks a tombstone: the account has withdrawn. The record
	// stays, without tokens, so that an older event cannot revive it.
	Unauthorized
)

// Record is what is known of a component's access token, or of an authorizer.
type Record struct {
	// Generation counts the writes of this record, from 1. Only Merge raises
	// it; 0 means that there was no record.
	Generation uint64

	// Token is the access token; Obtained, Expires are when WeChat gave the
	// credentials in this record and when the token ends.
	Token             secret.Secret
	Obtained, Expires time.Time

	// Refresh is the authorizer_refresh_token; components have none.
	Refresh secret.Secret

	State State

	// EventTime is the CreateTime of the newest authorisation event applied,
	// zero if none was.
	EventTime time.Time

	// Code is an authorization_code that was pushed and is not yet exchanged;
	// it is stored before the push is acknowledged.
	Code        secret.Secret
	CodeExpires time.Time

	// Functions are the ids of the permission sets granted (func_info).
	Functions []int
}

// Merge decides what stands after a writer brings new to where old stands. The
// zero Record means that nothing stands.
//
// Generations tell whether the writer has seen old. If so, new replaces it: it
// is old with a change, and clocks have no say, since those of two nodes differ
// by more than the time between two forced renewals. If not, the lock was lost
// or the write comes late, and each part is decided by the times WeChat or the
// nodes gave it, see reconcile.
//
// In both cases a refresh token is not replaced by none, except that a
// tombstone has no tokens; the event time never goes back; the generation
// increases.
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
	}
	merged.Generation = max(old.Generation, new.Generation) + 1
	return merged
}

// reconcile merges two records of which neither writer saw the other's. The
// later event decides about state and permissions, the later exchange with
// WeChat about the tokens; on a tie, what stands remains. A code of either is
// kept: one that is tried twice costs a refusal, one that is lost costs the
// authorisation.
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

// Ticket is a component_verify_ticket. WeChat pushes one every ten minutes,
// and each is valid for twelve hours
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/component_verify_ticket.html).
type Ticket struct {
	Value      secret.Secret
	CreateTime time.Time // given by WeChat: decides which ticket is newer
	Received   time.Time // when the push arrived
	Asked      time.Time // when any node last called api_start_push_ticket
}

// MergeTicket decides what stands after new is brought to where old stands. A
// ticket with a CreateTime that is older or the same does not replace the one
// that stands, for WeChat repeats its pushes; the later Asked remains in any
// case. A node that has merely asked stores a Ticket with Asked alone.
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
