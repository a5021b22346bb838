// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// renewAge is the age from which on a profile is learnt anew, when its account is used:
	// names change, and an event may be lost.
	renewAge = 30 * 24 * time.Hour
	// doTimeout is the time of one task: for a lock that a killed process left behind
	// (about 11 s in file system storage), and for WeChat.
	doTimeout = 30 * time.Second
	// refusedTime is how long it is believed that an account is none of the component's.
	refusedTime = time.Hour
)

// do does one task, and reports whether WeChat has answered a question. If WeChat is
// asked, the answer becomes another task, see Learned.
func (p *Profiles) do(who subject.Subject, t task, q *queue) (answered bool, err error) {
	if t.found != nil {
		return false, p.save(p.ctx, who, *t.found)
	}
	if done, err := p.isLearned(who, t.since); done || err != nil {
		return false, err
	}
	if t.since.IsZero() { // merely used: the node where it has just authorised may be about to store it
		if !backoff.Wait(p.ctx, askInterval) {
			return false, p.ctx.Err()
		}
		if done, err := p.isLearned(who, t.since); done || err != nil {
			return false, err
		}
	}
	if err := q.limiter.Wait(p.ctx); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(p.ctx, doTimeout)
	defer cancel()
	p.setAsking(q, who)
	defer p.setAsking(q, "")
	err = p.ask(ctx, who)
	if openapi.SaysForeign(err) {
		p.postpone(who, p.memory.Get(who), refusedTime)
		return true, nil
	}
	return err == nil, err
}

// isLearned reports whether nothing has to be learnt of an account: the storage has a
// profile from since or later that is neither too old nor older than the last
// authorisation event, the account has withdrawn, or the profile is that of a newer
// release, which is left alone. It brings the profile into memory. Its errors are those
// of the storage.
func (p *Profiles) isLearned(who subject.Subject, since time.Time) (bool, error) {
	ctx, cancel := context.WithTimeout(p.ctx, doTimeout)
	defer cancel()
	records := p.settings().Vault
	stored, err := records.LoadProfile(ctx, who)
	switch {
	case errors.Is(err, vault.ErrUnavailable):
		return false, err
	case errors.Is(err, vault.ErrNewer):
		p.postpone(who, p.memory.Get(who), memoryTime)
		return true, nil
	case err == nil:
		p.remember(who, stored)
	}
	record, failure := records.Load(ctx, who)
	switch {
	case errors.Is(failure, vault.ErrUnavailable):
		return false, failure
	case failure == nil && record.State == vault.Unauthorized:
		p.postpone(who, p.memory.Get(who), memoryTime)
		return true, nil
	}
	if record.EventTime.After(since) {
		since = record.EventTime
	}
	return err == nil && !stored.Learned.Before(since) && time.Since(stored.Learned) < renewAge, nil
}

// Save implements [tokens.Profiles]: an operator waits until the profile is stored.
func (p *Profiles) Save(ctx context.Context, who subject.Subject, info openapi.AuthorizerInfo, asked time.Time) error {
	return p.save(ctx, who, profileOf(info, asked))
}

// profileOf returns the profile in what WeChat has answered of an account, asked at that
// time.
func profileOf(info openapi.AuthorizerInfo, asked time.Time) vault.Profile {
	return vault.Profile{
		UserName: info.UserName, Name: info.NickName, Principal: info.PrincipalName, Kind: string(info.Kind), Functions: info.Functions, Learned: asked,
	}
}

// save stores a profile and, if its permission sets are others than those stored, tells
// the applications first. Both happen under the lock, so that a cluster tells once. If
// the process dies in between, it is told again, with the same id.
// It waits no longer than ctx.
func (p *Profiles) save(ctx context.Context, who subject.Subject, profile vault.Profile) error {
	p.remember(who, profile)
	ctx, cancel := context.WithTimeout(ctx, doTimeout)
	defer cancel()
	s := p.settings()
	unlock, err := s.Vault.LockProfile(ctx, who)
	if err != nil {
		return err
	}
	defer unlock() // if that fails, the lock expires by itself
	stored, err := s.Vault.LoadProfile(ctx, who)
	switch {
	case errors.Is(err, vault.ErrUnavailable):
		return err
	case errors.Is(err, vault.ErrNewer), stored.Learned.After(profile.Learned):
		return nil
	}
	if news, changed := changeOf(who, stored, profile); err == nil && changed && s.News != nil {
		if err := s.News(ctx, news); err != nil {
			return fmt.Errorf("queueing %s: %w", news.InfoType, err)
		}
	}
	return s.Vault.StoreProfile(ctx, who, profile)
}

// changeOf returns the news that the permission sets of an account are others than
// before. It reports false if they are the same.
func changeOf(who subject.Subject, before, after vault.Profile) (tokens.News, bool) {
	granted, withdrawn := without(after.Functions, before.Functions), without(before.Functions, after.Functions)
	if len(granted) == 0 && len(withdrawn) == 0 {
		return tokens.News{}, false
	}
	var changes []string
	for _, each := range []struct {
		what string
		sets []int
	}{{"granted", granted}, {"withdrawn", withdrawn}} {
		if len(each.sets) > 0 {
			changes = append(changes, each.what+" "+strings.Trim(strings.ReplaceAll(fmt.Sprint(each.sets), " ", ", "), "[]"))
		}
	}
	return tokens.News{
		Component: who.Component(), AppID: who.Authorizer(), InfoType: tokens.InfoPermissionsChanged, Time: after.Learned,
		Occurrence: before.Learned.UTC().Format(time.RFC3339Nano),
		Reason:     "the permission sets that the account has granted are others than before: " + strings.Join(changes, "; "),
	}, true
}

// without returns the numbers in sets that are not in others, in ascending order.
func without(sets, others []int) []int {
	rest := slices.DeleteFunc(slices.Clone(sets), func(id int) bool { return slices.Contains(others, id) })
	slices.Sort(rest)
	return slices.Compact(rest)
}
