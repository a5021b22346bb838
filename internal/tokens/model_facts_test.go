// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"slices"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// facts is what is known of the world.
type facts struct {
	starts       int
	locks        map[string]*lease // name → who holds it
	lockLost     time.Time         // when a lock was last taken away
	noteLost     time.Time         // when a ticket was last stored without the note of the last
	damaged      time.Time         // when something in the storage was last damaged
	troubled     time.Time         // when something last went wrong, or was about to
	woken        time.Time         // when api_start_push_ticket was last called
	stood        map[string]vault.Record
	ticketStood  vault.Ticket // the one that is stored
	ticketSince  time.Time
	loose        map[string]time.Time // record → until when it may go back: it was written without its lock
	storedSince  map[string]time.Time // token → when it was first stored
	issues       map[subject.Subject][]issue
	unkept       map[subject.Subject]*wireCall // the last renewal, until something is stored
	refreshOf    map[string]string             // token → refresh token that came with it
	codes        map[string]codeFact
	refreshSince map[subject.Subject]time.Time // since when WeChat has had a refresh token
	changed      map[subject.Subject]time.Time // when its admin last did anything
	withdrawn    map[subject.Subject]withdrawal
}

// issue is a token that WeChat has issued.
type issue struct {
	value string
	at    time.Time
}

// codeFact is what is known of an authorization_code.
type codeFact struct {
	who   subject.Subject
	at    time.Time
	asked bool // some process has tried to exchange it
}

func newFacts() facts {
	return facts{locks: map[string]*lease{}, stood: map[string]vault.Record{}, loose: map[string]time.Time{},
		storedSince: map[string]time.Time{}, issues: map[subject.Subject][]issue{}, codes: map[string]codeFact{},
		refreshOf: map[string]string{}, unkept: map[subject.Subject]*wireCall{},
		refreshSince: map[subject.Subject]time.Time{}, changed: map[subject.Subject]time.Time{},
		withdrawn: map[subject.Subject]withdrawal{}}
}

// memory is what one process was told.
type memory struct {
	believes    map[string]*lease
	unproven    map[string]time.Time // token → when WeChat, asked, last did not say that it is alive
	questioned  map[subject.Subject]time.Time
	revoked     map[string]bool // tokens of accounts that have withdrawn
	spent       map[string]int  // code → how often WeChat has said that it is spent
	handed      map[subject.Subject][]*Token
	since       map[subject.Subject]time.Time // when it was first asked for a token though the one at hand was due
	doubted     map[subject.Subject]time.Time
	doubtUsed   map[subject.Subject]time.Time
	withdrawn   map[subject.Subject]withdrawal
	asks        map[string][]time.Time // path and subject → within the last minute
	hopes       map[subject.Subject][]time.Time
	forced      map[subject.Subject][]time.Time // renewals of rejected tokens
	storeFailed time.Time
	used        time.Time // since when uses are counted
	uses        int       // of the storage, within a minute
}

// withdrawal is an unauthorized event that a process has acknowledged.
type withdrawal struct{ event, acknowledged time.Time }

func newMemory() memory {
	return memory{believes: map[string]*lease{}, unproven: map[string]time.Time{}, revoked: map[string]bool{},
		questioned: map[subject.Subject]time.Time{}, spent: map[string]int{},
		handed: map[subject.Subject][]*Token{}, since: map[subject.Subject]time.Time{},
		doubted: map[subject.Subject]time.Time{}, doubtUsed: map[subject.Subject]time.Time{},
		withdrawn: map[subject.Subject]withdrawal{}, asks: map[string][]time.Time{},
		hopes: map[subject.Subject][]time.Time{}, forced: map[subject.Subject][]time.Time{}}
}

func (m *model) issuedAt(who subject.Subject, value string) time.Time {
	for _, issue := range m.issues[who] {
		if issue.value == value {
			return issue.at
		}
	}
	return time.Time{}
}

// replaced is when WeChat issued the next token, zero if it has not.
func (m *model) replaced(who subject.Subject, token *Token) time.Time {
	issues := m.issues[who]
	at := slices.IndexFunc(issues, func(i issue) bool { return i.value == token.Value.Reveal() })
	if at < 0 || at+1 == len(issues) {
		return time.Time{}
	}
	return issues[at+1].at
}
