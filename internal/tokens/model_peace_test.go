// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// peace lets everything recover and looks whether every process comes back by
// itself, within bounded time: nobody restarts, authorizes, or configures
// anything. Only WeChat goes on pushing tickets.
func (m *model) peace() {
	m.say("peace returns")
	m.mu.Lock()
	m.faults, m.quirk = nil, time.Time{}
	m.mu.Unlock()
	m.recover()
	m.acting.Wait() // until all news has arrived and every node is up again
	m.recover()
	m.ticket(0)
	if m.watched {
		m.nobodyForgetsACode()
	}
	m.everybodyWorks()
	if m.isBroken() {
		return
	}
	time.Sleep(overlap + time.Second)
	m.everythingIsKept()
	m.everybodyGetsThrough(false)
}

// longPeace looks whether everybody gets through once more when all tokens have
// expired, so that those in the storage must have been good. Nobody watches for
// tickets meanwhile: that only takes time.
func (m *model) longPeace() {
	if m.isBroken() {
		return
	}
	for node := range m.nodes {
		m.at(node).unwatch()
	}
	time.Sleep(2*time.Hour + overlap)
	m.ticket(0)
	time.Sleep(time.Second)
	m.everybodyGetsThrough(true)
	m.withdrawnStayOut()
}

// nobodyForgetsACode looks whether every code that stands in the storage is
// exchanged though nobody calls for its account. It need not succeed, and
// cannot begin while another process spoils the component's tokens.
func (m *model) nobodyForgetsACode() {
	time.Sleep(3 * time.Minute) // a minute until somebody looks, another until a cool-down ends
	now := time.Now()
	for node := range m.nodes {
		if m.at(node).health.isContended(platform, now) {
			return
		}
	}
	for _, who := range m.subjects() {
		record, _ := m.truth.Load(context.Background(), who)
		m.mu.Lock()
		if codePending(record) && !m.codes[record.Code.Reveal()].asked {
			m.breaks(notLost, "nobody exchanges the code of %s", nameOf(who))
		}
		m.mu.Unlock()
	}
}

// isContended reports whether so many rejected tokens of who were renewed that only one
// a minute is.
func (h *health) isContended(who subject.Subject, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &h.at(healthKey{who, renewal}).forced
	f.forget(now)
	return len(f.renewed) >= maxForcedHourly
}

// everythingIsKept looks whether the processes that live on have stored what
// WeChat gave them while they could not store it.
func (m *model) everythingIsKept() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for who, c := range m.unkept {
		if m.running[c.p.node] == c.p {
			m.breaks(notLost, "%s has never stored its token of %s", c.p.name, nameOf(who))
		}
	}
}

// hopeful are the subjects that must get a token: the component, and every
// account that WeChat has a refresh token for, or whose code stands in the
// storage, is its newest, and is good for long enough. For any other account the code was lost
// before it was exchanged, and only its admin can help.
func (m *model) hopeful() (all []subject.Subject) {
	for _, who := range m.subjects() {
		record, _ := m.truth.Load(context.Background(), who)
		m.mu.Lock()
		code := m.codes[record.Code.Reveal()]
		pending := code.who == who && !code.asked && !code.at.Before(m.changed[who]) && time.Since(code.at) < 5*time.Minute
		m.mu.Unlock()
		switch authorized := m.weixin.Authorized(who.Authorizer()); {
		case who.IsComponent(), authorized && m.weixin.ValidToken(sandbox.KindRefresh, who.Authorizer()) != "", authorized && pending:
			all = append(all, who)
		}
	}
	return all
}

// everybodyWorks calls every node for every hopeful subject until all calls
// succeed.
func (m *model) everybodyWorks() {
	hopeful := m.hopeful()
	began, limit := time.Now(), max(recheckInterval, maxMark)+5*time.Minute
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		var failing string
		for node := range m.nodes {
			p := m.at(node)
			for _, who := range hopeful {
				if m.call(p, who, patience) == nil {
					failing = p.name + " for " + nameOf(who)
				}
			}
		}
		if failing == "" || m.isBroken() {
			return
		}
		if time.Since(began) > limit {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.breaks(notLost, "%s does not come back in %v", failing, limit)
			return
		}
		time.Sleep(pause)
	}
}

// everybodyGetsThrough looks whether every node gets through when all tokens
// that were replaced in the trouble have died: at the second call at the
// latest, since both the token in its memory and the one in the storage may be
// dead, and each call finds out about one. Where no token can be left from
// before it must be the first call, and all nodes use the same token.
func (m *model) everybodyGetsThrough(anew bool) {
	for _, who := range m.hopeful() {
		for node := range m.nodes {
			if m.isBroken() {
				return
			}
			p := m.at(node)
			token := m.call(p, who, patience)
			if token == nil && !anew {
				token = m.call(p, who, patience)
			}
			m.mu.Lock()
			if token == nil {
				m.breaks(notLost, "%s does not get through for %s", p.name, nameOf(who))
			} else if anew && !m.replaced(who, token).IsZero() {
				m.breaks(notRaced, "%s uses %s for %s, which is not the newest", p.name, brief(token.Value.Reveal()), nameOf(who))
			}
			m.mu.Unlock()
		}
	}
}

// withdrawnStayOut looks whether no node has a token for an account that has
// not authorized the component.
func (m *model) withdrawnStayOut() {
	for _, who := range m.subjects() {
		if who.IsComponent() || m.weixin.Authorized(who.Authorizer()) {
			continue
		}
		for node := range m.nodes {
			p := m.at(node)
			if _, err := p.Current(context.Background(), who, theClient); !errors.Is(err, problem.ErrUnauthorized) {
				m.mu.Lock()
				m.breaks(notDead, "%s for %s, which is not authorized: %v", p.name, nameOf(who), err)
				m.mu.Unlock()
			}
		}
	}
}
