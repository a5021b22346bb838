// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

const (
	// maxExamination bounds an examination: two calls of WeChat, and the wait for a push
	// between them. The command line waits for a minute.
	maxExamination = 45 * time.Second
	// maxStorageProbe is how long the storage has for a lock and four operations.
	maxStorageProbe = 5 * time.Second
	// grace is how much longer a check is waited for that should have ended. Some storages
	// do not heed a context.
	grace = time.Second
)

// Hosts are the hosts of WeChat's API. It is an openapi.Client.
type Hosts interface {
	Probe(ctx context.Context) []openapi.Probed
}

// Doctor makes the examinations of a process, one at a time for each set of components:
// who asks for one that is running gets the same. It remembers what WeChat has answered
// when it was asked for a ticket, for it may be asked once a minute only. It is safe for
// concurrent use.
type Doctor struct {
	runs singleflight.Group
	life context.Context // ends with Close
	end  context.CancelFunc

	mu     sync.Mutex // guards all below
	closed bool
	work   sync.WaitGroup
	asked  map[string]asking // component → the last question
}

// asking is a question for a ticket, and what came of it.
type asking struct {
	at  time.Time
	err error
}

// result is a finding, and whether calls or pushes fail because of it.
type result struct {
	Finding
	broken bool
}

// NewDoctor returns a Doctor. Close ends its work.
func NewDoctor() *Doctor {
	life, end := context.WithCancel(context.Background())
	return &Doctor{life: life, end: end, asked: make(map[string]asking)}
}

// Close interrupts the examination that is running and waits for its end. After that
// there are none.
func (d *Doctor) Close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.end()
	d.work.Wait()
}

// begin reports whether an examination may begin, which calls work.Done then.
func (d *Doctor) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.work.Add(1)
	}
	return !d.closed
}

// ask asks WeChat for a ticket, or returns what came of it less than a minute ago.
func (d *Doctor) ask(ctx context.Context, engine Engine, component string) asking {
	now := asking{at: time.Now()}
	now.err = engine.RequestTicket(ctx, component)
	d.mu.Lock()
	defer d.mu.Unlock()
	if last, known := d.asked[component]; known && errors.Is(now.err, tokens.ErrAskedLately) {
		return last
	}
	d.asked[component] = now
	return now
}

// Diagnose examines the gateway, which takes some seconds, or fifteen more if WeChat has
// to be waited for. config is Caddy's configuration as JSON, as GET /config/ of its admin
// API answers it, or empty. It may have secrets in it, so nothing of it but the names of
// logs is kept or shown. The request's context does not end it: Caddy's admin API cancels
// that after ten seconds.
func (o *Operator) Diagnose(_ context.Context, query string, config io.Reader) (Diagnosis, error) {
	if _, err := parseQuery(query); err != nil {
		return Diagnosis{}, err
	}
	logs, err := readLogs(config)
	if err != nil {
		return Diagnosis{}, err
	}
	if !o.Doctor.begin() {
		return Diagnosis{}, &Error{Status: http.StatusServiceUnavailable, Text: "the gateway is stopping", Remedy: "make the request again when it runs"}
	}
	defer o.Doctor.work.Done()
	shared, _, _ := o.Doctor.runs.Do(strings.Join(o.Components, " "), func() (any, error) {
		ctx, cancel := context.WithTimeout(o.Doctor.life, maxExamination)
		defer cancel()
		return o.examine(ctx), nil
	})
	d := Diagnosis{Node: o.Node, Items: []Finding{}}
	var failed []string
	for _, r := range slices.Concat(shared.([]result), logs.check()) {
		d.Items = append(d.Items, r.Finding)
		switch {
		case r.OK:
			continue
		case r.broken:
			d.Level = LevelBroken
		default:
			d.Level = max(d.Level, LevelWarnings)
		}
		failed = append(failed, r.Check)
	}
	slices.Sort(failed) // several components may fail the same one
	o.did("doctor", o.Node, "", fmt.Sprintf("level=%d found=%s", d.Level, strings.Join(slices.Compact(failed), ",")), nil)
	return d, nil
}

// examine makes all checks at the same time, but for those that follow from others.
func (o *Operator) examine(ctx context.Context) (all []result) {
	var hosts []openapi.Probed
	var storage result
	components := make([][]result, len(o.Components))
	var checks errgroup.Group
	checks.Go(func() error { hosts = o.Hosts.Probe(ctx); return nil })
	checks.Go(func() error {
		storage = within(ctx, maxStorageProbe, wrong("storage", "", "it has not answered within "+maxStorageProbe.String(), storageRemedy).breaks(), o.checkStorage)
		return nil
	})
	for i, component := range o.Components {
		late := []result{wrong("ticket", component, "the checks have not ended within "+maxExamination.String(), "see the other findings; then run it again").breaks()}
		checks.Go(func() error {
			components[i] = within(ctx, maxExamination, late, func(ctx context.Context) []result { return o.checkComponent(ctx, component) })
			return nil
		})
	}
	_ = checks.Wait()                                                 // none fails
	all = append([]result{o.checkClock(hosts)}, checkHosts(hosts)...) // the clock is told by pushes as well, which came just now
	for _, found := range components {
		all = append(all, found...)
	}
	return append(all, storage, o.Site.check())
}

// within returns what check finds, or late if it has not ended after limit.
func within[T any](ctx context.Context, limit time.Duration, late T, check func(context.Context) T) T {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan T, 1)
	go func() { done <- check(ctx) }()
	overdue := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, func() { close(overdue) }) })
	defer stop()
	select {
	case found := <-done:
		return found
	case <-overdue:
		return late
	}
}

// well is the result of a check that has found nothing wrong. The component is "" for
// what is about all of them.
func well(check, component, format string, arguments ...any) result {
	return result{Finding: Finding{Check: check, OK: true, Component: component, Found: fmt.Sprintf(format, arguments...)}}
}

// wrong is the result of a check that has found something that an operator should look
// at.
func wrong(check, component, found, remedy string) result {
	return result{Finding: Finding{Check: check, Component: component, Found: found, Remedy: remedy}}
}

// breaks says that calls or pushes fail because of it.
func (r result) breaks() result {
	r.broken = true
	return r
}

// ago returns how long ago something was.
func ago(t time.Time) string { return time.Since(t).Round(time.Second).String() + " ago" }
