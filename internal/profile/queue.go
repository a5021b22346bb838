// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// WeChat is asked about maxAtOnce accounts of a component at once, then about one in
	// askInterval, by each node: WeChat counts the questions by the day.
	maxAtOnce   = 10
	askInterval = time.Second
	// Of accounts without a record that are only pushed to, WeChat is asked about
	// maxStrangers at once, then about one in strangerInterval.
	maxStrangers     = 10
	strangerInterval = time.Minute
	// maxWaiting is how many accounts that are merely used wait for their turn. The
	// others are remembered when they are used again.
	maxWaiting = 10_000
	// maxFailures is how often something is tried for an account, and maxBefore how many
	// others have their turn before it is tried again.
	maxFailures, maxBefore = 20, 60
	// After failures in a row nothing is tried for a component for minPause, and twice
	// as long with each further one up to maxPause.
	minPause = time.Second
	maxPause = 10 * time.Minute
	// tellInterval is how often answers to others' questions are taken.
	tellInterval = time.Hour
)

// task is what is to be done for one account.
type task struct {
	// since is from when on a profile must be; zero if the account is merely used, so that
	// any will do that is not too old.
	since time.Time
	// found is what WeChat has told; nil if it has to be asked.
	found *vault.Profile
	// urgent tasks come first: the account has just authorised, or WeChat's answer is
	// there. One that has failed is not urgent any more.
	urgent   bool
	failures int
}

// queue has the accounts of a component of which something is to be learnt. One goroutine
// works them off while there are any. Profiles.mu guards it, but for urgent and
// the limiters.
type queue struct {
	order   []subject.Subject // those of tasks, the next one first
	tasks   map[subject.Subject]task
	asking  subject.Subject // about whom WeChat is being asked
	running bool
	urgent  chan struct{} // capacity 1: an urgent task has come

	limiter, strangers *rate.Limiter
}

// Used implements [tokens.Profiles]: accounts of which nothing is known, or nothing new
// for a long time, are learnt.
func (p *Profiles) Used(who subject.Subject) {
	known, now := p.memory.Get(who), time.Now()
	if known == nil || !known.fresh(now) && now.Sub(known.learned) >= renewAge {
		p.want(who, task{})
	}
}

// Granted implements [tokens.Profiles]: the profile is learnt anew.
func (p *Profiles) Granted(who subject.Subject, at time.Time) {
	p.want(who, task{since: at, urgent: true})
}

// Learned implements [tokens.Profiles]. What others than Profiles have asked for saves a
// question, and is taken once in tellInterval.
func (p *Profiles) Learned(who subject.Subject, info openapi.AuthorizerInfo, asked time.Time) {
	known := p.memory.Get(who)
	if !p.asks(who) && known != nil && asked.Sub(known.learned) < tellInterval {
		return
	}
	found := profileOf(info, asked)
	p.want(who, task{urgent: true, found: &found})
}

// Forget implements [tokens.Profiles]: nothing is to be learnt of the account any more.
func (p *Profiles) Forget(who subject.Subject) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queueOf(who)
	delete(q.tasks, who)
	q.order = slices.DeleteFunc(q.order, func(waits subject.Subject) bool { return waits == who })
	p.memory.Drop(who)
}

// want queues a task, or adds it to the one that waits for the account. Of accounts that
// are merely used at most maxWaiting are queued.
func (p *Profiles) want(who subject.Subject, t task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queueOf(who)
	waiting, known := q.tasks[who]
	if p.ended || !known && !t.urgent && t.failures == 0 && len(q.order) >= maxWaiting {
		return
	}
	t = waiting.with(t)
	q.tasks[who] = t
	q.place(who, t, known)
	if !q.running {
		q.running = true
		p.work.Go(func() { p.run(who.Component(), q) })
	}
}

// place gives an account its place in the order. waits is whether it has one. The caller
// holds mu.
func (q *queue) place(who subject.Subject, t task, waits bool) {
	switch {
	case t.urgent && waits:
		at := slices.Index(q.order, who)
		copy(q.order[1:at+1], q.order[:at])
		q.order[0] = who
	case t.urgent:
		q.order = slices.Insert(q.order, 0, who)
	case !waits && t.failures > 0:
		q.order = slices.Insert(q.order, min(maxBefore, len(q.order)), who)
	case !waits:
		q.order = append(q.order, who)
	}
	if t.urgent {
		select {
		case q.urgent <- struct{}{}:
		default:
		}
	}
}

// with returns one task that does what both want.
func (t task) with(other task) task {
	if other.since.After(t.since) {
		t.since = other.since
	}
	if other.found != nil && (t.found == nil || other.found.Learned.After(t.found.Learned)) {
		t.found, t.failures = other.found, 0
	}
	if t.found != nil && t.found.Learned.Before(t.since) {
		t.found = nil
	}
	t.failures = max(t.failures, other.failures)
	t.urgent = (t.urgent || other.urgent) && t.failures == 0
	return t
}

// queueOf returns the queue of an account's component. The caller holds mu.
func (p *Profiles) queueOf(who subject.Subject) *queue {
	q := p.queues[who.Component()]
	if q == nil {
		q = &queue{
			tasks: make(map[subject.Subject]task), urgent: make(chan struct{}, 1),
			limiter: rate.NewLimiter(rate.Every(askInterval), maxAtOnce), strangers: rate.NewLimiter(rate.Every(strangerInterval), maxStrangers),
		}
		p.queues[who.Component()] = q
	}
	return q
}

// mayAskOfStranger reports whether WeChat may be asked about an account without a record,
// and counts that.
func (p *Profiles) mayAskOfStranger(who subject.Subject) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queueOf(who).strangers.Allow()
}

// next takes the first task out of a queue. It reports false if there is none, and the
// queue's goroutine must end.
func (p *Profiles) next(q *queue) (subject.Subject, task, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(q.order) == 0 || p.ended {
		q.running, q.order = false, nil
		return "", task{}, false
	}
	who := q.order[0]
	t := q.tasks[who]
	q.order = q.order[1:]
	delete(q.tasks, who)
	return who, t, true
}

// asks reports whether WeChat is being asked about an account.
func (p *Profiles) asks(who subject.Subject) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queueOf(who).asking == who
}

// setAsking notes about whom WeChat is being asked, "" for nobody.
func (p *Profiles) setAsking(q *queue, who subject.Subject) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q.asking = who
}

// run does the tasks of a queue until there are none. A task that has failed lets others
// go first: the trouble may be that of its account alone.
func (p *Profiles) run(component string, q *queue) {
	failures := 0
	for {
		who, t, ok := p.next(q)
		if !ok {
			return
		}
		if _, configured := p.settings().Components[component]; !configured {
			continue
		}
		answered, err := p.do(who, t, q)
		if answered {
			failures = 0
		}
		if err == nil {
			continue
		}
		if failures++; failures == 1 && p.ctx.Err() == nil {
			p.settings().Log.With(zap.String("component", component)).Warn("learning the profile of an account failed, will be tried again",
				zap.String("authorizer", who.Authorizer()), zap.Error(err), openapi.RemedyField(err))
		}
		if t.failures++; t.failures < maxFailures {
			p.want(who, t)
		}
		if !p.pause(q, failures) {
			return
		}
	}
}

// pause waits after failures in a row. An urgent task ends it: nobody knows whether WeChat
// fails for its account as well, and as it is not urgent again after a failure, it costs
// one question. pause reports false once Close has been called.
func (p *Profiles) pause(q *queue, failures int) bool {
	over := time.NewTimer(backoff.Jitter(backoff.Delay(failures, minPause, maxPause)))
	defer over.Stop()
	for !p.isUrgent(q) {
		select {
		case <-over.C:
			return true
		case <-q.urgent: // or one that was done before the pause
		case <-p.ctx.Done():
			return false
		}
	}
	return true
}

// isUrgent reports whether the next task is urgent.
func (p *Profiles) isUrgent(q *queue) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(q.order) > 0 && q.tasks[q.order[0]].urgent
}
