// SPDX-License-Identifier: Apache-2.0

// Package pushlog remembers the last pushes of WeChat as facts, without what is in
// them: no openid, no names of accounts and followers, no text.
//
// Entry point: [Log].
package pushlog

import (
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

const (
	// maxGenuine and maxRefused are how many pushes are remembered. Anybody can send
	// pushes that are refused, so these have a place of their own.
	maxGenuine = 1000
	maxRefused = 200
	// maxWord is the longest word that is taken out of a push, in characters.
	maxWord = 32
)

// Outcomes of a push. Repeated is an event that was handled before; the other words are
// those of the metric caddy_wechat_pushes_total.
const (
	Acknowledged = "acknowledged"
	Repeated     = "repeated"
	Refused      = "refused"
	Failed       = "failed"
	HungUp       = "hung_up"
	Misdirected  = "misdirected"
)

// Stale is the reason why a push was refused that is too old or comes from the future, by
// the time that WeChat has signed.
const Stale = "timestamp is more than 10 minutes off; is this server's clock right?"

// Push is what is known of one push. Component and AppID of a refused push are what
// the sender claims; there "" means that it names none.
type Push struct {
	Time      time.Time     // of its arrival
	At        string        // events or messages: the URL
	Component string        // whose token it was signed with
	AppID     string        // of the account; "" for what is about the component
	What      string        // InfoType, or MsgType and Event, see Word
	Outcome   string        // one of the words above
	Reason    string        // why it was refused or failed, one of a small number of texts
	Status    int           // of the answer; 0 if WeChat has not waited for it
	Took      time.Duration // until the answer; 0 for a refused push
	Age       time.Duration // at its arrival, by the time that WeChat has signed; 0 for a refused push
	Remote    string        // the address it came from
	Genuine   bool          // it was verified and decrypted
	Previous  bool          // it was, with the previous token or EncodingAESKey
}

// Log has the last pushes, of which the refused ones push no others out. The zero value
// is ready for use. It is safe for concurrent use and waits for nothing.
type Log struct {
	mu      sync.Mutex // guards all below
	genuine ring
	refused ring
}

// Add remembers a push.
func (l *Log) Add(p Push) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.Genuine {
		l.genuine.add(p, maxGenuine)
	} else {
		l.refused.add(p, maxRefused)
	}
}

// Last returns up to n pushes, the newest first.
func (l *Log) Last(n int) []Push {
	l.mu.Lock()
	all := slices.Concat(l.genuine.of, l.refused.of)
	l.mu.Unlock()
	slices.SortStableFunc(all, newestFirst)
	return all[:min(n, len(all))]
}

// Latest returns the last genuine push for a component, the zero Push if there is none,
// and the pushes that were refused after it, the newest first. Pushes that name no
// component count for each.
func (l *Log) Latest(component string) (genuine Push, refusedSince []Push) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.genuine.of {
		if p.Component == component && p.Time.After(genuine.Time) {
			genuine = p
		}
	}
	for _, p := range l.refused.of {
		if (p.Component == component || p.Component == "") && p.Time.After(genuine.Time) {
			refusedSince = append(refusedSince, p)
		}
	}
	slices.SortStableFunc(refusedSince, newestFirst)
	return genuine, refusedSince
}

func newestFirst(a, b Push) int { return b.Time.Compare(a.Time) }

// ring has the last pushes of one kind, in no order.
type ring struct {
	of   []Push
	next int // the place of the oldest, once all places are taken
}

func (r *ring) add(p Push, places int) {
	if len(r.of) < places {
		r.of = append(r.of, p)
		return
	}
	r.of[r.next] = p
	r.next = (r.next + 1) % places
}

// Word returns a text out of a push in a form that can be shown: at most 32 characters,
// all of them printable. It keeps nothing of the push in memory.
func Word(text string) string {
	var word strings.Builder
	n := 0
	for _, c := range text {
		if n == maxWord {
			break
		}
		if unicode.IsPrint(c) && c != unicode.ReplacementChar {
			word.WriteRune(c)
			n++
		}
	}
	return word.String()
}
