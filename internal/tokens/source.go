// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// maxAhead is how many renewals ahead calls may start at a time. Nobody waits
	// for them, and a burst of calls for many accounts that are due must not fill
	// memory. (Keeper.Recheck starts one of an account in ten minutes at most.)
	maxAhead = 100
	// maxVaultReads is how many callers of current read the storage themselves at a
	// time. A file system that hangs lets nobody go, and of those who only want a
	// token these are all that it may hold; the others wait for a renewal, and can
	// leave.
	maxVaultReads = 16
)

// source serves the tokens of one level, of components or of authorizers, and
// renews each once in the whole cluster. Memory is asked first, then the vault,
// then WeChat. Whatever WeChat issues is stored before it is served, or, while
// storage fails, kept in memory and stored later.
//
// One renewal passes these methods: current finds no live token; wait and fetch join
// the renewal of this node that callers wait for (there may be another one, of a
// token that is due or rejected); obtain reads the record; renewLocked takes the lock
// of the cluster and reads the record again; renew asks WeChat and saves. Current,
// obtain and renewLocked end early if somebody else has renewed the token meanwhile.
//
// If a process dies while it holds the lock, the storage frees the lock after some
// seconds and another process renews. WeChat may then have issued a token that
// nobody has: the next one replaces it.
type source struct {
	*records

	// issue asks WeChat for a new token and returns the record with it; with an error,
	// what has been found out of the account. The caller holds the storage lock of who.
	// An operator who urges is not told what was found out a while ago.
	issue func(ctx context.Context, who subject.Subject, record vault.Record, urged bool) (vault.Record, error)

	// before does what has to be done before a renewal; nil if there is nothing.
	// Its error ends the renewal only of a record without a refresh token.
	before func(ctx context.Context, who subject.Subject, record vault.Record) error

	// limitsLookups says that issue may look up, at WeChat, a subject of which nothing
	// is stored: each client has a ration of these look-ups.
	limitsLookups bool

	slots *slots
}

// wanted is what kind of token a renewal is to bring.
type wanted struct {
	old    *Token // any other one; nil if there is none
	forced bool   // old was rejected: such renewals are limited
	lookup bool   // a subject of which nothing is stored may be looked up
	urged  bool   // an operator wants it
}

var (
	errUnknown = errors.New("nothing is stored of the account")
	errNotDue  = errors.New("rejected tokens were renewed too often to do it again now")
)

// slots bounds what all sources of a Keeper do at a time.
type slots struct {
	ahead chan struct{} // holds an element per renewal ahead
	reads chan struct{} // holds an element per caller in fromVault
}

func newSlots() *slots {
	return &slots{ahead: make(chan struct{}, maxAhead), reads: make(chan struct{}, maxVaultReads)}
}

// current returns a token of who, see Keeper.Current. Most calls end with the
// first look into memory: no lock, no storage, no allocation.
func (s *source) current(ctx context.Context, who subject.Subject, client string) (*Token, error) {
	token := s.memory.Get(who)
	var err error
	if token == nil {
		if token, err = s.fromVault(ctx, who); err != nil {
			return nil, err
		}
	}
	now := time.Now()
	if !token.live(now) {
		if token, err = s.wait(ctx, who, client); err != nil {
			return nil, err
		}
		now = time.Now()
	}
	// Wherever it comes from, it may be due: nobody else may call here before it ends.
	// Many callers find the token due at the same time. The swap lets one of them
	// start a renewal, and the next one a second later if that has failed.
	if due := token.due.Load(); now.UnixNano() >= due &&
		token.due.CompareAndSwap(due, now.Add(time.Second).UnixNano()) {
		s.renewAhead(who, token)
	}
	return token, nil
}

// fromVault brings who's token from the vault into memory; nil without an error
// means that wait has to find one, or to say why there is none. It runs on the
// caller's own goroutine: to wake another one, and to be woken by it, would cost
// more than the reading. At most maxVaultReads callers are here at a time.
func (s *source) fromVault(ctx context.Context, who subject.Subject) (*Token, error) {
	if s.health.CoolingDown(healthKey{who, renewal}, time.Now()) != nil {
		return nil, nil
	}
	select {
	case s.slots.reads <- struct{}{}:
		defer func() { <-s.slots.reads }()
	default:
		return nil, nil
	}
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.work.Done()
	limited, cancel := context.WithTimeout(s.ctx, renewTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	record, err := s.load(limited, who)
	switch {
	case recoverable(err), err != nil && ctx.Err() != nil: // where a caller leaves, wait reads on for the next
		return nil, nil
	case err != nil:
		return nil, err
	}
	token := s.tokenOf(who, record)
	if now := time.Now(); !token.live(now) || !s.remember(who, token).live(now) {
		return nil, nil
	}
	return token, nil
}

// renewAhead renews a token that is soon due, in the background, and returns at
// once. If too many others are being renewed it does nothing: a later call finds
// the token due again.
func (s *source) renewAhead(who subject.Subject, token *Token) {
	select {
	case s.slots.ahead <- struct{}{}:
	default:
		return
	}
	s.background(func() {
		defer func() { <-s.slots.ahead }()
		_, _ = s.fetch(s.ctx, who, Itself, wanted{old: token})
	})
}

// wait returns a token of who where there is none that is live. A caller that joined
// a renewal whose token was revoked before it returned looks once more.
func (s *source) wait(ctx context.Context, who subject.Subject, client string) (*Token, error) {
	for range 2 {
		token, err := s.fetch(ctx, who, client, wanted{})
		if err != nil {
			return nil, err
		}
		if !s.health.IsRevoked(who, token.Value) {
			return token, nil
		}
	}
	return nil, problem.ErrUnauthorized
}

// fetch joins or starts the one renewal of this kind on this node, see join, and
// waits no longer than ctx. If nothing is stored of who, it is looked up, within what
// client may ask: the look-ups of one client are not waited for by another.
func (s *source) fetch(ctx context.Context, who subject.Subject, client string, want wanted) (*Token, error) {
	token, err := await[*Token](ctx, s.join(string(who)+want.kind(), func(ctx context.Context) (any, error) {
		return s.obtain(ctx, who, want)
	}))
	if !errors.Is(err, errUnknown) {
		return token, err
	}
	want.lookup = true
	return await[*Token](ctx, s.join(string(who)+" look-up "+client, func(ctx context.Context) (any, error) {
		return s.lookUp(ctx, who, client, want)
	}))
}

// kind tells the renewals apart that callers wait for: those who have no token do not
// wait for a renewal of a token that others still use, and an operator not for one that
// asks less.
func (w wanted) kind() string {
	switch {
	case w.urged:
		return " urged"
	case w.old == nil:
		return ""
	}
	return " ahead"
}

// lookUp is obtain for a subject of which nothing is stored, if client has not asked
// for too many that turned out to be unknown.
func (s *source) lookUp(ctx context.Context, who subject.Subject, client string, want wanted) (token *Token, err error) {
	limited := s.health.LookupLimiter(who.Component(), client).Do(ctx, func() (futile bool) {
		token, err = s.obtain(ctx, who, want)
		return isFutile(err)
	})
	if errors.Is(limited, problem.ErrRationed) {
		s.rationed(who, client)
	}
	if limited != nil {
		return nil, limited
	}
	return token, err
}

// isFutile reports whether a look-up has spent a question at WeChat for nothing: there
// is no such account, or WeChat has refused or failed. It has not if it failed before
// that, for want of storage or of a component token.
func isFutile(err error) bool {
	switch {
	case err == nil, errors.Is(err, vault.ErrUnavailable), errors.Is(err, context.Canceled):
		return false
	case errors.Is(err, problem.ErrNoTicket), errors.Is(err, problem.ErrNoComponent), errors.Is(err, problem.ErrRejected):
		return false
	}
	return true
}

// obtain finds a live token of who other than want.old: in the vault, or by renewing
// it with WeChat, unless who is cooling down after a failure on this node. An account
// that has withdrawn is served nothing.
func (s *source) obtain(ctx context.Context, who subject.Subject, want wanted) (*Token, error) {
	record, err := s.load(ctx, who)
	if err != nil && !recoverable(err) {
		return nil, err
	}
	if token := s.tokenOf(who, record); token.replaces(want.old, time.Now()) {
		return s.remember(who, token), nil
	}
	if err := s.health.CoolingDown(healthKey{who, renewal}, time.Now()); err != nil {
		return nil, err
	}
	if s.limitsLookups && record.Generation == 0 && !want.lookup {
		return nil, errUnknown
	}
	return s.renewLocked(ctx, who, record, want)
}

// renewLocked renews who under the storage lock, unless another node was faster. It
// looks again after every wait: at the record while it waits for the lock and when it has it, and at the
// cool-down, because another goroutine that held the lock before may have failed.
func (s *source) renewLocked(ctx context.Context, who subject.Subject, record vault.Record, want wanted) (*Token, error) {
	if s.before != nil {
		if err := s.before(ctx, who, record); err != nil && record.Refresh == nil {
			return nil, err
		}
	}
	var found *Token
	unlock, err := s.lockUnless(ctx, who, func() bool {
		record, err := s.load(ctx, who)
		if err == nil {
			found = s.tokenOf(who, record)
		}
		return found.replaces(want.old, time.Now())
	})
	if err != nil {
		return nil, err
	}
	if unlock == nil {
		return s.remember(who, found), nil
	}
	defer unlock()
	record, err = s.loadForUpdate(ctx, who)
	if err != nil {
		return nil, err
	}
	if token := s.tokenOf(who, record); token.replaces(want.old, time.Now()) {
		return s.remember(who, token), nil
	}
	if err := s.health.CoolingDown(healthKey{who, renewal}, time.Now()); err != nil {
		return nil, err
	}
	return s.renew(ctx, who, record, want)
}

// renew lets WeChat issue a new token of who, saves it, and then returns it. A
// token that storage does not take is returned all the same, because it exists
// nowhere else: save goes on trying. The caller holds the lock.
func (s *source) renew(ctx context.Context, who subject.Subject, record vault.Record, want wanted) (*Token, error) {
	forced := want.forced && time.Now().Before(want.old.Expires)
	if forced && !s.health.ForcedIsDue(who, time.Now()) {
		return nil, errNotDue
	}
	refused := want.forced || !s.tokenOf(who, record).live(time.Now())
	record, err := s.issue(ctx, who, record, want.urged)
	if errors.Is(err, problem.ErrUnauthorized) {
		s.drop(who)
	}
	if err != nil {
		if trouble := s.troubleOf(who, err, refused); trouble != vault.NoTrouble {
			s.bringNews(who, record, trouble, err)
		}
		return nil, s.renewalFailed(who, err)
	}
	record, _ = s.save(ctx, who, record)
	token := s.tokenOf(who, record)
	if token == nil { // the lock was lost, and who had it next wrote a tombstone
		return nil, s.renewalFailed(who, problem.ErrUnauthorized)
	}
	s.health.Reset(healthKey{who, renewal})
	s.bringNews(who, record, vault.NoTrouble, nil)
	if forced && s.health.Forced(who, time.Now()) {
		s.log(who).Error("tokens die soon after they were issued; from now on a rejected one is renewed once a minute",
			zap.Int("renewals_within_an_hour", maxForcedHourly),
			zap.String("remedy", "stop the other process that renews tokens with the same credentials"))
	}
	countRenewed(who)
	s.log(who).Info("token renewed", zap.Uint64("generation", record.Generation), zap.Time("expires", record.Expires))
	return s.remember(who, token), nil
}

func (s *source) renewalFailed(who subject.Subject, err error) error {
	return s.failed(renewalFailing, who, healthKey{who, renewal}, err)
}
