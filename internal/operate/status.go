// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// statusTimeout is how long Status waits for the storage.
	statusTimeout = 2 * time.Second
	// maxTicketAge is the age of a ticket from which on WeChat has left two pushes out.
	maxTicketAge = 25 * time.Minute
	// maxSilence is how long storage may fail before the gateway counts as broken.
	maxSilence = time.Minute
	// maxRefused is the age up to which it counts what WeChat has refused last to the
	// whole component: as long as that goes on, it is seldom older than a few seconds.
	maxRefused = 10 * time.Minute
	// maxWait is how long an event may wait before an operator should look at it.
	maxWait = 10 * time.Minute
)

// looked is what Status has found of one component.
type looked struct {
	ticket    vault.Ticket
	record    vault.Record
	failed    bool // the storage has not told
	unopened  bool // what it has told does not open
	stuck     tokens.Failure
	paused    []vault.Queue // targets that have answered 410
	component ComponentStatus
}

// Status tells whether the gateway is well. It reads the ticket and the record of each
// component, and waits for the storage no longer than two seconds.
func (o *Operator) Status(ctx context.Context, query string) (Status, error) {
	if _, err := parseQuery(query); err != nil {
		return Status{}, err
	}
	within, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	found := make([]looked, len(o.Components))
	var group errgroup.Group
	for i, component := range o.Components {
		group.Go(func() error {
			found[i] = o.look(within, component)
			return nil
		})
	}
	_ = group.Wait() // no look fails
	s := Status{Version: o.Version, Node: o.Node, Components: []ComponentStatus{}, Storage: o.storageStatus(), Unstored: o.Engine.Unsaved()}
	o.addQueues(found)
	for _, f := range found {
		s.Components = append(s.Components, f.component)
	}
	s.Warnings = o.warnings(s, found)
	for _, w := range s.Warnings {
		s.Level = max(s.Level, LevelWarnings)
		if w.Broken {
			s.Level = LevelBroken
		}
	}
	return s, nil
}

// look reads what is stored of a component, and adds what this node knows.
func (o *Operator) look(ctx context.Context, component string) looked {
	type read struct {
		ticket vault.Ticket
		record vault.Record
		err    error
	}
	done := make(chan read, 1) // a storage that does not heed ctx must not hold up the answer
	go func() {
		var r read
		var ofTicket, ofRecord error
		r.ticket, ofTicket = o.Vault.LoadTicket(ctx, component)
		r.record, ofRecord = o.Vault.Load(ctx, subject.Of(component, ""))
		r.err = errors.Join(ofTicket, ofRecord)
		done <- r
	}()
	var r read
	select {
	case r = <-done:
	case <-ctx.Done():
		r.err = ctx.Err()
	}
	last, _ := o.Engine.Health(subject.Of(component, ""))
	counts, counted := o.Census.Counts(component)
	l := looked{ticket: r.ticket, record: r.record, failed: errors.Is(r.err, vault.ErrUnavailable) || ctx.Err() != nil, component: ComponentStatus{
		Component: component, Received: r.ticket.Received.UTC(), LastRenewal: r.record.Obtained.UTC(), LastFailure: newFailure(last),
		Accounts: AccountCounts{
			Authorized: counts.Authorized, Unauthorized: counts.Withdrawn, NeedsAuthorization: counts.NeedsAdmin, Failing: counts.Failing, Counted: counted,
		},
	}}
	l.unopened = errors.As(r.err, new(*vault.Unreadable))
	if r.record.Token != nil {
		l.component.Expires = r.record.Expires.UTC()
	}
	if now := time.Now(); !l.failed && last.Time.After(r.record.Obtained) && !now.Before(r.record.Expires) {
		l.stuck = last
	}
	return l
}

// addQueues adds what waits for the targets of each component.
func (o *Operator) addQueues(found []looked) {
	for name, f := range o.Queues.Courier.Figures() {
		at := slices.Index(o.Components, name.Component)
		if at < 0 {
			continue
		}
		q := &found[at].component.Queues
		q.Waiting += f.Waiting
		q.Dead += f.Dead
		if !f.Oldest.IsZero() && (q.Oldest.IsZero() || f.Oldest.Before(q.Oldest)) {
			q.Oldest = f.Oldest.UTC()
		}
		if f.Paused {
			found[at].paused = append(found[at].paused, name)
		}
	}
}

// fails reports whether the last operation of the storage has failed.
func fails(health metrics.StorageHealth) bool { return health.LastFailure.After(health.LastSuccess) }

func (o *Operator) storageStatus() StorageStatus {
	health := o.Storage()
	s := StorageStatus{OK: !fails(health)}
	if !health.LastFailure.IsZero() {
		s.LastFailure = Failure{
			Time: health.LastFailure.UTC(), Text: "storage: " + health.Operation + " has failed",
			Remedy: "check Caddy's storage, the log says what has failed: meanwhile only tokens in memory are served, until they expire",
		}
	}
	return s
}

// warnings returns what an operator should look at, what is broken first.
func (o *Operator) warnings(s Status, found []looked) []Warning {
	all := []Warning{}
	if health := o.Storage(); fails(health) {
		broken := time.Since(health.LastSuccess) > maxSilence
		all = append(all, Warning{s.Storage.LastFailure.Text, s.Storage.LastFailure.Remedy, broken})
	}
	if s.Unstored > 0 {
		all = append(all, Warning{Text: fmt.Sprintf("%d records with new tokens are in the memory of this node alone", s.Unstored), Remedy: "check Caddy's storage before you stop this node"})
	}
	for _, f := range found {
		all = append(all, o.ofComponent(f)...)
		all = append(all, ofQueues(f)...)
	}
	slices.SortStableFunc(all, func(a, b Warning) int {
		switch {
		case a.Broken == b.Broken:
			return 0
		case a.Broken:
			return -1
		}
		return 1
	})
	return all
}

// ofComponent returns what is to be said of the tickets, the token and the accounts of a
// component.
func (o *Operator) ofComponent(f looked) (all []Warning) {
	name := "component " + f.component.Component
	say := func(broken bool, remedy, format string, arguments ...any) {
		all = append(all, Warning{Text: name + ": " + fmt.Sprintf(format, arguments...), Remedy: remedy, Broken: broken})
	}
	const noPush = "caddy wechat doctor tells why: compare the events URL, token and EncodingAESKey with those in WeChat's console"
	age := time.Since(f.ticket.Received)
	switch {
	case f.failed:
		say(true, "check Caddy's storage", "the storage has not told of its ticket and its token within %v", statusTimeout)
	case f.unopened:
		say(true, "if seal_key was changed, add the previous key; else WeChat's next push and the next renewal replace them", "its stored ticket or token does not open")
	case f.ticket.Received.IsZero():
		say(true, noPush, "no component_verify_ticket has come yet; WeChat pushes one every ten minutes")
	case age >= maxTicketAge:
		say(true, noPush, "the last component_verify_ticket came %v ago; WeChat pushes one every ten minutes", age.Truncate(time.Minute))
	}
	if !f.stuck.Time.IsZero() {
		say(true, f.stuck.Remedy, "its token has ended and no other can be had: %s", f.stuck.Text)
	}
	if refused, at := o.Advisor.Last(subject.Of(f.component.Component, "")); !at.IsZero() && time.Since(at) < maxRefused {
		say(false, refused.Remedy, "%s; the last time %s", refused.Text, ago(at))
	}
	if genuine, _ := o.Pushes.Latest(f.component.Component); genuine.Previous {
		say(false, "keep the previous one in the configuration until this warning is gone", "WeChat still pushes with the previous token or EncodingAESKey")
	}
	if n := f.component.Accounts.NeedsAuthorization; n > 0 {
		say(false, "an admin of each must authorise the platform again; which: caddy wechat accounts --state needs_authorization", "accounts that must be authorised again: %d", n)
	}
	if n := f.component.Accounts.Failing; n > 0 {
		say(false, "which, and why: caddy wechat accounts --state failing, then caddy wechat account <appid>", "accounts for which no token can be had: %d", n)
	}
	return all
}

// ofQueues returns what is to be said of the deliveries under a component.
func ofQueues(f looked) (all []Warning) {
	name, q := "component "+f.component.Component+": ", f.component.Queues
	if !q.Oldest.IsZero() && time.Since(q.Oldest) > maxWait {
		all = append(all, Warning{
			Text:   fmt.Sprintf("messages and events wait for applications, %d of them, the oldest for %v", q.Waiting, time.Since(q.Oldest).Truncate(time.Minute)),
			Remedy: "caddy wechat events list tells which, and what each application answers",
		})
	}
	if q.Dead > 0 {
		all = append(all, Warning{
			Text:   fmt.Sprintf("messages and events that were given up: %d", q.Dead),
			Remedy: "caddy wechat events list --state dead tells why; then replay or discard them",
		})
	}
	for _, gone := range f.paused {
		all = append(all, Warning{
			Text:   fmt.Sprintf("target %s of client %s wants nothing any more: it has answered 410", gone.Target, gone.Client),
			Remedy: "take its deliver block out of the configuration; or let it answer 2xx, then caddy wechat events test --client " + gone.Client,
		})
	}
	for i := range all {
		all[i].Text = name + all[i].Text
	}
	return all
}
