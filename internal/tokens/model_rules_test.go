// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// The promises. Each is looked at whenever something happens that could break
// it; the first also in peace, see model_peace_test.go.
const (
	notLost   = 1 + iota // whoever is authorized at WeChat gets tokens again by itself
	notRaced             // no renewal without need, hence no two nodes that kill each other's tokens
	notDead              // what has expired, or an account has taken back, is not handed out again
	notBack              // records do not go back, and are stored before their tokens are handed out
	notLooped            // calls to WeChat are bounded, whatever happens
	notLeft              // every caller is answered in time
	notLeaked            // no credential in the log, nor in clear in the storage
	notShut              // whatever WeChat says to whom, a token that has not expired is served
	notHidden            // an account that is not authorized, or in trouble, stands in the index of that
)

// report fails rt in a line of its own for each promise, so that what rapid
// shortens goes on breaking the same one.
func (m *model) report(rt *rapid.T) {
	switch m.broken {
	case notLost:
		rt.Fatal("a token is lost")
	case notRaced:
		rt.Fatal("a token is renewed without need")
	case notDead:
		rt.Fatal("a dead token is handed out")
	case notBack:
		rt.Fatal("a record goes back")
	case notLooped:
		rt.Fatal("WeChat is called without bound")
	case notLeft:
		rt.Fatal("a caller is not answered")
	case notLeaked:
		rt.Fatal("a credential has leaked")
	case notShut:
		rt.Fatal("a token that has not expired is not served")
	case notHidden:
		rt.Fatal("an account in trouble is in no index")
	}
}

// breaks notes that a promise is broken. The caller holds m.mu.
func (m *model) breaks(promise int, format string, args ...any) {
	if m.broken == 0 {
		m.sayLocked("BROKEN: "+format, args...)
		m.broken = promise
	}
}

func (m *model) isBroken() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.broken != 0
}

const (
	overlap     = 5 * time.Minute  // how long WeChat lets a replaced token live
	ahead       = 10 * time.Minute // of two hours: from when a token may be renewed ahead
	dueAtLatest = ahead - ahead/4  // from when every call renews it
	settling    = 2 * time.Minute  // how long cool-downs last after the last trouble
)

// handedOut is told of every token that a process gives to a caller who came
// at began, or of the error in its place.
func (m *model) handedOut(p *process, who subject.Subject, began time.Time, token *Token, err error) {
	stands, _ := m.truth.Load(context.Background(), who)
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.alive.Err() != nil {
		return // nobody got it
	}
	if err != nil {
		m.mayRefuse(p, who, began, err)
		return
	}
	value := token.Value.Reveal()
	gone, goneElsewhere := p.withdrawn[who], m.withdrawn[who]
	switch {
	case !token.Expires.After(began):
		m.breaks(notDead, "%s hands out %s of %s, which has expired", p.name, brief(value), nameOf(who))
	case !gone.acknowledged.IsZero() && gone.acknowledged.Before(began) && m.issuedAt(who, value).Before(gone.event):
		m.breaks(notDead, "%s hands out %s of %s, whose withdrawal it has acknowledged", p.name, brief(value), nameOf(who))
	case m.isTold(p, goneElsewhere, began) && m.issuedAt(who, value).Before(goneElsewhere.event):
		m.breaks(notDead, "%s hands out %s of %s, whose withdrawal another node has acknowledged", p.name, brief(value), nameOf(who))
	case m.storedSince[value].IsZero() && !stands.Token.Equal(token.Value) && p.storeFailed.Before(m.issuedAt(who, value)):
		m.breaks(notBack, "%s hands out %s of %s before it is stored", p.name, brief(value), nameOf(who))
	}
	m.mayBeStale(p, who, began, token)
	if len(p.handed[who]) == 0 || p.handed[who][len(p.handed[who])-1] != token {
		p.handed[who] = append(p.handed[who], token)
	}
}

// mayShut looks whether a caller who came at began was refused although a token stood
// in the storage that had not expired: a rejection, a failed renewal or a cool-down is
// no reason. Trouble of the storage is.
func (m *model) mayShut(ctx context.Context, p *process, who subject.Subject, began time.Time, err error) {
	stands, failed := m.truth.Load(context.Background(), who)
	m.mu.Lock()
	defer m.mu.Unlock()
	value := stands.Token.Reveal()
	switch {
	case failed != nil, stands.Token == nil, stands.State != vault.Authorized, !time.Now().Before(stands.Expires):
	case ctx.Err() != nil, p.ctx.Err() != nil, p.revoked[value], !m.storedSince[value].Before(began):
	case time.Since(p.storeFailed) < time.Minute, time.Since(m.damaged) < time.Minute, m.isLoose(who):
	default:
		m.breaks(notShut, "%s refuses %s, whose token %s is good for another %v: %v", p.name, nameOf(who), brief(value),
			time.Until(stands.Expires).Round(time.Second), err)
	}
}

// isTold reports whether a process must have heard by now that another one has
// acknowledged a withdrawal: news goes round every few seconds, in good times.
func (m *model) isTold(p *process, w withdrawal, now time.Time) bool {
	return m.watched && p.watching.Err() == nil && m.troubled.Before(w.acknowledged) && now.Sub(w.acknowledged) > 2*noticeInterval
}

// inTime looks whether a caller with this ctx is answered before it ends, or
// soon after.
func (m *model) inTime(ctx context.Context, p *process, doing string, grace time.Duration) {
	deadline, _ := ctx.Deadline()
	if late := time.Since(deadline); late > grace && p.alive.Err() == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.breaks(notLeft, "%s answers %s %v late", p.name, doing, late)
	}
}

// mayBeStale looks whether a token was replaced so long ago that it is dead. A
// process that nobody asked meanwhile cannot know. One that was asked while the
// token was due has looked for another.
func (m *model) mayBeStale(p *process, who subject.Subject, began time.Time, token *Token) {
	replaced := m.replaced(who, token)
	if replaced.IsZero() || began.Before(replaced) || began.Before(token.Expires.Add(-dueAtLatest)) {
		return
	}
	since, asked := p.since[who]
	if !asked || since.Before(replaced) {
		p.since[who] = began
		return
	}
	if began.After(replaced.Add(overlap)) && began.Sub(since) > renewTimeout && since.Sub(m.troubled) > settling {
		m.breaks(notRaced, "%s hands out %s of %s, which was replaced %v ago", p.name, brief(token.Value.Reveal()),
			nameOf(who), began.Sub(replaced).Round(time.Second))
	}
}

// mayRefuse holds a refusal against the truth. Whoever is told to let the
// admin authorize again must have lost the refresh token at WeChat itself,
// now or as long ago as such an answer is believed.
func (m *model) mayRefuse(p *process, who subject.Subject, began time.Time, err error) {
	since, exists := m.refreshSince[who]
	m.trace("%s refuses %s: %v", p.name, nameOf(who), err)
	if errors.Is(err, problem.ErrNeedsAdmin) && exists && began.Sub(since) > unauthorizedCoolDown+renewTimeout {
		m.breaks(notLost, "%s sends for the admin of %s, whose refresh token WeChat has", p.name, nameOf(who))
	}
}

// stored is told of every file that a process has just stored.
func (m *model) stored(p *process, key string) {
	who := recordOf(key)
	if key == ticketKey {
		m.storedTicket(p)
	}
	if who == "" {
		return
	}
	stands, err := m.truth.Load(context.Background(), who)
	hidden := m.isHidden(who, stands)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		return // damaged at the same instant
	}
	before, known := m.stood[key]
	m.stood[key] = stands
	delete(m.unkept, who)
	if value := stands.Token.Reveal(); m.storedSince[value].IsZero() {
		m.storedSince[value] = time.Now()
	}
	held, now := p.believes[lockOf(who)], time.Now()
	if held == nil || held.lost || now.Sub(p.storeFailed) < time.Minute {
		m.loose[key] = now.Add(time.Minute)
	}
	if held == nil || held.lost {
		m.forgetWithdrawal(who)
	}
	m.trace("%s stores %s: generation %d, %s, refresh %v, code %v", p.name, nameOf(who), stands.Generation, stands.State,
		stands.Refresh != nil, stands.Code != nil)
	if !known || now.Before(m.loose[key]) {
		return
	}
	rotated := m.refreshOf[stands.Token.Reveal()]
	switch {
	case stands.Generation < before.Generation: // the same: WeChat's answer was stored though its lock could not be had
		m.breaks(notBack, "%s: generation %d follows %d", nameOf(who), stands.Generation, before.Generation)
	case hidden && before.Standing() != stands.Standing():
		m.breaks(notHidden, "%s: %s, and in no index", nameOf(who), stands.Standing())
	case stands.EventTime.Before(before.EventTime):
		m.breaks(notBack, "%s: the event time falls", nameOf(who))
	case before.Refresh != nil && stands.Refresh == nil && stands.State != vault.Unauthorized:
		m.breaks(notBack, "%s: the refresh token is gone", nameOf(who))
	case before.State == vault.Unauthorized && stands.Code != nil && stands.EventTime.Equal(m.withdrawn[who].event):
		m.breaks(notBack, "%s: an event older than the withdrawal revives it", nameOf(who))
	case rotated != "" && !stands.Token.Equal(before.Token) && stands.Refresh.Reveal() != rotated:
		m.breaks(notBack, "%s: not the refresh token that came with the token", nameOf(who))
	}
}

// isHidden reports whether the storage has no note of the standing of a record.
func (m *model) isHidden(who subject.Subject, record vault.Record) bool {
	if who.IsComponent() || record.Standing() == vault.Stands {
		return false
	}
	_, err := m.truth.LoadNote(context.Background(), who, record.Standing())
	return errors.Is(err, vault.ErrNotFound)
}

// forgetWithdrawal: whoever writes without the lock can write over a tombstone.
// Then WeChat alone refuses the account, as long as its token lives.
func (m *model) forgetWithdrawal(who subject.Subject) {
	delete(m.withdrawn, who)
	for _, p := range m.running {
		if p != nil {
			delete(p.withdrawn, who)
		}
	}
}

func (m *model) storedTicket(p *process) {
	ticket, err := m.truth.LoadTicket(context.Background(), theComponent)
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if now.Sub(p.storeFailed) < time.Minute {
		m.loose[ticketKey] = now.Add(time.Minute)
	}
	if ticket.Asked.Before(m.ticketStood.Asked) { // it waits three seconds for its lock, no longer
		m.noteLost = now
	}
	late := now.Sub(m.ticketSince) > 5*time.Second // sooner it may have been stored without the lock
	if err == nil && ticket.CreateTime.Before(m.ticketStood.CreateTime) && late && !now.Before(m.loose[ticketKey]) {
		m.breaks(notBack, "%s stores an older ticket", p.name)
	}
	m.ticketStood, m.ticketSince = ticket, now
}

// acknowledged is told that a process has acknowledged an event. It must stand
// in the storage then, unless somebody whose lock was taken away, or who could
// not have it, has written over it at the same instant.
func (m *model) acknowledged(p *process, who subject.Subject, e bizmsg.Event, began time.Time) {
	stands, err := m.truth.Load(context.Background(), who)
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.InfoType == bizmsg.InfoUnauthorized {
		m.disown(p, who)
	}
	switch code := e.AuthorizationCode; {
	case e.InfoType == bizmsg.InfoTicket:
	case e.InfoType == bizmsg.InfoUnauthorized && stands.State == vault.Unauthorized && stands.EventTime.Equal(e.CreateTime):
		p.withdrawn[who] = withdrawal{e.CreateTime, time.Now()}
		m.withdrawn[who] = p.withdrawn[who]
	case m.damaged.After(began), time.Since(m.lockLost) < time.Minute, m.isLoose(who):
	case stands.EventTime.Before(e.CreateTime):
		m.breaks(notBack, "%s has acknowledged an event of %s and not stored it", p.name, nameOf(who))
	case m.codes[code.Reveal()].asked, stands.EventTime.After(e.CreateTime):
	case e.InfoType == bizmsg.InfoUnauthorized: // something newer stands
	case err != nil || !stands.Code.Equal(code):
		m.breaks(notLost, "%s has acknowledged the code of %s and not stored it", p.name, nameOf(who))
	}
}

// isLoose reports whether the record of who was just written without its lock.
func (m *model) isLoose(who subject.Subject) bool {
	for key, until := range m.loose {
		if recordOf(key) == who && time.Now().Before(until) {
			return true
		}
	}
	return false
}

// nothingLeaked looks for credentials by the words that the sandbox puts into
// each.
func (m *model) nothingLeaked() {
	text := m.printed.text.String()
	for name, file := range m.storage.Files() {
		text += name + string(file)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mark := range []string{"REALAPPSECRET", "REALPUSHTOKEN", "REALAESKEY", "REALTICKET", "REALTOKEN", "REALREFRESH", "queryauthcode@@@"} {
		if strings.Contains(text, mark) {
			m.breaks(notLeaked, "%s… stands in the log or the storage", mark)
		}
	}
}

func nameOf(who subject.Subject) string {
	if who.IsComponent() {
		return "component"
	}
	return strings.ToUpper(who.Authorizer()[2:3])
}

// brief tells tokens apart.
func brief(token string) string {
	generation, rest, _ := strings.Cut(token, "_")
	return generation + "-" + rest[len(rest)-4:]
}
