// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync"
	"time"
)

// condition is something that was the case for a while, by our doing.
type condition struct {
	kind  kind
	node  int    // where kind is about a gateway
	appid string // where kind is about an account or the component
}

type kind string

const (
	// down: the gateway was killed and does not serve again yet.
	down kind = "a gateway was killed"
	// reloaded: the gateway loads a configuration. This explains nothing but a
	// call that was sent on a kept-alive connection in the moment when that was
	// closed, see judge.go.
	reloaded kind = "a reload closed its idle connection"
	// noStorage: storage is out of reach.
	noStorage kind = "storage was out of reach"
	// dying: tokens of the account or the component were killed, expired or
	// replaced at WeChat.
	dying kind = "its token died again on the way"
	// away: the account has withdrawn, or has come back so recently that not
	// every gateway can know it.
	away kind = "the account had withdrawn"
	// cooling: what the gateway last asked WeChat about the account or the
	// component was struck by a fault, and by its rules it does not ask again yet.
	cooling kind = "WeChat gave no token"
	// struck: WeChat did not answer the call itself as it should.
	struck kind = "WeChat did not answer properly"
)

// span is a stretch of time. It has not ended while to is zero.
type span struct{ from, to time.Time }

// record is all that is known of the run, for the judge.
type record struct {
	mu       sync.Mutex
	spans    map[condition][]*span // in the order in which they began
	failed   map[condition]int     // cooling → failures in a row
	calls    map[uint64]seen       // id of a call → what WeChat saw of it
	given    map[string]time.Time  // appid → when WeChat last gave a token for it
	deeds    map[string]int        // what was done → how often
	problems []string              // what must not happen and is no failed call

	authorizerTokens, componentTokens, recoveries int
}

// seen is what WeChat saw of one call of an application.
type seen struct {
	arrived uint8 // how often
	refused uint8 // how often the answer was that the token is not valid
	struck  bool  // a fault spoilt an answer
}

// healed reports whether the call came once more because its token was refused.
func (s seen) healed() bool { return s.arrived == 2 && s.refused > 0 }

// tooOften reports whether the call came again for any other reason: nothing
// else may ever be sent twice.
func (s seen) tooOften() bool { return s.arrived > 1 && !s.healed() }

func newRecord() *record {
	return &record{
		spans:  make(map[condition][]*span),
		failed: make(map[condition]int),
		calls:  make(map[uint64]seen),
		given:  make(map[string]time.Time),
		deeds:  make(map[string]int),
	}
}

// begin notes that c is the case from now on, until end is called. What began
// under it may come to its end for a while afterwards; end is told how long.
func (r *record) begin(c condition) (end func(after time.Duration)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &span{from: time.Now()}
	r.spans[c] = append(r.spans[c], s)
	return func(after time.Duration) {
		r.mu.Lock()
		defer r.mu.Unlock()
		s.to = time.Now().Add(after)
	}
}

// held reports whether c was the case at any time from from to to.
func (r *record) held(c condition, from, to time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans[c] {
		if !to.Before(s.from) && (s.to.IsZero() || !from.After(s.to)) {
			return true
		}
	}
	return false
}

// fail notes that a question of a gateway's, asked at the time given, was struck:
// about an account, or for a component token. By its rules the gateway now
// pauses, 1 s after the first failure and twice as long after each further one,
// up to a minute, a quarter more by chance. Who waited for the answer may have
// been told before this is noted.
func (r *record) fail(node int, appid string, asked time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := condition{cooling, node, appid}
	pause := min(time.Second<<min(r.failed[c], 6), time.Minute) * 5 / 4
	r.failed[c]++
	r.spans[c] = append(r.spans[c], &span{asked, time.Now().Add(pause)})
}

// succeed ends the pause: the gateway has got a token. The caller holds mu.
func (r *record) succeed(c condition, now time.Time) {
	r.failed[c] = 0
	if spans := r.spans[c]; len(spans) > 0 && spans[len(spans)-1].to.After(now) {
		spans[len(spans)-1].to = now
	}
}

// did counts something that was done to the gateways.
func (r *record) did(deed string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deeds[deed]++
}

// problem notes what must not happen.
func (r *record) problem(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, text)
}

// givenSince reports whether WeChat has given a token of the account to any
// gateway since at.
func (r *record) givenSince(appid string, at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.given[appid].After(at)
}

// arrive notes that an application's call has reached WeChat.
func (r *record) arrive(id uint64) {
	r.see(id, func(call *seen) { call.arrived++ })
}

// answered notes what WeChat answered to an application's call. Where an answer
// is cut in half, the call may have arrived once more before this is noted.
func (r *record) answered(id uint64, struck, refused bool) {
	r.see(id, func(call *seen) {
		call.struck = call.struck || struck
		if refused {
			call.refused++
		}
	})
}

func (r *record) see(id uint64, change func(*seen)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	call := r.calls[id]
	change(&call)
	r.calls[id] = call
}
