// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	coolDownFirst = time.Second
	coolDownMost  = time.Minute
	// negativeFor is how long "not authorized" is believed without asking again.
	negativeFor = time.Minute
	// forcedAtOnce is how many renewals one subject may be forced to by rejected
	// tokens one after another. More means that somebody else renews them as well.
	// From then on one is tried every forcedEvery, 12 an hour in all: it may as
	// well have been WeChat that rejected good tokens for a minute.
	forcedAtOnce = 9
	forcedEvery  = 15 * time.Minute
	// inVainMost and inVainEvery ration the questions about appids that turn
	// out to be unknown, so that trying appids cannot spend WeChat's quota.
	inVainMost  = 60
	inVainEvery = time.Second
	// askingMost is how many questions about unknown appids are open at a time:
	// of so many it is not yet known whether they are in vain.
	askingMost = 10
	// doubtEvery is how often "not authorized" on a call is looked into.
	doubtEvery = 10 * time.Minute
)

// troubles remembers what went wrong with which subject: pauses after
// failures, rejected tokens, and how often renewals were forced.
type troubles struct {
	mu      sync.Mutex
	of      map[subject.Subject]*trouble
	rations map[string]*ration // component → questions about unknown appids
}

// ration bounds the questions of one component about unknown appids.
type ration struct {
	inVain *rate.Limiter
	asking chan struct{} // holds an element per open question
	news   rate.Sometimes
}

type trouble struct {
	failures int
	until    time.Time   // no attempt before
	err      error       // the answer meanwhile
	refused  []*Token    // rejected by WeChat, until they expire
	forced   []time.Time // renewals forced within the last hour
	reported time.Time   // when it was last said that the record does not open
	doubted  time.Time   // when it was last looked whether who still stands
}

func newTroubles() *troubles {
	return &troubles{of: make(map[subject.Subject]*trouble), rations: make(map[string]*ration)}
}

func (t *troubles) at(who subject.Subject) *trouble {
	if t.of[who] == nil {
		t.of[who] = new(trouble)
	}
	return t.of[who]
}

// pause returns the error of the last attempt while who is cooling down.
func (t *troubles) pause(who subject.Subject, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if trouble := t.of[who]; trouble != nil && now.Before(trouble.until) {
		return trouble.err
	}
	return nil
}

// note records a failed attempt. It returns how long no other is made, and
// whether the failure is news: the first, or of another kind than the last.
func (t *troubles) note(who subject.Subject, err error, now time.Time) (pause time.Duration, news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	trouble := t.at(who)
	public := publicOf(who, err)
	// Of the texts, the public one alone is the same every time: others hold
	// the id of the call or the port of the connection.
	news = trouble.err == nil || problem.Of(trouble.err).Text != problem.Of(public).Text
	pause = jitter(min(coolDownFirst<<min(trouble.failures, 6), coolDownMost))
	switch {
	case errors.Is(err, problem.ErrUnauthorized), errors.Is(err, problem.ErrNeedsAdmin):
		pause = negativeFor
	case errors.Is(err, problem.ErrNoTicket): // WeChat was not asked, and the next push may come to another node
		pause = coolDownFirst
	}
	trouble.failures++
	trouble.until, trouble.err = now.Add(pause), public
	return pause, news
}

// heal ends the pause of who: a renewal succeeded, or there is new hope.
func (t *troubles) heal(who subject.Subject) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if trouble := t.of[who]; trouble != nil {
		trouble.failures, trouble.until, trouble.err = 0, time.Time{}, nil
	}
}

// unreadable reports whether it is time to say that the record of who does not
// open: once an hour, as long as it is not rebuilt.
func (t *troubles) unreadable(who subject.Subject, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	trouble := t.at(who)
	if now.Sub(trouble.reported) < time.Hour {
		return false
	}
	trouble.reported = now
	return true
}

// doubt reports whether it is time to look whether who still stands.
func (t *troubles) doubt(who subject.Subject, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	trouble := t.at(who)
	if now.Sub(trouble.doubted) < doubtEvery {
		return false
	}
	trouble.doubted = now
	return true
}

// refuse notes a token of who that WeChat has rejected. More than one is kept:
// callers may come late with the token before the last.
func (t *troubles) refuse(who subject.Subject, token *Token, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	trouble := t.at(who)
	trouble.forget(now)
	if !trouble.refuses(token.Value) {
		trouble.refused = append(trouble.refused, token)
	}
}

// isRefused reports whether WeChat has rejected this token of who.
func (t *troubles) isRefused(who subject.Subject, token secret.Secret) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	trouble := t.of[who]
	return trouble != nil && trouble.refuses(token)
}

func (t *trouble) refuses(token secret.Secret) bool {
	return slices.ContainsFunc(t.refused, func(refused *Token) bool { return refused.Value.Equal(token) })
}

// contended reports whether rejected tokens of who were renewed too often
// within the hour to go on.
func (t *troubles) contended(who subject.Subject, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	trouble := t.at(who)
	trouble.forget(now)
	n := len(trouble.forced)
	return n >= forcedAtOnce && now.Sub(trouble.forced[n-1]) < forcedEvery
}

// force counts a renewal of a rejected token. Attempts that fail do not count:
// they say nothing about others who use the same credentials.
func (t *troubles) force(who subject.Subject, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	trouble := t.at(who)
	trouble.forced = append(trouble.forced, now)
}

func (t *trouble) forget(now time.Time) {
	t.forced = slices.DeleteFunc(t.forced, func(at time.Time) bool { return now.Sub(at) >= time.Hour })
	t.refused = slices.DeleteFunc(t.refused, func(token *Token) bool { return !now.Before(token.Expires) })
}

// rationOf returns the ration of the component.
func (t *troubles) rationOf(component string) *ration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rations[component] == nil {
		t.rations[component] = &ration{
			inVain: rate.NewLimiter(rate.Every(inVainEvery), inVainMost),
			asking: make(chan struct{}, askingMost),
			news:   rate.Sometimes{Interval: time.Minute},
		}
	}
	return t.rations[component]
}

// ask asks a question about an unknown appid, if that may be: not while too
// many were in vain. It waits until not too many are open. question
// reports whether the answer was that there is no such authorizer.
func (r *ration) ask(ctx context.Context, question func() (inVain bool)) error {
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if r.inVain.Tokens() < 1 {
		return problem.ErrRationed
	}
	if question() {
		r.inVain.Allow()
	}
	return nil
}

// sweep forgets what has healed, so that memory is bounded by the subjects in
// trouble.
func (t *troubles) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for who, trouble := range t.of {
		trouble.forget(now)
		if len(trouble.forced)+len(trouble.refused) == 0 &&
			now.After(trouble.until.Add(coolDownMost)) && now.After(trouble.reported.Add(time.Hour)) &&
			now.After(trouble.doubted.Add(doubtEvery)) {
			delete(t.of, who)
		}
	}
}

// jitter spreads d by a quarter either way.
func jitter(d time.Duration) time.Duration {
	return d - d/4 + rand.N(d/2+1)
}
