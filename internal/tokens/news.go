// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// newsPatience is how long it is tried to note, and to tell, how it is with an account
// while storage fails.
const newsPatience = time.Hour

// condition is what an account was found to be in.
type condition struct {
	who     subject.Subject
	trouble vault.Trouble
}

// report is the work of noting a condition, and of telling the applications of it.
type report struct {
	condition
	seen   vault.Record // how the record was when the condition was found
	found  time.Time
	note   vault.Note      // why it is in trouble
	queued map[string]bool // the InfoTypes whose news are queued, but perhaps not noted yet
}

// troubleOf returns what trouble a renewal is in that has failed with err: none if the
// account has withdrawn, if the failure is not its own, or if nobody has noticed it.
// refused says that callers are without a token because of it.
func (b *base) troubleOf(who subject.Subject, err error, refused bool) vault.Trouble {
	switch {
	case errors.Is(err, problem.ErrNeedsAdmin):
		return vault.NeedsAuthorization
	case !refused, errors.Is(err, problem.ErrUnauthorized), !b.isOwn(who, err):
		return vault.NoTrouble
	}
	return vault.RenewalsFail
}

// meets returns the time to be noted in the record of an account that the gateway has
// just met; zero if nobody wants to know.
func (b *base) meets() time.Time {
	if b.settings().News == nil {
		return time.Time{}
	}
	return time.Now()
}

// bringNews makes sure, in the background, that the record says how it is with an
// account, and that the applications know it, if any want to: trouble is what it was
// found to be in when its record was seen, and cause what it failed with; nil if it is in
// none. Nothing is told twice, by whatever node: what was told stands in the record, which
// is changed under its lock when the news are queued. If the process dies in between,
// they are queued again, with the same id.
func (r *records) bringNews(who subject.Subject, seen vault.Record, trouble vault.Trouble, cause error) {
	known := trouble == seen.Trouble || isWorse(seen.Trouble, trouble)
	untold := !seen.Met.IsZero() && r.settings().News != nil
	if who.IsComponent() || known && !untold {
		return
	}
	if seen.Generation == 0 && (seen.Met.IsZero() || trouble == vault.RenewalsFail) {
		return // nothing is known of it: somebody tries appids
	}
	c := condition{who, trouble}
	if _, at := r.bringing.LoadOrStore(c, true); at {
		return
	}
	due := report{condition: c, seen: seen, found: time.Now(), queued: make(map[string]bool)}
	if cause != nil {
		due.note = noteOf(cause, due.found)
	}
	r.background(func() {
		defer r.bringing.Delete(c)
		var err error
		for attempt := 1; time.Since(due.found) < newsPatience; attempt++ {
			if err = r.tryToTell(due); err == nil {
				return
			}
			if attempt == 1 {
				r.log(who).Warn("telling applications of an account failed, will be tried again", zap.Error(err))
			}
			if !backoff.Wait(r.ctx, backoff.Jitter(backoff.Delay(attempt, time.Second, time.Minute))) {
				return // whoever finds the same after a restart tells of it
			}
		}
		r.log(who).Error("telling applications of an account given up", zap.String("trouble", string(trouble)), zap.Error(err))
	})
}

// tryToTell takes the lock of a record and tells of it. It waits while too many others
// are being noted.
func (r *records) tryToTell(due report) error {
	select {
	case r.telling <- struct{}{}:
		defer func() { <-r.telling }()
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
	ctx, cancel := context.WithTimeout(r.ctx, renewTimeout)
	defer cancel()
	return r.locked(ctx, due.who, func(record vault.Record) error { return r.tell(ctx, due, record) })
}

// isWorse reports whether an account that needs authorization fails besides: nothing
// that is to be told.
func isWorse(told, trouble vault.Trouble) bool {
	return told == vault.NeedsAuthorization && trouble == vault.RenewalsFail
}

// tell queues the news that a report and the record, as it is now, have in them, and
// notes them in the record. What has been overtaken since is not told. Without anybody who
// takes news, that an account was met stays noted. The caller holds
// the lock. The error is that of storage.
func (r *records) tell(ctx context.Context, due report, record vault.Record) error {
	if record.Generation == 0 && due.trouble == vault.NeedsAuthorization {
		record.Met = due.seen.Met // WeChat knows the account: else nothing is stored of appids that somebody tries
	}
	if record.State == vault.Unauthorized || record.Generation == 0 && record.Met.IsZero() {
		return nil
	}
	var news []News
	queue := r.settings().News
	changed := !record.Met.IsZero() && queue != nil
	if changed {
		news = append(news, found(record))
		record.Met = time.Time{}
	}
	switch {
	case due.trouble == record.Trouble, isWorse(record.Trouble, due.trouble):
	case due.trouble == vault.NoTrouble:
		if record.TroubleSince.Equal(due.seen.TroubleSince) && record.Token != nil {
			news = append(news, recovered(record, due.found))
			record.Trouble, record.TroubleSince, changed = vault.NoTrouble, time.Time{}, true
		}
	case record.Obtained.Equal(due.seen.Obtained): // else it was renewed meanwhile
		if due.trouble == vault.NeedsAuthorization {
			news = append(news, lost(record, due.found))
		}
		record.Trouble, record.TroubleSince, record.Note, changed = due.trouble, due.found, due.note, true
	}
	if !changed {
		return nil
	}
	if queue != nil {
		if err := due.queueNews(ctx, queue, news); err != nil {
			return err
		}
	}
	_, err := r.store(ctx, due.who, record)
	return err
}

// queueNews queues the news of a report, each once.
func (due report) queueNews(ctx context.Context, queue func(context.Context, News) error, news []News) error {
	for _, n := range news {
		if due.queued[n.InfoType] {
			continue
		}
		n.Component, n.AppID = due.who.Component(), due.who.Authorizer()
		if err := queue(ctx, n); err != nil {
			return fmt.Errorf("queueing %s: %w", n.InfoType, err)
		}
		due.queued[n.InfoType] = true
	}
	return nil
}

// found is the news that the account of a record was met.
func found(record vault.Record) News {
	return News{InfoType: InfoAccountFound, Occurrence: occurrence(record.Met), Time: record.Met,
		Reason: "WeChat says that the account has authorised the platform; no event has told of it"}
}

// lost is the news that the refresh token of a record is lost.
func lost(record vault.Record, at time.Time) News {
	return News{InfoType: InfoNeedsAuthorization, Occurrence: occurrence(record.Obtained, record.EventTime), Time: at,
		Reason: "WeChat no longer accepts the refresh token of the account, and tells no other one",
		Remedy: authoriseAgain}
}

// recovered is the news that the trouble of a record is over.
func recovered(record vault.Record, at time.Time) News {
	reason := "the token of the account, for want of which calls were refused, can be renewed again"
	if record.Trouble == vault.NeedsAuthorization {
		reason = "the account, which needed authorisation, works again"
	}
	return News{InfoType: InfoRecovered, Occurrence: occurrence(record.TroubleSince), Time: at, Reason: reason}
}

// occurrence names what has happened by times in the record, which all nodes share.
func occurrence(times ...time.Time) (name string) {
	for _, t := range times {
		name += t.UTC().Format(time.RFC3339Nano) + " "
	}
	return name
}
