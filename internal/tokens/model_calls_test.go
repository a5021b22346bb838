// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// asked is told of every call before WeChat acts on it.
func (m *model) asked(c *wireCall) {
	renews := c.path == askComponentToken || c.path == askAuthorizerToken
	var stands vault.Record
	var err error
	if renews {
		stands, err = m.truth.Load(context.Background(), c.who)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch c.path {
	case askComponentToken, askAuthorizerToken:
		m.mayRenew(c, stands, err)
	case askQueryAuth:
		m.mayExchange(c)
	case askStartPushTicket:
		m.mayWake(c)
	case askDomainIP:
		m.mayQuestion(c)
		return
	case askAuthorizerInfo:
	default:
		return
	}
	m.mayCall(c)
}

// mayRenew holds a renewal against what stands in the storage: a process that
// holds the lock may renew if no token stands there, if it is about to expire,
// if WeChat did not tell the process that it is alive, or if the process has doubts. A process that could not
// store what it has got may go by what it has; and where somebody has written
// without the lock, nobody can know what stands.
func (m *model) mayRenew(c *wireCall, stands vault.Record, err error) {
	now := time.Now()
	held := c.p.believes[lockOf(c.who)]
	_, unstored := c.p.records.unsaved.get(c.who)
	switch {
	case held == nil && now.Sub(m.lockLost) > time.Minute:
		m.breaks(notRaced, "%s renews %s without its lock", c.p.name, nameOf(c.who))
	case held == nil || held.lost, unstored, now.Before(m.loose[keyOf(c.who)]):
	case err != nil, stands.Token == nil, !now.Before(stands.Expires):
	case c.p.revoked[stands.Token.Reveal()]:
	case now.Sub(c.p.unproven[stands.Token.Reveal()]) < renewTimeout:
		c.forced = true
		if n, last := c.p.forcedLately(c.who); n > maxForcedHourly+1 && now.Sub(last) < contendedInterval {
			m.breaks(notLooped, "%s forces the renewal of %s %d times within an hour", c.p.name, nameOf(c.who), n+1)
		}
	case !now.Before(stands.Expires.Add(-ahead)):
	case m.mayDoubt(c, now):
	default:
		m.breaks(notRaced, "%s renews %s, whose token %s is good for another %v", c.p.name, nameOf(c.who),
			brief(stands.Token.Reveal()), time.Until(stands.Expires).Round(time.Second))
	}
}

// forcedLately is how often p has renewed who within the hour because its token
// was rejected, and when it last did.
func (p *process) forcedLately(who subject.Subject) (renewals int, last time.Time) {
	for _, last = range p.forced[who] {
		if time.Since(last) < time.Hour {
			renewals++
		}
	}
	return renewals, last
}

// mayQuestion bounds the questions whether a token is alive: one a second, from each
// process about each subject.
func (m *model) mayQuestion(c *wireCall) {
	now := time.Now()
	for who, issues := range m.issues {
		if slices.ContainsFunc(issues, func(i issue) bool { return i.value == c.token }) {
			c.who = who
		}
	}
	if now.Sub(c.p.questioned[c.who]) < questionInterval-m.slow { // the wire holds each up for a while
		m.breaks(notLooped, "%s asks about the token of %s %v after the last time", c.p.name, nameOf(c.who), now.Sub(c.p.questioned[c.who]))
	}
	c.p.questioned[c.who] = now
}

// mayDoubt reports whether a renewal is one that a 61003 on a call has caused:
// once in ten minutes.
func (m *model) mayDoubt(c *wireCall, now time.Time) bool {
	doubted, ok := c.p.doubted[c.who]
	if !ok || now.Sub(doubted) > renewTimeout {
		return false
	}
	used, ok := c.p.doubtUsed[c.who]
	if ok && now.Sub(used) > renewTimeout && now.Sub(used) < recheckInterval {
		return false
	}
	if !ok || now.Sub(used) >= recheckInterval {
		c.p.doubtUsed[c.who] = now
	}
	return true
}

// mayExchange bounds the questions about a code of which WeChat has said that it
// is spent: two browsers may ask before the push tells whose it is.
func (m *model) mayExchange(c *wireCall) {
	if c.p.spent[c.code] > 3 {
		m.breaks(notLooped, "%s asks about a spent code of %s once more", c.p.name, nameOf(c.who))
	}
	code := m.codes[c.code]
	code.asked = true
	m.codes[c.code] = code
}

// mayWake bounds api_start_push_ticket: ten minutes between two calls of all
// processes, less what lies between noting the call and making it. The note may
// be lost where a ticket that comes in is stored without its lock.
func (m *model) mayWake(c *wireCall) {
	now, least := time.Now(), ticketRequestInterval-renewTimeout
	lost := m.damaged.After(m.woken.Add(-renewTimeout)) || now.Sub(m.lockLost) < least || now.Sub(m.noteLost) < least
	if now.Sub(m.woken) < least && !lost {
		m.breaks(notLooped, "%s asks for tickets %v after the last time", c.p.name, now.Sub(m.woken).Round(time.Second))
	}
	m.woken = now
}

// mayCall bounds the calls of one process to one endpoint for one subject
// within a minute. Without hope, cool-downs of 1, 2, 4 … 60 s, less a quarter
// of jitter, leave room for seven attempts in a minute, and the pending code
// has a loop of its own with seven more; each may make a call twice, since the
// component token may be rejected, and a refresh may follow on a recovery. A
// hope, which is a success, a ticket, or an event, ends a cool-down: three more
// attempts until it is as long as the minute allows on average.
func (m *model) mayCall(c *wireCall) {
	now := time.Now()
	lately := func(times []time.Time) []time.Time {
		return slices.DeleteFunc(times, func(at time.Time) bool { return now.Sub(at) > time.Minute })
	}
	key := c.path + " " + string(c.who)
	calls := append(lately(c.p.asks[key]), now)
	c.p.asks[key] = calls
	c.p.hopes[c.who] = lately(c.p.hopes[c.who])
	hopes := len(c.p.hopes[c.who])
	if !c.who.IsComponent() {
		c.p.hopes[platform] = lately(c.p.hopes[platform])
		hopes += len(c.p.hopes[platform])
	}
	if most := 4 * (8 + 3*hopes); len(calls) > most {
		m.breaks(notLooped, "%s calls %s for %s %d times a minute", c.p.name, c.path, nameOf(c.who), len(calls))
	}
}

// mayUseStorage bounds what one process does to the storage. Whoever waits for
// a lock looks twenty times a second; a loop without a pause does not end. Once
// the bound is broken nothing more is stored, which ends even that.
func (m *model) mayUseStorage(p *process) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(p.used) > time.Minute {
		p.used, p.uses = now, 0
	}
	if p.uses++; p.uses == 20_000 {
		m.breaks(notLooped, "%s has used the storage %d times within a minute", p.name, p.uses)
	}
	return p.uses < 20_000
}

// answered is told of every answer that reaches a process.
func (m *model) answered(c *wireCall, status int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, now := c.answer, time.Now()
	if c.path == askDomainIP {
		if err != nil || status != 200 || !c.isJSON || a.ErrCode == -1 || openapi.RejectsToken(a.ErrCode) {
			c.p.unproven[c.token] = now
		}
	}
	if err != nil || status != 200 || a.ErrCode != 0 {
		m.troubled = now
	}
	if a.ErrCode == 61009 || a.ErrCode == 61010 {
		c.p.spent[c.code]++
	}
	if a.ErrCode == 61003 && (c.path == askAuthorizerToken || c.path == askAuthorizerInfo) {
		m.disown(c.p, c.who)
	}
	for _, g := range []grantAnswer{{Token: a.Component}, a.grantAnswer, a.Info} {
		if g.Token != "" && err == nil {
			m.issued(c.who, g.Token)
			m.refreshOf[g.Token] = g.Refresh
			if c.path != askQueryAuth {
				m.unkept[c.who] = c
			}
			c.p.hopes[c.who] = append(c.p.hopes[c.who], now)
			if c.forced {
				c.p.forced[c.who] = append(c.p.forced[c.who], now)
			}
		}
	}
	m.observe()
	if c.path != askStartPushTicket {
		m.trace("%s %s %s: %d, %v", c.p.name, strings.TrimPrefix(c.path, "/cgi-bin/component/"), nameOf(c.who), a.ErrCode, err)
	}
}

func (m *model) noAnswer(c *wireCall, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.troubled = time.Now()
	if c.path == askDomainIP {
		c.p.unproven[c.token] = time.Now()
	}
	m.observe()
	m.trace("%s %s %s: no answer, %v", c.p.name, strings.TrimPrefix(c.path, "/cgi-bin/component/"), nameOf(c.who), err)
}

// disown notes that a process was told that an account has withdrawn: then it
// takes all its tokens for withdrawn.
func (m *model) disown(p *process, who subject.Subject) {
	for _, issue := range m.issues[who] {
		p.revoked[issue.value] = true
	}
}

func (m *model) issued(who subject.Subject, value string) {
	m.issues[who] = append(m.issues[who], issue{value, time.Now()})
}

// observe notes what is true at WeChat after something may have changed it.
// The caller holds m.mu.
func (m *model) observe() {
	for i := range m.accounts {
		who := accountOf(i)
		if m.weixin.ValidToken(sandbox.KindRefresh, who.Authorizer()) == "" {
			delete(m.refreshSince, who)
		} else if _, known := m.refreshSince[who]; !known {
			m.refreshSince[who] = time.Now()
		}
	}
}
