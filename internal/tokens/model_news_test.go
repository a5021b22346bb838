// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// bringing is how news reaches the gateway: where, and when.
type bringing struct {
	node  int
	after time.Duration
}

// drawBringings draws how often news comes: not at all, once, or twice.
func (s sequence) drawBringings(t *rapid.T, what string) []bringing {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) bringing {
		return bringing{s.drawNode(t), rapid.SampledFrom([]time.Duration{0, 0, 0, time.Millisecond, 100 * time.Millisecond, 3 * time.Second,
			time.Minute, 7 * time.Minute, 25 * time.Minute}).Draw(t, "after")}
	}), 0, 2).Draw(t, what)
}

func textOf(what string, all []bringing) string {
	text := what + " lost"
	for i, b := range all {
		if text = strings.TrimSuffix(text, " lost"); i > 0 {
			text += " and"
		}
		text += fmt.Sprintf(" to n%d +%v", b.node, b.after)
	}
	return text
}

func drawTicket(t *rapid.T, s sequence) (string, func(m *model)) {
	node := s.drawNode(t)
	return fmt.Sprintf("ticket to n%d", node), func(m *model) { m.ticket(node) }
}

// ticket lets WeChat push a ticket.
func (m *model) ticket(node int) {
	e := new(bizmsg.Event)
	must(0, m.weixin.PushTicket(context.WithValue(context.Background(), pushKey{}, e)))
	m.acting.Go(func() { m.bring(node, *e) })
}

func drawAgree(t *rapid.T, s sequence) (string, func(m *model)) {
	who := s.drawAccount(t)
	push, browser := s.drawBringings(t, "push"), s.drawBringings(t, "browser")
	return fmt.Sprintf("%s agrees; %s; %s", nameOf(who), textOf("push", push), textOf("browser", browser)), func(m *model) {
		m.admin(who, push, browser, m.weixin.Authorize)
	}
}

func drawUpdate(t *rapid.T, s sequence) (string, func(m *model)) {
	who := s.drawAccount(t)
	push, browser := s.drawBringings(t, "push"), s.drawBringings(t, "browser")
	return fmt.Sprintf("%s changes its grants; %s; %s", nameOf(who), textOf("push", push), textOf("browser", browser)), func(m *model) {
		if m.weixin.Authorized(who.Authorizer()) {
			m.admin(who, push, browser, m.weixin.UpdateAuthorized)
		}
	}
}

func drawRevoke(t *rapid.T, s sequence) (string, func(m *model)) {
	who := s.drawAccount(t)
	push := s.drawBringings(t, "push")
	return fmt.Sprintf("%s withdraws; %s", nameOf(who), textOf("push", push)), func(m *model) {
		if m.weixin.Authorized(who.Authorizer()) {
			m.admin(who, push, nil, func(ctx context.Context, appid string) (string, error) { return "", m.weixin.Revoke(ctx, appid) })
		}
	}
}

// admin lets the admin of an account act, never twice in a second: events are
// dated in seconds, and an admin has to find the page.
func (m *model) admin(who subject.Subject, push, browser []bringing, act func(ctx context.Context, appid string) (string, error)) {
	m.mu.Lock()
	wait := time.Until(m.changed[who].Add(2 * time.Second))
	m.mu.Unlock()
	time.Sleep(wait)
	e := new(bizmsg.Event)
	code := must(act(context.WithValue(context.Background(), pushKey{}, e), who.Authorizer()))
	m.mu.Lock()
	m.changed[who] = time.Now()
	for _, code := range []string{code, e.AuthorizationCode.Reveal()} {
		if code != "" {
			m.codes[code] = codeFact{who: who, at: time.Now()}
		}
	}
	m.observe()
	m.mu.Unlock()
	for _, b := range push {
		m.later(b.after, func() { m.bring(b.node, *e) })
	}
	for _, b := range browser {
		m.later(b.after, func() {
			if p := m.at(b.node); p != nil {
				m.hope(p, who)
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				_, err := p.Exchange(ctx, theComponent, secret.New(code))
				m.inTime(ctx, p, "a browser", 0)
				m.saying("%s browser of %s: %v", p.name, nameOf(who), err)
			}
		})
	}
}

// pushAnswer is how long package push gives the storing of a push.
const pushAnswer = 4 * time.Second

// bring lets WeChat push an event to a node, at most three times, until it is
// acknowledged.
func (m *model) bring(node int, e bizmsg.Event) {
	if e.InfoType == "" {
		return // an agreement that changed nothing pushes nothing
	}
	for range 3 {
		p := m.at(node)
		if p == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), pushAnswer)
		began, err := time.Now(), error(nil)
		who := subject.Of(theComponent, e.AuthorizerAppID)
		m.hope(p, who)
		switch e.InfoType {
		case bizmsg.InfoTicket:
			err = p.Ticket(ctx, theComponent, e.ComponentVerifyTicket, e.CreateTime)
		case bizmsg.InfoUnauthorized:
			m.mu.Lock()
			m.disown(p, who)
			m.mu.Unlock()
			err = p.Unauthorized(ctx, theComponent, e.AuthorizerAppID, e.CreateTime)
		default:
			err = p.Authorized(ctx, Grant{theComponent, e.AuthorizerAppID, e.AuthorizationCode, e.CreateTime})
		}
		cancel()
		m.inTime(ctx, p, "a push", renewTimeout) // WeChat pushes again meanwhile
		if p.alive.Err() != nil {
			continue
		}
		m.saying("%s %s %s: %v", p.name, e.InfoType, nameOf(who), err)
		if err == nil {
			m.acknowledged(p, who, e, began)
			return
		}
	}
}

// hope notes that a process has a reason to try again.
func (m *model) hope(p *process, who subject.Subject) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p.hopes[who] = append(p.hopes[who], time.Now())
}

// pushKey finds in a context the event that a step wants to have.
type pushKey struct{}

// pushed takes what WeChat pushes. What a step has caused is handed to the
// step, which decides where it goes; a ticket that a node has asked for goes to
// any node.
func (m *model) pushed(r *http.Request) (*http.Response, error) {
	e := m.open(r)
	answer := &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("success"))}
	if wanted, ok := r.Context().Value(pushKey{}).(*bizmsg.Event); ok {
		*wanted = e
		return answer, nil
	}
	m.mu.Lock()
	node := int(m.draw("push") % uint64(m.nodes))
	m.mu.Unlock()
	if p := m.at(node); p == nil || p.Ticket(r.Context(), theComponent, e.ComponentVerifyTicket, e.CreateTime) != nil {
		answer.StatusCode = http.StatusServiceUnavailable
	}
	return answer, nil
}

var modelKey = must(bizmsg.ParseKey(secret.New(sandbox.DefaultEncodingAESKey)))

func (m *model) open(r *http.Request) bizmsg.Event {
	envelope := must(bizmsg.ParseEnvelope(must(io.ReadAll(r.Body))))
	codec := &bizmsg.Codec{ReceiveID: theComponent, Tokens: []secret.Secret{secret.New(sandbox.DefaultToken)}, Keys: []bizmsg.Key{modelKey}}
	q := r.URL.Query()
	message := must(codec.Open(q.Get("msg_signature"), q.Get("timestamp"), q.Get("nonce"), envelope.Encrypt))
	return must(bizmsg.ParseEvent(message.Plain))
}
