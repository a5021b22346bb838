// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	// A call that WeChat rejects although the token is alive is marked: for this
	// long nobody asks about the token because of it. The time doubles with every
	// mark while the same token is in force. A token that dies meanwhile is renewed
	// for this caller when the mark ends, for others at once.
	minMark = 10 * time.Second
	maxMark = 10 * time.Minute
	// maxMarks is for how many paths of one caller and subject there are marks.
	// Beyond that all others count as one path, so that memory is bounded for a
	// caller that tries many paths.
	maxMarks = 64
	// questionInterval is the shortest time between two questions about the tokens of
	// one subject.
	questionInterval = time.Second
	// anonymousInterval is how often calls without a client cause a question: an end
	// user or a stranger has made them.
	anonymousInterval = time.Minute
)

// doubts remembers, for tokens that WeChat has rejected, which calls are rejected
// although the token is alive, and when WeChat was last asked. It is safe for
// concurrent use and waits for nothing.
type doubts struct {
	seed  maphash.Seed
	marks atomic.Int64 // of all subjects; while there are none, an accepted call takes no lock

	mu sync.Mutex // guards all below
	of map[subject.Subject]*subjectDoubts
}

type subjectDoubts struct {
	token     *Token // what stands below is about this one
	suspect   bool   // WeChat does not say that it is alive, and no newer one could be had
	marks     map[markKey]mark
	paths     map[uint64]int // caller → for how many paths there are marks
	asked     time.Time      // when the last question was sent, or will be
	anonymous time.Time      // when a call without a client last caused a question
}

// markKey names the calls of one caller on one path, by hashes: both texts may come
// from a stranger, and may be long. The path 0 stands for all that have no mark of
// their own because there are too many.
type markKey struct{ client, path uint64 }

type mark struct {
	until time.Time
	last  time.Duration
}

func newDoubts() *doubts {
	return &doubts{seed: maphash.MakeSeed(), of: make(map[subject.Subject]*subjectDoubts)}
}

// at returns the doubts about who, which it makes if there are none. The caller
// holds mu.
func (d *doubts) at(who subject.Subject) *subjectDoubts {
	if d.of[who] == nil {
		d.of[who] = new(subjectDoubts)
	}
	return d.of[who]
}

// about returns the doubts about who, without what is noted of another token. The
// caller holds mu.
func (d *doubts) about(who subject.Subject, token *Token) *subjectDoubts {
	s := d.at(who)
	if s.token == nil || !s.token.Value.Equal(token.Value) {
		d.clear(s)
		s.token = token
	}
	return s
}

// clear drops what is noted of the token of one subject. The caller holds mu.
func (d *doubts) clear(s *subjectDoubts) {
	d.marks.Add(-int64(len(s.marks)))
	s.token, s.suspect, s.marks, s.paths = nil, false, make(map[markKey]mark), make(map[uint64]int)
}

// keyOf returns the key under which a call is marked, or would be.
func (d *doubts) keyOf(s *subjectDoubts, c Caller) markKey {
	key := markKey{maphash.String(d.seed, c.Client), maphash.String(d.seed, c.Path)}
	if _, marked := s.marks[key]; !marked && s.paths[key.client] >= maxMarks {
		key.path = 0
	}
	return key
}

// Marked reports whether the calls of c on its path are known to be rejected
// although token is alive.
func (d *doubts) Marked(who subject.Subject, token *Token, c Caller, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.known(who, token)
	return s != nil && now.Before(s.marks[d.keyOf(s, c)].until)
}

// known returns the doubts about who if they are about this token, else nil. The caller
// holds mu.
func (d *doubts) known(who subject.Subject, token *Token) *subjectDoubts {
	if s := d.of[who]; s != nil && s.token != nil && s.token.Value.Equal(token.Value) {
		return s
	}
	return nil
}

// Suspect notes whether WeChat, asked about a token, does not say that it is alive
// while no newer one can be had.
func (d *doubts) Suspect(who subject.Subject, token *Token, suspect bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if suspect {
		d.about(who, token).suspect = true
	} else if s := d.known(who, token); s != nil {
		s.suspect = false
	}
}

// IsSuspect reports what Suspect has noted last of the token.
func (d *doubts) IsSuspect(who subject.Subject, token *Token) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.known(who, token)
	return s != nil && s.suspect
}

// Mark notes that a call of c was rejected although token is alive, and returns for
// how long nobody asks again because of such calls; 0 if that was noted already, by
// another call that has waited for the same answer.
func (d *doubts) Mark(who subject.Subject, token *Token, c Caller, now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.about(who, token)
	key := d.keyOf(s, c)
	m, marked := s.marks[key]
	if now.Before(m.until) {
		return 0
	}
	if !marked {
		d.marks.Add(1)
		if key.path != 0 {
			s.paths[key.client]++
		}
	}
	m.last = min(max(minMark, 2*m.last), maxMark)
	m.until = now.Add(m.last)
	s.marks[key] = m
	return m.last
}

// Accepted removes the mark of a call that WeChat has accepted. It is called for
// every accepted call; while nothing is marked it costs one look.
func (d *doubts) Accepted(who subject.Subject, token *Token, c Caller) {
	if d.marks.Load() == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.known(who, token)
	if s == nil {
		return
	}
	key := d.keyOf(s, c)
	if _, marked := s.marks[key]; !marked {
		return
	}
	delete(s.marks, key)
	d.marks.Add(-1)
	if key.path != 0 {
		if s.paths[key.client]--; s.paths[key.client] == 0 {
			delete(s.paths, key.client)
		}
	}
}

// ReserveQuestion returns how long to wait before the next question about who. The
// caller asks then.
func (d *doubts) ReserveQuestion(who subject.Subject, now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.at(who)
	wait := max(0, questionInterval-now.Sub(s.asked))
	s.asked = now.Add(wait)
	return wait
}

// AnonymousIsDue reports whether a call without a client may cause a question about
// who, and notes that it does.
func (d *doubts) AnonymousIsDue(who subject.Subject, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return isDue(&d.at(who).anonymous, anonymousInterval, now)
}

// Sweep forgets the marks of tokens that have expired, and subjects about which
// nothing is known any more.
func (d *doubts) Sweep(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for who, s := range d.of {
		if s.token != nil && !now.Before(s.token.Expires) {
			d.clear(s)
		}
		if len(s.marks) == 0 && !s.suspect && now.Sub(s.asked) > questionInterval && now.Sub(s.anonymous) > anonymousInterval {
			delete(d.of, who)
		}
	}
}
