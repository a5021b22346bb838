// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	coolDownFirst = time.Second
	coolDownMost  = time.Minute
	// negativeFor is how long "not authorized" is believed without asking again.
	negativeFor = time.Minute
	// forcedMost is how many renewals an hour one subject may be forced to by
	// rejected tokens. More means that somebody else renews them as well.
	forcedMost = 12
	// inVainMost and inVainEvery ration the questions about appids that turn
	// out to be unknown, so that trying appids cannot spend WeChat's quota.
	inVainMost  = 60
	inVainEvery = time.Second
)

// troubles remembers what went wrong with which subject: pauses after
// failures, rejected tokens, and how often renewals were forced.
type troubles struct {
	mu     sync.Mutex
	of     map[subject.Subject]*trouble
	inVain map[string]*rate.Limiter // component → questions about unknown appids
}

type trouble struct {
	failures int
	until    time.Time     // no attempt before
	err      error         // the answer meanwhile
	refused  secret.Secret // the token WeChat rejected last
	forced   []time.Time   // renewals forced within the last hour
}

func newTroubles() *troubles {
	return &troubles{of: make(map[subject.Subject]*trouble), inVain: make(map[string]*rate.Limiter)}
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
	news = trouble.err == nil || trouble.err.Error() != publicOf(who, err).Error()
	pause = jitter(min(coolDownFirst<<min(trouble.failures, 6), coolDownMost))
	if errors.Is(err, ErrUnauthorized) || errors.Is(err, ErrNeedsAdmin) {
		pause = negativeFor
	}
	trouble.failures++
	trouble.until, trouble.err = now.Add(pause), publicOf(who, err)
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

// refuse notes the token of who that WeChat has rejected.
func (t *troubles) refuse(who subject.Subject, token secret.Secret) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at(who).refused = token
}

// isRefused reports whether WeChat has rejected this token of who.
func (t *troubles) isRefused(who subject.Subject, token secret.Secret) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	trouble := t.of[who]
	return trouble != nil && trouble.refused != nil && trouble.refused.Equal(token)
}

// force counts a renewal of a rejected token; ErrContended when that happened
// too often within the hour.
func (t *troubles) force(who subject.Subject, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	trouble := t.at(who)
	trouble.forget(now)
	if len(trouble.forced) >= forcedMost {
		return ErrContended
	}
	trouble.forced = append(trouble.forced, now)
	return nil
}

func (t *trouble) forget(now time.Time) {
	for len(t.forced) > 0 && now.Sub(t.forced[0]) >= time.Hour {
		t.forced = t.forced[1:]
	}
}

// mayAsk reports whether the component may ask WeChat about one more appid
// that is not known here.
func (t *troubles) mayAsk(component string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rationOf(component).TokensAt(now) >= 1
}

// askedInVain spends one of the rationed questions.
func (t *troubles) askedInVain(component string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rationOf(component).AllowN(now, 1)
}

func (t *troubles) rationOf(component string) *rate.Limiter {
	if t.inVain[component] == nil {
		t.inVain[component] = rate.NewLimiter(rate.Every(inVainEvery), inVainMost)
	}
	return t.inVain[component]
}

// sweep forgets what has healed, so that memory is bounded by the subjects in
// trouble.
func (t *troubles) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for who, trouble := range t.of {
		trouble.forget(now)
		if len(trouble.forced) == 0 && now.After(trouble.until.Add(coolDownMost)) {
			delete(t.of, who)
		}
	}
}

// jitter spreads d by a quarter either way.
func jitter(d time.Duration) time.Duration {
	return d - d/4 + rand.N(d/2+1)
}
