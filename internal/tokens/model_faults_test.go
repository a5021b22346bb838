// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// What goes wrong.

// drawTarget draws whose tokens are meant: a subject's, or everybody's.
func (s sequence) drawTarget(t *rapid.T) (appid, name string) {
	if rapid.IntRange(0, 5).Draw(t, "all") == 5 {
		return "", "everybody"
	}
	who := s.drawSubject(t)
	return appIDOf(who), nameOf(who)
}

func drawKill(t *rapid.T, s sequence) (string, func(m *model)) {
	appid, name := s.drawTarget(t)
	return "tokens of " + name + " die", func(m *model) { m.weixin.KillTokens(appid) }
}

func drawExpire(t *rapid.T, s sequence) (string, func(m *model)) {
	appid, name := s.drawTarget(t)
	return "tokens of " + name + " expire", func(m *model) { m.weixin.ExpireTokens(appid) }
}

func drawRotate(t *rapid.T, s sequence) (string, func(m *model)) {
	who := s.drawSubject(t)
	return "another process fetches a token of " + nameOf(who), func(m *model) {
		value := must(m.weixin.RotateToken(appIDOf(who)))
		m.mu.Lock()
		defer m.mu.Unlock()
		m.issued(who, value)
	}
}

func drawRotateRefresh(t *rapid.T, s sequence) (string, func(m *model)) {
	who := s.drawAccount(t)
	return "WeChat renews the refresh token of " + nameOf(who), func(m *model) { _, _ = m.weixin.RotateRefreshToken(who.Authorizer()) }
}

// weixinFaults are ways in which WeChat fails.
var weixinFaults = []struct {
	text  string
	fault sandbox.Fault
}{
	{"is busy", sandbox.Fault{ErrCode: -1}},
	{"resets connections", sandbox.Fault{Reset: true}},
	{"acts and loses the answer", sandbox.Fault{DropAfter: true}},
	{"cuts its answers", sandbox.Fault{CutHalf: true}},
	{"is too slow", sandbox.Fault{Latency: 12 * time.Second}},
	{"is slow", sandbox.Fault{Latency: 4 * time.Second}},
	{"never answers", sandbox.Fault{Never: true}},
	{"answers 502", sandbox.Fault{Status: 502}},
	{"answers HTML", sandbox.Fault{HTML: true}},
	{"answers nothing", sandbox.Fault{Empty: true}},
	{"answers 45009", sandbox.Fault{ErrCode: 45009}},
	{"answers 61005", sandbox.Fault{ErrCode: 61005}},
	{"answers 40001", sandbox.Fault{ErrCode: 40001}},
}

var weixinPaths = []string{askAuthorizerToken, askComponentToken, askQueryAuth, askAuthorizerInfo, askAccount, askStartPushTicket,
	"/cgi-bin/component/", ""}

func drawWeChatFault(t *rapid.T, _ sequence) (string, func(m *model)) {
	kind := rapid.SampledFrom(weixinFaults).Draw(t, "fault")
	f := kind.fault
	f.Path = rapid.SampledFrom(weixinPaths).Draw(t, "path")
	if rapid.IntRange(0, 19).Draw(t, "61003") == 19 { // some calls mean something else by it
		kind.text, f = "answers 61003", sandbox.Fault{Path: askAccount, ErrCode: 61003}
	}
	name := f.Path
	if name == "" {
		name = "everything"
	}
	if times := rapid.IntRange(0, 3).Draw(t, "times"); times > 0 {
		f.Times = times
		return fmt.Sprintf("WeChat %s, %d times on %s", kind.text, times, name), func(m *model) { m.inject(f, 0) }
	}
	last := rapid.SampledFrom([]time.Duration{10 * time.Second, 2 * time.Minute, 40 * time.Minute}).Draw(t, "last")
	return fmt.Sprintf("WeChat %s for %v on %s", kind.text, last, name), func(m *model) { m.inject(f, last) }
}

// inject lets WeChat fail, until it recovers of all its faults after a while.
func (m *model) inject(f sandbox.Fault, last time.Duration) {
	m.trouble()
	m.weixin.Inject(f)
	if last > 0 {
		m.later(last, m.recover)
	}
}

func (m *model) recover() {
	m.trouble()
	m.weixin.ClearFaults()
}

// trouble notes that something goes wrong, or has just done so.
func (m *model) trouble() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.troubled = time.Now()
}

func drawWeChatRecovers(*rapid.T, sequence) (string, func(m *model)) {
	return "WeChat recovers", (*model).recover
}

func drawStorageFault(t *rapid.T, s sequence) (string, func(m *model)) {
	f := storageTrouble{
		node:   rapid.IntRange(-1, s.nodes-1).Draw(t, "node"),
		only:   rapid.SampledFrom([]vaulttest.Op{"", vaulttest.Store, vaulttest.Load, vaulttest.Lock, vaulttest.Unlock}).Draw(t, "op"),
		effect: rapid.SampledFrom([]string{"fails", "stalls", "acts, then fails"}).Draw(t, "effect"),
	}
	last := rapid.SampledFrom([]time.Duration{100 * time.Millisecond, 3 * time.Second, 20 * time.Second, 2 * time.Minute, 30 * time.Minute}).Draw(t, "last")
	where, op := fmt.Sprintf("n%d", f.node), string(f.only)
	if f.node < 0 {
		where = "every node"
	}
	if op == "" {
		op = "everything"
	}
	return fmt.Sprintf("storage on %s %s for %v: %s", where, f.effect, last, op), func(m *model) {
		m.mu.Lock()
		defer m.mu.Unlock()
		f.until = time.Now().Add(last)
		m.faults, m.troubled = append(m.faults, f), f.until
	}
}

// damages are what can happen to a file.
var damages = []struct {
	text   string
	damage func(file []byte) []byte
}{
	{"is garbled", func(file []byte) []byte { file[len(file)/2] ^= 1; return file }},
	{"is truncated", func(file []byte) []byte { return file[:len(file)/2] }},
	{"is emptied", func([]byte) []byte { return nil }},
}

func drawDamage(t *rapid.T, s sequence) (string, func(m *model)) {
	key, name := ticketKey, "ticket"
	if rapid.IntRange(0, 3).Draw(t, "ticket") < 3 {
		who := s.drawSubject(t)
		key, name = keyOf(who), "record of "+nameOf(who)
	}
	kind := rapid.SampledFrom(damages).Draw(t, "damage")
	return fmt.Sprintf("%s %s", name, kind.text), func(m *model) {
		if file := m.storage.Files()[key]; len(file) > 0 {
			m.damage()
			m.storage.Put(key, kind.damage(file))
		}
	}
}

func drawEmptied(*rapid.T, sequence) (string, func(m *model)) {
	return "storage is emptied", func(m *model) {
		m.damage()
		must(0, m.storage.Delete(context.Background(), "wechat"))
	}
}

// damage notes that what stood need not stand any more.
func (m *model) damage() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.damaged, m.troubled = time.Now(), time.Now()
	clear(m.stood)
	clear(m.unkept)
	m.ticketStood = vault.Ticket{}
}

func drawCrash(t *rapid.T, s sequence) (string, func(m *model)) {
	node := s.drawNode(t)
	back := rapid.SampledFrom([]time.Duration{0, time.Second, 15 * time.Second, 5 * time.Minute}).Draw(t, "back")
	return fmt.Sprintf("n%d crashes, is back after %v", node, back), func(m *model) {
		m.trouble()
		if m.crash(node) {
			m.later(back, func() { m.start(node) })
		}
	}
}

func drawRestart(t *rapid.T, s sequence) (string, func(m *model)) {
	node := s.drawNode(t)
	return fmt.Sprintf("n%d restarts in good order", node), func(m *model) {
		m.trouble()
		m.acting.Go(func() {
			if m.stop(node) {
				m.start(node)
			}
		})
	}
}

func drawLostLock(t *rapid.T, s sequence) (string, func(m *model)) {
	who := s.drawSubject(t)
	return "the lock of " + nameOf(who) + " is lost", func(m *model) {
		m.trouble()
		m.loseLock(lockOf(who))
	}
}

// drawNewSealKey draws a new seal key for all nodes, with the previous one
// kept. Every node knew it before as the other key: one that did not would take
// what a faster node has sealed for damaged.
func drawNewSealKey(*rapid.T, sequence) (string, func(m *model)) {
	return "the seal key is changed", func(m *model) {
		m.mu.Lock()
		m.keys = [2]byte{2, 1}
		m.mu.Unlock()
		for node := range m.nodes {
			m.mu.Lock()
			p := m.running[node]
			m.mu.Unlock()
			if p != nil {
				p.settings.Store(m.settings(p))
			}
		}
	}
}

func drawQuirk(t *rapid.T, _ sequence) (string, func(m *model)) {
	return "WeChat leaves the refresh token out of its answers for 3 h", func(m *model) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.quirk = time.Now().Add(3 * time.Hour)
	}
}

func drawPeace(*rapid.T, sequence) (string, func(m *model)) { return "peace", (*model).peace }
