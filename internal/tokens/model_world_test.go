// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// model is one sequence while it is played: WeChat, a storage, some gateway
// processes, and what is known of them without asking them.
type model struct {
	sequence
	began   time.Time
	weixin  *sandbox.Sandbox
	storage *vaulttest.Memory
	truth   *vault.Vault // reads the storage past all delays and faults
	log     *zap.Logger
	printed printed
	acting  sync.WaitGroup // all that has begun and not ended

	mu      sync.Mutex // guards all below
	chances map[string]uint64
	keys    [2]byte    // the seal key in force, and the one before or after it
	running []*process // by node; nil while it is down
	faults  []storageTrouble
	quirk   time.Time // until then answers leave the refresh token out
	facts

	story   []string
	tracing bool // the story tells every call and every write
	broken  int  // the promise that was broken first
	ended   bool
}

func newModel(s sequence) *model {
	return &model{sequence: s, storage: new(vaulttest.Memory), keys: [2]byte{1, 2}, chances: map[string]uint64{},
		running: make([]*process, s.nodes), facts: newFacts()}
}

// play lets the steps happen, then peace return, and everything end.
func (m *model) play(steps []step) {
	m.began = time.Now()
	m.truth = vault.New(func() vault.Storage { return m.storage }, func(string) *vault.Keyring { return m.keyring() })
	m.log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg", LevelKey: "level",
		EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeDuration: zapcore.StringDurationEncoder,
		EncodeTime: zapcore.ISO8601TimeEncoder}), &m.printed, zap.DebugLevel))
	m.weixin = must(sandbox.New(sandbox.Config{EventsURL: "http://gateway/events", Transport: transportFunc(m.pushed),
		Switches: m.switches()}))
	for i := range m.accounts {
		must(0, m.weixin.AddAccount(sandbox.Account{AppID: accountOf(i).Authorizer()}))
	}
	for node := range m.nodes {
		m.start(node)
	}
	m.ticket(0)
	for _, step := range steps {
		if m.isBroken() {
			break
		}
		m.say("%s", step.text)
		step.do(m)
		time.Sleep(step.then)
	}
	m.peace()
	m.longPeace()
	for node := range m.nodes {
		m.stop(node)
	}
	m.acting.Wait()
	time.Sleep(time.Minute) // the vault may be releasing a lock behind the backs of all
	m.nothingLeaked()
	m.ended = true
}

func (m *model) switches() sandbox.Switches {
	s := sandbox.Switches{RotateRefreshTokens: m.rotate, DifferentCodes: m.dumb}
	if m.dumb {
		s.RevokedErrCode = 61023
	}
	return s
}

func accountOf(i int) subject.Subject {
	return subject.Of(theComponent, "wx"+strings.Repeat(string(rune('a'+i)), 16))
}

// subjects are the component and all accounts.
func (m *model) subjects() []subject.Subject {
	all := []subject.Subject{platform}
	for i := range m.accounts {
		all = append(all, accountOf(i))
	}
	return all
}

func (m *model) keyring() *vault.Keyring {
	m.mu.Lock()
	defer m.mu.Unlock()
	return must(vault.NewKeyring(bytes.Repeat(m.keys[:1], vault.KeySize), bytes.Repeat(m.keys[1:], vault.KeySize)))
}

// draw returns a number that depends on nothing but the seed, on what it is
// for, and on how many were drawn for that: what happens at the same time
// elsewhere does not change it. The caller holds m.mu.
func (m *model) draw(what string) uint64 {
	m.chances[what]++
	h := fnv.New64a()
	io.WriteString(h, what)
	return rand.NewPCG(m.seed^h.Sum64(), m.chances[what]).Uint64()
}

// later does something after a while.
func (m *model) later(after time.Duration, do func()) {
	m.acting.Go(func() {
		time.Sleep(after)
		do()
	})
}

// say adds a line to the story.
func (m *model) say(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sayLocked(format, args...)
}

// saying adds what only the reader of a failure wants to know.
func (m *model) saying(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trace(format, args...)
}

// trace is saying for who holds m.mu.
func (m *model) trace(format string, args ...any) {
	if m.tracing {
		m.sayLocked("        "+format, args...)
	}
}

func (m *model) sayLocked(format string, args ...any) {
	at := time.Since(m.began).Round(time.Millisecond)
	m.story = append(m.story, fmt.Sprintf("%14v  ", at)+fmt.Sprintf(format, args...))
}

// printed is all that the processes have logged.
type printed struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *printed) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(line)
}

func (p *printed) Sync() error { return nil }

// must is for what cannot fail unless the test itself is wrong.
func must[T any](value T, errs ...error) T {
	for _, err := range errs {
		if err != nil {
			panic(err)
		}
	}
	return value
}
