// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// equalSecrets lets cmp compare records by what their secrets say.
var equalSecrets = cmp.Comparer(func(a, b secret.Secret) bool { return a.Reveal() == b.Reveal() })

// at is a moment, in minutes after an arbitrary one.
func at(minute int) time.Time {
	return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).Add(time.Duration(minute) * time.Minute)
}

// edit returns r with changes.
func edit(r vault.Record, change func(*vault.Record)) vault.Record {
	change(&r)
	return r
}

// base is an authorised account's record.
var base = vault.Record{
	Generation: 5,
	Token:      secret.New("token"), Obtained: at(0), Expires: at(120),
	Refresh:   secret.New("refresh"),
	EventTime: at(-10),
	Functions: []int{1, 2},
}

// withdrawn is the tombstone made of base by an event.
// told is a record with what applications have been told in it, or are to be.
func told(r vault.Record) vault.Record {
	r.Trouble, r.TroubleSince, r.Met = vault.NeedsAuthorization, at(1), at(2)
	return r
}

var withdrawn = vault.Record{Generation: 5, State: vault.Unauthorized, EventTime: at(5), Functions: []int{1, 2}}

// renewed is what a writer at the given generation makes of base.
func renewed(generation uint64, minute int) vault.Record {
	return edit(base, func(r *vault.Record) {
		r.Generation = generation
		r.Token, r.Obtained, r.Expires = secret.New("renewed"), at(minute), at(minute+120)
		r.Refresh = secret.New("rotated")
	})
}

func generation(n uint64, r vault.Record) vault.Record {
	r.Generation = n
	return r
}

// TestMerge is the specification of what may replace what.
func TestMerge(t *testing.T) {
	withCode := func(r vault.Record, code string, expires int) vault.Record {
		return edit(r, func(r *vault.Record) { r.Code, r.CodeExpires = secret.New(code), at(expires) })
	}
	for name, test := range map[string]struct{ old, new, want vault.Record }{
		// The writer has seen what stands.
		"the first record begins at generation 1":                  {vault.Record{}, generation(0, base), generation(1, base)},
		"a renewal replaces the token and raises the generation":   {base, renewed(5, 60), renewed(6, 60)},
		"a clock that is behind does not matter to who has seen":   {base, renewed(5, -60), renewed(6, -60)},
		"after an emptied storage memory wins":                     {vault.Record{}, renewed(7, 60), renewed(8, 60)},
		"after a restored backup memory wins":                      {base, renewed(9, 60), renewed(10, 60)},
		"no refresh token does not replace one":                    {base, edit(renewed(5, 60), func(r *vault.Record) { r.Refresh = nil }), edit(renewed(6, 60), func(r *vault.Record) { r.Refresh = secret.New("refresh") })},
		"a tombstone drops the tokens":                             {base, edit(base, func(r *vault.Record) { r.State, r.EventTime = vault.Unauthorized, at(5) }), generation(6, withdrawn)},
		"of a tombstone nothing is left to be told":                {told(base), edit(told(base), func(r *vault.Record) { r.State, r.EventTime = vault.Unauthorized, at(5) }), generation(6, withdrawn)},
		"unseen, what applications were told stays":                {told(renewed(6, 60)), renewed(5, 90), told(renewed(7, 90))},
		"an event revives a tombstone, with its code":              {withdrawn, withCode(edit(withdrawn, func(r *vault.Record) { r.State, r.EventTime = vault.Authorized, at(7) }), "c", 60), withCode(vault.Record{Generation: 6, EventTime: at(7), Functions: []int{1, 2}}, "c", 60)},
		"the tokens from before a tombstone stay dead":             {withdrawn, edit(withdrawn, func(r *vault.Record) { r.State = vault.Authorized }), vault.Record{Generation: 6, EventTime: at(5), Functions: []int{1, 2}}},
		"an exchanged code is removed":                             {withCode(base, "c", 60), renewed(5, 60), renewed(6, 60)},
		"the event time never goes back":                           {base, edit(renewed(5, 60), func(r *vault.Record) { r.EventTime = time.Time{} }), renewed(6, 60)},
		"a code waits in a tombstone, too, for the caller's order": {base, withCode(edit(base, func(r *vault.Record) { r.State = vault.Unauthorized }), "c", 60), withCode(vault.Record{Generation: 6, State: vault.Unauthorized, EventTime: at(-10), Functions: []int{1, 2}}, "c", 60)},

		// The writer has not seen what stands: its lock was lost, or it comes late.
		"unseen, an older token does not replace a newer":          {renewed(6, 60), renewed(5, 30), renewed(7, 60)},
		"unseen, a newer token does replace an older":              {renewed(6, 30), renewed(5, 60), renewed(7, 60)},
		"unseen, the same time leaves what stands":                 {renewed(6, 60), edit(renewed(5, 60), func(r *vault.Record) { r.Token = secret.New("other") }), renewed(7, 60)},
		"unseen, a newer token without refresh token keeps it":     {renewed(6, 30), edit(renewed(5, 60), func(r *vault.Record) { r.Refresh = nil }), renewed(7, 60)},
		"unseen, a renewal does not undo a withdrawal":             {generation(6, withdrawn), renewed(5, 60), generation(7, withdrawn)},
		"unseen, a newer withdrawal undoes a renewal":              {renewed(6, 60), withdrawn, generation(7, withdrawn)},
		"unseen, an older withdrawal does not":                     {edit(renewed(6, 60), func(r *vault.Record) { r.EventTime = at(7) }), withdrawn, edit(renewed(7, 60), func(r *vault.Record) { r.EventTime = at(7) })},
		"unseen, a withdrawal without event does not":              {renewed(6, 60), edit(base, func(r *vault.Record) { r.State = vault.Unauthorized }), renewed(7, 60)},
		"unseen, a newer event brings its permissions":             {renewed(6, 60), edit(base, func(r *vault.Record) { r.EventTime, r.Functions = at(5), []int{3} }), edit(renewed(7, 60), func(r *vault.Record) { r.EventTime, r.Functions = at(5), []int{3} })},
		"unseen, a code is not lost by a renewal":                  {withCode(generation(6, base), "c", 60), renewed(5, 60), withCode(renewed(7, 60), "c", 60)},
		"unseen, a code is added to a renewal":                     {renewed(6, 60), withCode(base, "c", 60), withCode(renewed(7, 60), "c", 60)},
		"unseen, a code of unknown end is added, too":              {renewed(6, 60), edit(base, func(r *vault.Record) { r.Code = secret.New("c") }), edit(renewed(7, 60), func(r *vault.Record) { r.Code = secret.New("c") })},
		"unseen, of two codes the one that lives longer is kept":   {withCode(renewed(6, 60), "c", 60), withCode(base, "d", 61), withCode(renewed(7, 60), "d", 61)},
		"unseen, of two codes the one that ends sooner is dropped": {withCode(renewed(6, 60), "c", 60), withCode(base, "d", 59), withCode(renewed(7, 60), "c", 60)},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, vault.Merge(test.old, test.new), equalSecrets); diff != "" {
				t.Errorf("merged (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMergeTicket(t *testing.T) {
	ticket := func(value string, created, received, asked int) vault.Ticket {
		t := vault.Ticket{Value: secret.New(value), CreateTime: at(created), Received: at(received)}
		if asked != 0 {
			t.Asked = at(asked)
		}
		return t
	}
	asked := vault.Ticket{Asked: at(30)}
	for name, test := range map[string]struct{ old, new, want vault.Ticket }{
		"the first is stored":                       {vault.Ticket{}, ticket("a", 10, 11, 0), ticket("a", 10, 11, 0)},
		"a newer one replaces":                      {ticket("a", 10, 11, 0), ticket("b", 20, 21, 0), ticket("b", 20, 21, 0)},
		"an older one, received later, does not":    {ticket("b", 20, 21, 0), ticket("a", 10, 22, 0), ticket("b", 20, 21, 0)},
		"one of the same CreateTime does not":       {ticket("b", 20, 21, 0), ticket("b", 20, 25, 0), ticket("b", 20, 21, 0)},
		"nothing replaces no ticket, however new":   {ticket("a", 10, 11, 0), ticket("", 20, 21, 0), ticket("a", 10, 11, 0)},
		"asking leaves the ticket":                  {ticket("a", 10, 11, 0), asked, ticket("a", 10, 11, 30)},
		"asking before the first ticket is noted":   {vault.Ticket{}, asked, asked},
		"the ticket that was asked for leaves note": {asked, ticket("a", 10, 11, 0), ticket("a", 10, 11, 30)},
		"the later question counts":                 {ticket("a", 10, 11, 40), asked, ticket("a", 10, 11, 40)},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, vault.MergeTicket(test.old, test.new), equalSecrets); diff != "" {
				t.Errorf("merged (-want +got):\n%s", diff)
			}
		})
	}
}
