// SPDX-License-Identifier: Apache-2.0

// Package profile knows what kind of account has authorised the component, by what
// name messages are addressed to it, and which permission sets it has granted. WeChat
// tells that by api_get_authorizer_info. It is asked once when an account authorises, and
// again after thirty days, in the background: nobody who calls or pushes waits for it.
// Accounts of which nothing is known, such as those of an earlier release, are asked
// about when they are used.
//
//	profile.go   what receivers of pushes are told
//	queue.go     of which accounts something is to be learnt, one after the other
//	learn.go     how it is learnt, and what has changed
package profile

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/permission"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// readTimeout is how long a push waits for the storage. What is not known by then
	// counts as unknown.
	readTimeout = 500 * time.Millisecond
	// maxReads is how many pushes wait for the storage at a time, in case it hangs.
	maxReads = 16
	// restTime is how long the storage is not read for pushes after it has failed.
	restTime = 10 * time.Second
	// memoryTime is how long memory is believed.
	memoryTime = time.Hour
	// unknownTime is the same where there is no profile. It is being learnt then.
	unknownTime = time.Minute
	// doubtTime is the age from which on WeChat is asked about a profile that does not
	// fit a push.
	doubtTime = 24 * time.Hour
)

// Known is what memory holds of an account. It is never changed. Nil and the zero
// value mean that nothing is known.
type Known struct {
	userName string
	kind     openapi.AccountKind
	sets     permission.Bits // granted
	learned  time.Time       // when WeChat was asked
	until    time.Time       // until then neither the storage nor WeChat is asked
}

// Memory holds what is known, so that most pushes need no storage. A Set may be late,
// or dropped, and anything may be forgotten at any time. A Memory is safe for concurrent
// use and never blocks.
type Memory interface {
	Get(who subject.Subject) *Known // nil if there is none
	Set(who subject.Subject, known *Known)
	Drop(who subject.Subject)
	Close()
}

// Profiles knows the profiles of all accounts. The gateway has one, which survives
// reloads. It is safe for concurrent use.
type Profiles struct {
	// ask makes WeChat tell of an account; the answer comes to Learned.
	ask      func(ctx context.Context, who subject.Subject) error
	settings func() *tokens.Settings // of the configuration in force
	memory   Memory
	reads    chan struct{} // holds an element per push that waits for the storage
	rest     atomic.Int64  // unix nanoseconds until which the storage is not read for pushes

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu     sync.Mutex        // guards all below, and the queues
	queues map[string]*queue // by component
	ended  bool
	work   sync.WaitGroup
}

// New returns Profiles that are stored in the vault of the current settings. ask must
// call api_get_authorizer_info, and hand the answer to Learned before it returns.
func New(settings func() *tokens.Settings, memory Memory, ask func(ctx context.Context, who subject.Subject) error) *Profiles {
	p := &Profiles{ask: ask, settings: settings, memory: memory, reads: make(chan struct{}, maxReads), queues: make(map[string]*queue)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Account tells of the account with this appid, to which somebody has pushed a message
// that is addressed to toUserName. its is false if the message is another account's;
// official is false if the account is no official one, so that no follower can be
// answered. Both are true as long as nobody knows. If memory does not know the account,
// Account waits for the storage, at most readTimeout.
func (p *Profiles) Account(ctx context.Context, component, appid, toUserName string) (its, official bool) {
	who := subject.Of(component, appid)
	known := p.known(ctx, who)
	if known == nil {
		return true, true
	}
	if known.contradicts(toUserName) {
		p.want(who, task{since: time.Now().Add(-doubtTime)})
		return false, known.official()
	}
	return true, known.official()
}

// contradicts reports whether a message that is addressed to this name is another
// account's. Official accounts and mini programs have one name, gh_ and hexadecimal
// digits. Other kinds may be addressed in another form, which says nothing.
func (k *Known) contradicts(toUserName string) bool {
	const form = "gh_"
	if toUserName == "" || k.userName == "" || toUserName == k.userName {
		return false
	}
	named := k.official() || k.kind == openapi.MiniProgram
	return named || strings.HasPrefix(toUserName, form) && strings.HasPrefix(k.userName, form)
}

func (k *Known) official() bool { return k.kind == openapi.OfficialAccount || k.kind == "" }

func (k *Known) fresh(now time.Time) bool { return k != nil && now.Before(k.until) }

// known returns what memory or the storage knows of an account. If the storage fails or
// is slow, that is what memory knew before, or nil.
func (p *Profiles) known(ctx context.Context, who subject.Subject) *Known {
	known, now := p.memory.Get(who), time.Now()
	if known.fresh(now) || now.UnixNano() < p.rest.Load() {
		return known
	}
	found := p.look(who, known)
	if found == nil {
		return known
	}
	timer := time.NewTimer(readTimeout)
	defer timer.Stop()
	select {
	case known = <-found:
	case <-timer.C:
		p.storageFails()
	case <-ctx.Done():
	}
	return known
}

// look lets read look for an account in the background, and returns what it finds; nil if
// too many are looked for, or Close has been called.
func (p *Profiles) look(who subject.Subject, before *Known) <-chan *Known {
	select {
	case p.reads <- struct{}{}:
	default:
		return nil
	}
	found := make(chan *Known, 1)
	begun := p.background(func() {
		defer func() { <-p.reads }()
		found <- p.read(who, before)
	})
	if !begun {
		<-p.reads
		return nil
	}
	return found
}

// Sets returns which permission sets an account has granted, false if memory does not
// know; then it is looked for in the storage, for the next time. It never waits.
func (p *Profiles) Sets(who subject.Subject) (permission.Bits, bool) {
	known := p.memory.Get(who)
	if known == nil && time.Now().UnixNano() >= p.rest.Load() {
		p.look(who, nil)
	}
	if known == nil || known.learned.IsZero() {
		return permission.Bits{}, false
	}
	return known.sets, true
}

// read brings the profile of an account from the storage into memory and returns it. If
// there is none, it returns what was known before, and lets it be learnt. Of an account
// without a record that is done rarely: the path of a push is not signed, so somebody who
// has captured one may send it with appids that he has made up.
func (p *Profiles) read(who subject.Subject, before *Known) *Known {
	ctx, cancel := context.WithTimeout(p.ctx, readTimeout)
	defer cancel()
	records := p.settings().Vault
	stored, err := records.LoadProfile(ctx, who)
	if err == nil {
		if now := time.Now(); now.Sub(stored.Learned) >= renewAge {
			p.want(who, task{})
		}
		return p.remember(who, stored)
	}
	if !errors.Is(err, vault.ErrUnavailable) {
		_, err = records.Load(ctx, who)
	}
	if errors.Is(err, vault.ErrUnavailable) {
		p.storageFails()
		return before
	}
	p.postpone(who, before, unknownTime)
	if !errors.Is(err, vault.ErrNotFound) || p.mayAskOfStranger(who) {
		p.want(who, task{})
	}
	return before
}

func (p *Profiles) storageFails() { p.rest.Store(time.Now().Add(restTime).UnixNano()) }

// remember brings a profile into memory.
func (p *Profiles) remember(who subject.Subject, profile vault.Profile) *Known {
	known := &Known{
		userName: profile.UserName, kind: openapi.AccountKind(profile.Kind), sets: permission.Of(profile.Functions),
		learned: profile.Learned, until: time.Now().Add(memoryTime),
	}
	p.memory.Set(who, known)
	return known
}

// postpone makes memory say for a time what was known before, nil for nothing.
func (p *Profiles) postpone(who subject.Subject, before *Known, pause time.Duration) {
	known := new(Known)
	if before != nil {
		*known = *before
	}
	known.until = time.Now().Add(pause)
	p.memory.Set(who, known)
}

// background runs work for which Close waits. It reports false, and does nothing, once
// Close has been called. It returns at once.
func (p *Profiles) background(work func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return false
	}
	p.work.Go(work)
	return true
}

// Close ends all work, waits for it, and closes the memory. What was still to be learnt
// is learnt when the account is used again.
func (p *Profiles) Close() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.cancel()
	p.work.Wait()
	p.memory.Close()
}

var _ tokens.Profiles = (*Profiles)(nil)
