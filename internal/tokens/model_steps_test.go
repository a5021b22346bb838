// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// What can happen in good order: calls, and time. News are in
// model_news_test.go, what goes wrong in model_faults_test.go.

// drawn makes a kind of step out of chance.
type drawn func(t *rapid.T, s sequence) (text string, do func(m *model))

// kinds are the steps. The first are the simplest: rapid turns the others into
// them where it can.
var kinds = weighted(
	choice[drawn]{28, drawCall}, choice[drawn]{6, drawHurriedCall}, choice[drawn]{6, drawLateCall}, choice[drawn]{6, drawHammer},
	choice[drawn]{1, drawStorm}, choice[drawn]{1, drawBusy}, choice[drawn]{4, drawList}, choice[drawn]{1, drawHalfADay},
	choice[drawn]{6, drawTicket}, choice[drawn]{20, drawAgree}, choice[drawn]{10, drawUpdate}, choice[drawn]{10, drawRevoke},
	choice[drawn]{10, drawKill}, choice[drawn]{6, drawExpire}, choice[drawn]{5, drawRotate}, choice[drawn]{5, drawRotateRefresh},
	choice[drawn]{20, drawWeChatFault}, choice[drawn]{6, drawWeChatRecovers}, choice[drawn]{18, drawStorageFault}, choice[drawn]{4, drawDamage},
	choice[drawn]{2, drawEmptied}, choice[drawn]{8, drawCrash}, choice[drawn]{4, drawRestart}, choice[drawn]{3, drawLostLock},
	choice[drawn]{2, drawNewSealKey}, choice[drawn]{2, drawQuirk}, choice[drawn]{1, drawPeace},
)

// waits are how long nothing new happens after a step. Most are short: what
// races must meet, and hours cost most of the time of this test.
var waits = weighted(
	choice[time.Duration]{80, 0}, choice[time.Duration]{16, time.Millisecond}, choice[time.Duration]{20, 20 * time.Millisecond},
	choice[time.Duration]{20, 300 * time.Millisecond}, choice[time.Duration]{20, time.Second}, choice[time.Duration]{16, 3 * time.Second},
	choice[time.Duration]{12, 12 * time.Second}, choice[time.Duration]{10, time.Minute}, choice[time.Duration]{6, 4 * time.Minute},
	choice[time.Duration]{2, 20 * time.Minute}, choice[time.Duration]{2, 112 * time.Minute}, choice[time.Duration]{1, 3 * time.Hour},
)

// choice is something and how often it is drawn among others.
type choice[T any] struct {
	weight int
	what   T
}

func weighted[T any](choices ...choice[T]) *rapid.Generator[T] {
	var all []T
	for _, c := range choices {
		all = append(all, slices.Repeat([]T{c.what}, c.weight)...)
	}
	return rapid.SampledFrom(all)
}

// sequences draws whole sequences. Steps come in chapters, because rapid draws
// lists of six and not of forty, and drops them chapter by chapter.
var sequences = rapid.Custom(func(t *rapid.T) sequence {
	s := sequence{
		nodes:    rapid.IntRange(2, 3).Draw(t, "nodes"),
		accounts: rapid.IntRange(1, 3).Draw(t, "accounts"),
		slow:     rapid.SampledFrom([]time.Duration{0, 5 * time.Millisecond, 60 * time.Millisecond, time.Second}).Draw(t, "slow"),
		rotate:   rapid.Bool().Draw(t, "rotate"),
		dumb:     rapid.Bool().Draw(t, "dumb"),
		watched:  rapid.IntRange(0, 3).Draw(t, "watched") == 3, // half of the time is spent with it
		seed:     rapid.Uint64().Draw(t, "seed"),
	}
	one := rapid.Custom(func(t *rapid.T) step {
		text, do := kinds.Draw(t, "kind")(t, s)
		return step{text, do, waits.Draw(t, "then")}
	})
	for _, chapter := range rapid.SliceOfN(rapid.SliceOfN(one, 1, 11), 1, 11).Draw(t, "chapters") {
		s.steps = append(s.steps, chapter...)
	}
	return s
})

func (s sequence) drawNode(t *rapid.T) int { return rapid.IntRange(0, s.nodes-1).Draw(t, "node") }

func (s sequence) drawAccount(t *rapid.T) subject.Subject {
	return accountOf(rapid.IntRange(0, s.accounts-1).Draw(t, "account"))
}

// drawSubject draws an account, or sometimes the component.
func (s sequence) drawSubject(t *rapid.T) subject.Subject {
	if i := rapid.IntRange(0, s.accounts).Draw(t, "subject"); i < s.accounts {
		return accountOf(i)
	}
	return platform
}

// call is an application's call, made as package relay makes it: with the token at
// hand, and once more with another one if WeChat rejects it. It returns the
// token that WeChat has taken in the end, nil if none.
func (m *model) call(p *process, who subject.Subject, patience time.Duration) *Token {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	token, err := p.Current(ctx, who, theClient)
	m.inTime(ctx, p, "a call", 0)
	m.handedOut(p, who, began, token, err)
	if err != nil {
		m.mayShut(ctx, p, who, began, err)
		return nil
	}
	return m.callWith(ctx, p, who, token)
}

func (m *model) callWith(ctx context.Context, p *process, who subject.Subject, token *Token) *Token {
	by := Caller{theClient, modelPath(who)}
	code := p.callWith(ctx, who, token.Value)
	switch {
	case code == 0:
		p.Accepted(who, token, by)
		return token
	case code == 61003:
		m.mu.Lock()
		p.doubted[who] = time.Now()
		m.mu.Unlock()
		p.Recheck(who, token)
		return nil
	case !openapi.RejectsToken(code):
		return nil
	}
	began, value := time.Now(), token.Value.Reveal()
	renewed, err := p.Replace(ctx, who, Rejection{Caller: by, Token: token, Errcode: code, Arrived: began})
	m.inTime(ctx, p, "a call", 0)
	m.handedOut(p, who, began, renewed, err)
	if err == nil && renewed.Value.Equal(token.Value) {
		m.mu.Lock()
		m.breaks(notDead, "%s hands out %s of %s in the place of itself", p.name, brief(value), nameOf(who))
		m.mu.Unlock()
	}
	if err != nil || p.callWith(ctx, who, renewed.Value) != 0 {
		return nil
	}
	p.Accepted(who, renewed, by)
	return renewed
}

// patience is how long an application waits; longer than any renewal may take.
const patience = time.Minute

func drawCall(t *rapid.T, s sequence) (string, func(m *model)) {
	node, who := s.drawNode(t), s.drawSubject(t)
	return fmt.Sprintf("call n%d %s", node, nameOf(who)), func(m *model) { m.begin(node, func(p *process) { m.call(p, who, patience) }) }
}

func drawHurriedCall(t *rapid.T, s sequence) (string, func(m *model)) {
	node, who := s.drawNode(t), s.drawSubject(t)
	hurry := rapid.SampledFrom([]time.Duration{0, 10 * time.Millisecond, time.Second}).Draw(t, "hurry")
	return fmt.Sprintf("call n%d %s, which waits %v", node, nameOf(who), hurry),
		func(m *model) { m.begin(node, func(p *process) { m.call(p, who, hurry) }) }
}

// drawLateCall draws a call that was held up for long after it got its token.
func drawLateCall(t *rapid.T, s sequence) (string, func(m *model)) {
	node, who := s.drawNode(t), s.drawSubject(t)
	back := rapid.IntRange(1, 3).Draw(t, "back")
	return fmt.Sprintf("call n%d %s with the token before the last (%d)", node, nameOf(who), back), func(m *model) {
		m.begin(node, func(p *process) {
			m.mu.Lock()
			var token *Token
			if handed := p.handed[who]; len(handed) > back {
				token = handed[len(handed)-1-back]
			}
			m.mu.Unlock()
			if token != nil {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				m.callWith(ctx, p, who, token)
			}
		})
	}
}

func drawHammer(t *rapid.T, s sequence) (string, func(m *model)) {
	node, who := s.drawNode(t), s.drawSubject(t)
	return fmt.Sprintf("call n%d %s 80 times in 20 s", node, nameOf(who)), func(m *model) { m.hammer(node, who) }
}

// drawStorm draws the same while WeChat rejects every token.
func drawStorm(t *rapid.T, s sequence) (string, func(m *model)) {
	node, who := s.drawNode(t), s.drawAccount(t)
	return fmt.Sprintf("call n%d %s 80 times in 20 s, all rejected", node, nameOf(who)), func(m *model) {
		m.inject(sandbox.Fault{Path: askAccount, ErrCode: 40001}, 20*time.Second)
		m.hammer(node, who)
	}
}

func (m *model) hammer(node int, who subject.Subject) {
	m.begin(node, func(p *process) {
		for range 80 {
			m.call(p, who, patience)
			time.Sleep(250 * time.Millisecond)
		}
	})
}

// drawBusy draws calls on every node while a token grows old.
func drawBusy(t *rapid.T, s sequence) (string, func(m *model)) {
	who := s.drawSubject(t)
	return fmt.Sprintf("call every node for %s from 105 to 120 minutes from now", nameOf(who)), func(m *model) {
		for node := range m.nodes {
			m.later(105*time.Minute, func() {
				for range 15 {
					if p := m.at(node); p != nil {
						m.call(p, who, patience)
					}
					time.Sleep(time.Minute)
				}
			})
		}
	}
}

func drawList(t *rapid.T, s sequence) (string, func(m *model)) {
	node, who := s.drawNode(t), s.drawAccount(t)
	if rapid.Bool().Draw(t, "info") {
		return fmt.Sprintf("info n%d %s", node, nameOf(who)), func(m *model) {
			m.begin(node, func(p *process) { _, _ = p.AuthorizerInfo(context.Background(), who, theClient) })
		}
	}
	return fmt.Sprintf("list n%d", node), func(m *model) {
		m.begin(node, func(p *process) { _, _ = p.AuthorizerList(context.Background(), theComponent, theClient, 0, 10) })
	}
}

// drawHalfADay draws a time in which no ticket stays valid, rarely.
func drawHalfADay(t *rapid.T, _ sequence) (string, func(m *model)) {
	d := rapid.SampledFrom([]time.Duration{time.Second, 13 * time.Hour}).Draw(t, "long")
	return fmt.Sprintf("%v pass", d), func(*model) { time.Sleep(d) }
}

// begin lets something begin on a node, or the next that runs.
func (m *model) begin(node int, do func(p *process)) {
	if p := m.at(node); p != nil {
		m.acting.Go(func() { do(p) })
	}
}
