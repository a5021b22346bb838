// SPDX-License-Identifier: Apache-2.0

package operate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-wechat/caddy-wechat/internal/advice"
	"github.com/caddy-wechat/caddy-wechat/internal/audit"
	"github.com/caddy-wechat/caddy-wechat/internal/census"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/usage"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const component2 = "wx1111111111111111"

// office is an operator, and what he looks at.
type office struct {
	*operate.Operator
	*world
	engine *engine
	census *people
	hosts  *hosts
	health metrics.StorageHealth
	audit  *observer.ObservedLogs
}

func newOffice(t *testing.T) *office {
	t.Helper()
	w := newWorld(t)
	core, lines := observer.New(zap.InfoLevel)
	f := &office{world: w, engine: newEngine(), census: new(people), hosts: new(hosts), audit: lines}
	f.health = metrics.StorageHealth{LastSuccess: time.Now()}
	f.Operator = &operate.Operator{
		By: "admin", Version: "v1.2.3", Node: "node-a", Began: start,
		Components: []string{component}, Vault: w.Settings.Vault, Engine: f.engine, Census: f.census, Queues: w.Queues,
		Clients: []operate.Client{
			{Name: "all", Component: component, All: true},
			{Name: "none", Component: component},
			{Name: "other", Component: component2, All: true},
			{Name: "shop", Component: component},
		},
		Pushes: new(pushlog.Log), Usage: usage.New(), Advisor: advice.NewAdvisor(), Audit: audit.New(zap.New(core), audit.Off),
		Storage: func() metrics.StorageHealth { return f.health }, Hosts: f.hosts, Doctor: operate.NewDoctor(), Site: new(operate.Site),
	}
	t.Cleanup(f.Operator.Audit.Stop)
	t.Cleanup(f.Operator.Doctor.Close)
	return f
}

// number returns the appid of the account with this number.
func number(n int) string { return fmt.Sprintf("wx%016x", n) }

// grants lets client shop act for accounts.
func (f *office) grants(appids ...string) {
	operate.Sort(appids)
	f.Clients[3].Accounts = appids
}

// store stores the record of an account, which the census knows then.
func (f *office) store(appid string, r vault.Record) {
	f.t.Helper()
	who := subject.Of(component, appid)
	stored, err := f.Vault.Store(f.t.Context(), who, r)
	if err != nil {
		f.t.Fatal(err)
	}
	f.census.add(appid, stored.Standing())
}

// profile stores the profile of an account.
func (f *office) profile(appid string, p vault.Profile) {
	f.t.Helper()
	if err := f.Vault.StoreProfile(f.t.Context(), subject.Of(component, appid), p); err != nil {
		f.t.Fatal(err)
	}
}

// actions returns the lines of the audit: action, object, before, after.
func (f *office) actions() (lines []string) {
	for _, line := range f.audit.TakeAll() {
		m := line.ContextMap()
		lines = append(lines, fmt.Sprintf("%v %v %v: %v → %v", m["operator"], m["action"], m["object"], m["before"], m["after"]))
	}
	return lines
}

// authorized is the record of an account that works.
func authorized() vault.Record {
	return vault.Record{
		Token: secret.New("TOKEN"), Refresh: secret.New("REFRESH"), Obtained: start, Expires: start.Add(2 * time.Hour),
		EventTime: start.Add(-time.Hour), Functions: []int{1, 99999},
	}
}

// people is a census of what it is told.
type people struct {
	mu     sync.Mutex
	all    []string
	noted  map[vault.Standing][]string
	counts census.Counts
	wrong  []string
	err    error
}

func (p *people) add(appid string, st vault.Standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.all, appid) {
		p.all = append(p.all, appid)
		operate.Sort(p.all)
	}
	if st != vault.Stands {
		p.note(appid, st)
	}
}

func (p *people) note(appid string, st vault.Standing) {
	if p.noted == nil {
		p.noted = make(map[vault.Standing][]string)
	}
	p.noted[st] = append(p.noted[st], appid)
	operate.Sort(p.noted[st])
}

func (p *people) Counts(string) (census.Counts, bool) { return p.counts, true }

func (p *people) Page(_ context.Context, of, after string, limit int) ([]string, bool, error) {
	if of != component {
		return nil, false, p.err
	}
	return p.cut(p.all, after, limit)
}

func (p *people) Noted(_ context.Context, of string, st vault.Standing, after string, limit int) ([]string, bool, error) {
	if of != component {
		return nil, false, p.err
	}
	return p.cut(p.noted[st], after, limit)
}

func (p *people) cut(all []string, after string, limit int) ([]string, bool, error) {
	if p.err != nil {
		return nil, false, p.err
	}
	at := 0
	for after != "" && at < len(all) && !isAfter(all[at], after) {
		at++
	}
	all = all[at:]
	return all[:min(limit, len(all))], len(all) > limit, nil
}

func isAfter(appid, after string) bool {
	both := []string{appid, after}
	operate.Sort(both)
	return appid != after && both[0] == after
}

func (p *people) Wrong(_, appid string, listed vault.Standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, appid+" "+string(listed))
}

// engine does what it is told.
type engine struct {
	did     []string
	err     error
	onRenew func(who subject.Subject)
	last    map[subject.Subject]tokens.Failure
	cooling map[subject.Subject]time.Time
	unsaved int
	synced  tokens.Synced
	onAsk   func(ctx context.Context, component string) error
	tried   error // what comes of TryComponent
}

func newEngine() *engine {
	return &engine{last: make(map[subject.Subject]tokens.Failure), cooling: make(map[subject.Subject]time.Time)}
}

func (e *engine) do(what string, who subject.Subject) error {
	e.did = append(e.did, what+" "+string(who))
	if e.onRenew != nil {
		e.onRenew(who)
	}
	return e.err
}

func (e *engine) Health(who subject.Subject) (tokens.Failure, time.Time) {
	return e.last[who], e.cooling[who]
}
func (e *engine) Renew(_ context.Context, who subject.Subject) (time.Time, error) {
	return time.Time{}, e.do("renew", who)
}
func (e *engine) Reread(_ context.Context, who subject.Subject) error { return e.do("reread", who) }
func (e *engine) Forget(_ context.Context, who subject.Subject) error { return e.do("forget", who) }
func (e *engine) IsUnsaved(who subject.Subject) bool                  { return e.unsaved > 0 && !who.IsComponent() }
func (e *engine) Unsaved() int                                        { return e.unsaved }
func (e *engine) SyncPage(_ context.Context, of string, offset int) (tokens.Synced, error) {
	return e.synced, e.do(fmt.Sprintf("sync %d", offset), subject.Of(of, ""))
}

func (e *engine) RequestTicket(ctx context.Context, of string) error {
	if e.onAsk != nil {
		return e.onAsk(ctx, of)
	}
	return nil
}
func (e *engine) TryComponent(context.Context, string) error { return e.tried }

// What cannot be meant is refused with what to do, by every request.
func TestEachRequestNamesMistakesWithTheirRemedy(t *testing.T) {
	f := newOffice(t)
	f.store(number(1), authorized())
	f.put("shop/main", 1, false)
	one, two := []string{component}, []string{component, component2}
	about := func(appid string, do func(context.Context, string, string) (operate.AccountDetail, error)) func(context.Context, string) error {
		return func(ctx context.Context, query string) error { _, err := do(ctx, appid, query); return err }
	}
	do := map[string]func(context.Context, string) error{
		"status":   func(ctx context.Context, q string) error { _, err := f.Status(ctx, q); return err },
		"live":     func(ctx context.Context, q string) error { _, err := f.Live(ctx, q); return err },
		"ready":    func(ctx context.Context, q string) error { _, err := f.Ready(ctx, q); return err },
		"accounts": func(ctx context.Context, q string) error { _, err := f.Accounts(ctx, q); return err },
		"pushes":   func(ctx context.Context, q string) error { _, err := f.Recent(ctx, q); return err },
		"usage":    func(ctx context.Context, q string) error { _, err := f.Calls(ctx, q); return err },
		"sync":     func(ctx context.Context, q string) error { _, err := f.Sync(ctx, q); return err },
		"reseal":   func(ctx context.Context, q string) error { _, err := f.Reseal(ctx, q); return err },
		"doctor": func(ctx context.Context, q string) error {
			_, err := f.Diagnose(ctx, q, strings.NewReader(""))
			return err
		},
		"events":  func(ctx context.Context, q string) error { _, err := f.Events(ctx, q); return err },
		"account": about(number(1), f.Account), "renew": about(number(1), f.Renew), "reread": about(number(1), f.Reread),
		"forget":       func(ctx context.Context, q string) error { _, err := f.Forget(ctx, number(1), q); return err },
		"account wx":   about("wx", f.Account),
		"account none": about("", f.Account), "account ..": about("../x", f.Account), "renew WX": about("WX0000000000000001", f.Renew),
		"account unknown": about(number(2), f.Account), "renew unknown": about(number(2), f.Renew), "reread unknown": about(number(2), f.Reread),
		"forget unknown": func(ctx context.Context, q string) error { _, err := f.Forget(ctx, number(2), q); return err },
	}
	const bad, missing = 400, 404
	eventsCursor, accountsCursor := f.cursorOfEvents(), f.cursorOfAccounts("limit=1")
	for _, row := range []struct {
		name, query string
		components  []string
		status      int
		want        string // in the text or the remedy
	}{
		{"status", "x=1", one, bad, "leave it out"},
		{"live", "x=1", one, bad, "leave it out"},
		{"ready", "component=" + component, one, bad, "leave it out"},

		{"accounts", "limit=1000000000", one, bad, "1 to 1000"},
		{"accounts", "limit=0", one, bad, "1 to 1000"},
		{"accounts", "limit=-1", one, bad, "1 to 1000"},
		{"accounts", "limit=x", one, bad, "out for 50"},
		{"accounts", "", two, bad, "name one of: " + component + ", " + component2},
		{"accounts", "component=wx2222222222222222", one, bad, "known are: " + component},
		{"accounts", "component=../x", one, bad, "known are: " + component},
		{"accounts", "state=broken", one, bad, "needs_authorization"},
		{"accounts", "state=Failing", one, bad, "needs_authorization"},
		{"accounts", "client=shopp", one, missing, "all, none, other, shop"},
		{"accounts", "client=other&component=" + component, two, bad, component2},
		{"accounts", "lang=fr", one, bad, "write en or zh"},
		{"accounts", "q=%ff", one, bad, "UTF-8"},
		{"accounts", "state=failing&state=unauthorized", one, bad, "2 times"},
		{"accounts", "colour=red", one, bad, "use component, q, state, client, lang, cursor, limit"},
		{"accounts", "cursor=x", one, bad, "without a cursor"},
		{"accounts", "cursor=!", one, bad, "without a cursor"},
		{"accounts", "cursor=" + eventsCursor, one, bad, "without a cursor"},
		{"events", "cursor=" + accountsCursor, one, bad, "without a cursor"},
		{"accounts", "cursor=" + accountsCursor + "&state=failing", one, bad, "same parameters"},
		{"accounts", "cursor=" + accountsCursor + "&q=a", one, bad, "same parameters"},
		{"accounts", "cursor=" + accountsCursor + "&client=shop", one, bad, "same parameters"},
		{"accounts", "cursor=" + accountsCursor + "&component=" + component2, two, bad, "same parameters"},
		{"accounts", "cursor=" + accountsCursor[:len(accountsCursor)-4], one, bad, "without a cursor"},

		{"account", "", two, bad, "name one of: " + component + ", " + component2},
		{"account", "lang=fr", one, bad, "write en or zh"},
		{"account", "state=failing", one, bad, "use component, lang"},
		{"account wx", "", one, bad, "16 hexadecimal digits"},
		{"account none", "", one, bad, "into the path"},
		{"account ..", "", one, bad, "16 hexadecimal digits"},
		{"account unknown", "", one, missing, "sync"},
		{"account", "component=" + component2, two, missing, "is not known under component " + component2},
		{"renew", "component=", one, bad, "component is empty"},
		{"renew", "", two, bad, "name one of"},
		{"renew WX", "", one, bad, "lower case"},
		{"renew unknown", "", one, missing, "sync"},
		{"reread", "x=1", one, bad, "use component, lang"},
		{"reread unknown", "", one, missing, "sync"},
		{"forget", "all=true", one, bad, "use component, lang"},
		{"forget unknown", "", one, missing, "sync"},

		{"doctor", "component=" + component, one, bad, "leave it out"},

		{"pushes", "limit=1000000000", one, bad, "1 to 1000"},
		{"pushes", "outcome=lost", one, bad, "acknowledged, repeated, refused"},
		{"pushes", "appid=wx1", one, bad, "16 hexadecimal digits"},
		{"pushes", "component=wx2222222222222222", one, bad, "known are"},
		{"pushes", "cursor=x", one, bad, "use component, appid, outcome, limit"},
		{"usage", "limit=1000000000", one, bad, "1 to 10000"},
		{"usage", "client=shopp", one, missing, "all, none, other, shop"},
		{"usage", "appid=gh_1", one, bad, "16 hexadecimal digits"},

		{"sync", "offset=-1", one, bad, "from 0"},
		{"sync", "offset=x", one, bad, "from 0"},
		{"sync", "offset=99999999999999999999", one, bad, "from 0"},
		{"sync", "offset=", one, bad, "offset is empty"},
		{"sync", "", two, bad, "name one of"},
		{"sync", "component=wx2222222222222222", one, bad, "known are"},
		{"sync", "limit=1", one, bad, "use component, offset"},
		{"reseal", "offset=257", one, bad, "not below 257"},
		{"reseal", "offset=1000000000", one, bad, "not below 257"},
		{"reseal", "offset=-1", one, bad, "from 0"},
		{"reseal", "", two, bad, "name one of"},
	} {
		t.Run(row.name+"?"+row.query, func(t *testing.T) {
			f.Components = row.components
			f.engine.err = nil
			if strings.HasSuffix(row.name, "unknown") {
				f.engine.err = fmt.Errorf("loading: %w", vault.ErrNotFound)
			}
			told := refused(t, do[row.name](t.Context(), row.query))
			if told.Status != row.status || told.Text == "" || told.Remedy == "" || !strings.Contains(told.Error(), row.want) {
				t.Errorf("%d %q, %q, want %d and %q", told.Status, told.Text, told.Remedy, row.status, row.want)
			}
		})
	}
	if lines := f.actions(); len(lines) > 0 {
		t.Errorf("what was not done stands in the audit: %q", lines)
	}
	for _, what := range f.engine.did {
		if !strings.HasSuffix(what, number(2)) {
			t.Errorf("the engine has done %s", what)
		}
	}
}

// cursorOfEvents is one that a page of the events has ended with.
func (f *office) cursorOfEvents() string {
	f.t.Helper()
	f.put("shop/main", 2, false)
	page, err := f.Events(f.t.Context(), "limit=1")
	if err != nil || page.Next == "" {
		f.t.Fatal(page, err)
	}
	return page.Next
}

// cursorOfAccounts is one that a page of the accounts has ended with.
func (f *office) cursorOfAccounts(query string) string {
	f.t.Helper()
	f.store(number(0x301), authorized())
	page, err := f.Accounts(f.t.Context(), query)
	if err != nil || page.Next == "" {
		f.t.Fatal(page, err)
	}
	return page.Next
}

// An action says who has done what to which object, and what came of it; so does one
// that has failed.
func TestActionsStandInTheAudit(t *testing.T) {
	f := newOffice(t)
	f.store(number(1), authorized())
	f.put("shop/main", 1, true)
	ctx := t.Context()
	act := func(err error, want ...string) {
		t.Helper()
		if err != nil {
			t.Log(err)
		}
		if got := f.actions(); !slices.Equal(got, want) {
			t.Errorf("the audit says %q, want %q", got, want)
		}
	}
	who := component + "/" + number(1)
	f.engine.onRenew = func(who subject.Subject) {
		if !who.IsComponent() {
			f.store(number(1), vault.Record{Generation: 1, State: vault.Unauthorized, EventTime: start})
		}
	}
	_, err := f.Renew(ctx, number(1), "")
	act(err, "admin renew "+who+": authorized → unauthorized")
	_, err = f.Reread(ctx, number(1), "")
	act(err, "admin reread "+who+": unauthorized → unauthorized")
	f.engine.onRenew = nil
	_, err = f.Forget(ctx, number(1), "")
	act(err, "admin forget "+who+": unauthorized → forgotten")
	f.engine.err = tokens.ErrAuthorized
	_, err = f.Forget(ctx, number(1), "")
	act(err, "admin forget "+who+":  → failed: the account is authorized, WeChat's next list would bring it back")
	f.engine.err = nil
	f.engine.synced = tokens.Synced{Listed: 500, New: 2, Restored: 1, Total: 700}
	_, err = f.Sync(ctx, "")
	act(err, "admin sync "+component+":  → offset=0 listed=500 new=2 restored=1 of 700")
	_, err = f.Sync(ctx, "offset=500")
	act(err)
	_, err = f.Reseal(ctx, "")
	act(err, "admin reseal "+component+":  → offset=0 resealed=0 unreadable=0")
	_, err = f.Discard(ctx, "client=shop&state=dead")
	act(err, "admin discard events?client=shop&state=dead:  → count=1")
	_, err = f.Replay(ctx, "all=true")
	act(err, "admin replay events?all=true:  → count=0")
	f.down["shop/main"] = 500
	_, err = f.Test(ctx, "client=shop")
	if lines := f.actions(); err == nil || len(lines) != 1 || !strings.HasPrefix(lines[0], "admin test events?client=shop:  → failed: ") {
		t.Errorf("%v, %q", err, lines)
	}
	f.engine.err = errors.New("x")
	_, err = f.Account(ctx, number(1), "")
	act(err)
}
