// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"cmp"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics/metricstest"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// told is what an application is told, from the first second of a fault to the
// last, by the call of the gateway's that meets it; "" where it cannot.
type told struct{ component, authorizer, code, info string }

func always(slug string) told { return told{slug, slug, slug, slug} }

// refusal is what it is told where WeChat answers, and refuses.
var refusal = told{"component_token", "refused", "refused", "refused"}

// wechatFault is a way of WeChat's to fail.
//
// The rules of every row: the fault lasts an hour, and an application makes a
// call every second. WeChat is asked at growing intervals, 1 s to 60 s, so that
// all is well within a cool-down after the fault. The log says once that the
// attempt failed, with error and remedy; for the component again after each
// ticket, which is new hope. caddy_wechat_renewals_total counts every attempt
// under the slug that the application is told. Where a row differs, it says how.
type wechatFault struct {
	name   string
	fault  sandbox.Fault
	happen func(tr *trial, at fetch) (end func()) // in place of fault
	told   told
	error  string
	remedy string

	says  string        // the line, where it is not that of a failed attempt
	asks  bool          // for tickets, every ten minutes, and says that too
	marks bool          // says that a path rejects a good token, ever more rarely
	most  int           // calls, where they are not spaced by cool-downs
	heals time.Duration // where it is not within a cool-down

	uncounted bool // the attempts succeed: it is their tokens that WeChat rejects
}

var wechatFaults = []wechatFault{
	{name: "an answer takes 3 s", fault: sandbox.Fault{Latency: 3 * time.Second}, told: always(served), most: 1},
	{name: "no answer", fault: sandbox.Fault{Never: true}, told: always("timeout"), error: "context deadline exceeded"},
	{name: "answer after the time-out", happen: late, told: always("timeout"), error: "context deadline exceeded"},
	{name: "connection reset", fault: sandbox.Fault{Reset: true}, told: always("unreachable"), error: "connection reset by peer"},
	{name: "answer lost", fault: sandbox.Fault{DropAfter: true}, told: always("unreachable"), error: "connection reset by peer"},
	{name: "half an answer", fault: sandbox.Fault{CutHalf: true}, told: always("unreachable"), error: "HTTP status 200: unexpected EOF"},
	{name: "200 and nothing", fault: sandbox.Fault{Empty: true}, told: always("unreachable"), error: notJSON},
	{name: "200 and HTML", fault: sandbox.Fault{HTML: true}, told: always("unreachable"), error: notJSON},
	{name: "502 and HTML", fault: sandbox.Fault{Status: 502}, told: always("unreachable"), error: "HTTP status 502"},
	{name: "500 and nothing", fault: sandbox.Fault{Status: 500, Empty: true}, told: always("unreachable"), error: "HTTP status 500"},

	{name: "-1, busy", fault: sandbox.Fault{ErrCode: -1}, told: refusal, error: "errcode -1"},
	{name: "45009, quota", fault: sandbox.Fault{ErrCode: 45009}, told: refusal, error: "errcode 45009",
		remedy: "the daily quota of this call is spent: wait until midnight"},
	{name: "61004, white list", fault: sandbox.Fault{ErrCode: 61004, ErrMsg: "access clientip is not registered requestIP: 203.0.113.7"},
		told: refusal, error: "errcode 61004", remedy: "add 203.0.113.7 to the IP white list"},
	{name: "40125, wrong secret", fault: sandbox.Fault{ErrCode: 40125}, told: told{component: "component_token"},
		error: "errcode 40125", remedy: "check app_secret"},
	{name: "40013, unknown component", fault: sandbox.Fault{ErrCode: 40013}, told: told{component: "component_token"},
		error: "errcode 40013", remedy: "check the appid"},
	{name: "61011, no platform", fault: sandbox.Fault{ErrCode: 61011}, told: told{component: "component_token"},
		error: "errcode 61011", remedy: "check the component's appid: it is not that of a third-party platform"},
	{name: "61005, ticket expired", fault: sandbox.Fault{ErrCode: 61005}, told: told{component: "component_token"},
		error: "errcode 61005", remedy: "check that WeChat's pushes reach the authorisation event URL", asks: true},
	{name: "61006, ticket invalid", fault: sandbox.Fault{ErrCode: 61006}, told: told{component: "component_token"},
		error: "errcode 61006", remedy: "check that WeChat's pushes reach the authorisation event URL", asks: true},
	{name: "no ticket for 13 hours", happen: drought, told: told{component: "component_token"},
		error: "errcode 61005", remedy: "check that WeChat's pushes reach the authorisation event URL", asks: true, heals: time.Second},

	{name: "61003, withdrawn", fault: sandbox.Fault{ErrCode: 61003}, told: told{code: "refused"},
		error: "errcode 61003", remedy: "let an admin of the account authorise the platform again"},
	{name: "61003, unknown authorizer", fault: sandbox.Fault{ErrCode: 61003}, told: told{info: "not_authorized"},
		says: nothing, most: minutes, heals: unauthorizedCoolDown + time.Second},
	{name: "61003 to a refresh, until the account authorizes again", happen: withdrawn, told: told{authorizer: "not_authorized"},
		says: "warn, authorizer has withdrawn its authorization", most: 1 + int(time.Hour/recheckInterval)},
	{name: "61023, refresh token lost", fault: sandbox.Fault{ErrCode: 61023},
		told:  told{authorizer: "needs_authorization", info: "needs_authorization"},
		error: "refresh_token is lost, the account's admin must authorize again", remedy: authoriseAgain, most: minutes, heals: unauthorizedCoolDown + time.Second},

	// A rejection proves nothing: WeChat is asked about the token. While it is alive,
	// nothing is renewed. While it seems dead, three renewals are made at once, then one
	// in ten seconds, and beyond twelve one a minute. In between the newest is served, so
	// that the next call after the fault succeeds.
	{name: "40001 where no token is sent, wrong secret", fault: sandbox.Fault{ErrCode: 40001}, told: told{component: "component_token"},
		error: "errcode 40001", remedy: "check app_secret"},
	{name: "40001 to a call of the gateway's own, though the component token is alive", fault: sandbox.Fault{ErrCode: 40001},
		told: told{authorizer: "refused", code: "refused", info: "refused"}, error: "errcode 40001", marks: true},
	{name: "40001 to every call of a path", happen: stormOnPath, told: told{component: "rejected", authorizer: "rejected"},
		says: nothing, marks: true, most: 1, uncounted: true, heals: time.Second},
	{name: "40001 to every call", happen: storm, told: told{component: "rejected", authorizer: "rejected"},
		says: another, remedy: stopIt, most: forcedMost, uncounted: true, heals: time.Second},
	{name: "another process with the same credentials", happen: otherProcess, told: told{component: "served, rejected", authorizer: "served, rejected"},
		says: another, remedy: stopIt, most: forcedMost, uncounted: true, heals: contendedInterval + time.Second},

	// Clocks an hour apart.
	{name: "expires_in is an hour too long", happen: tokenLifetime(3 * time.Hour), told: told{component: served, authorizer: served}, most: 1},
	{name: "expires_in is an hour too short", happen: tokenLifetime(time.Hour), told: told{component: served, authorizer: served}, most: 2},
	{name: "record of a node an hour ahead", happen: recordOff(time.Hour), told: told{component: served, authorizer: served}, most: 1},
	{name: "record of a node an hour behind", happen: recordOff(-time.Hour), told: told{component: served, authorizer: served}, most: 2},
	{name: "ticket with a CreateTime an hour ahead", happen: ticketOff(time.Hour), told: told{component: served}, most: 1, says: nothing, asks: true},
	{name: "ticket with a CreateTime an hour behind", happen: ticketOff(-time.Hour), told: told{component: served}, most: 1},
	{name: "event with a CreateTime an hour ahead hides a withdrawal", happen: hidden, told: told{authorizer: "passed on, not_authorized"},
		says: "warn, authorizer has withdrawn its authorization", most: 1},
}

const (
	notJSON = "HTTP status 200: answer is not the JSON that was asked for"
	another = "error, tokens die soon after they were issued; from now on a rejected one is renewed once a minute"
	stopIt  = "stop the other process"
	alone   = "warn, WeChat rejects a token on this path and says that it is alive"
	nothing = "nothing" // as a line in the log
	minutes = 61        // calls in an hour, one a minute

	marksMost  = 12                            // of one path in an hour: 10 s, 20 s ... 10 min
	forcedMost = 1 + maxForcedHourly + minutes // renewals in an hour
)

func TestWeChatFaults(t *testing.T) {
	for _, f := range wechatFaults {
		for _, at := range fetches {
			if want := at.told(f.told); want != "" {
				t.Run(f.name+", "+at.name, func(t *testing.T) {
					at.prepare(t, func(w *world) { f.test(&trial{world: w, node: w.node, who: at.who}, at, want) })
				})
			}
		}
	}
}

func (f wechatFault) test(tr *trial, at fetch, want string) {
	tr.live()
	tr.begin()
	end := tr.weixin.ClearFaults
	if f.happen != nil {
		end = f.happen(tr, at)
	} else {
		f.fault.Path = at.path
		tr.weixin.Inject(f.fault)
	}
	slug := want[strings.LastIndex(want, " ")+1:]
	counted := renewals(tr, slug)
	if at.event != nil {
		at.event(tr)
	}
	tr.isTold(tr.ask(cmp.Or(at.lasts, time.Hour)), want)

	calls, hopes := tr.weixin.Count(at.path), 0
	if at.who.IsComponent() {
		hopes = ticketsTaken(tr)
	}
	if most := cmp.Or(f.most, attempts(cmp.Or(at.lasts, time.Hour), hopes)); calls < 1 || calls > most {
		tr.Errorf("WeChat was called %d times, want at most %d", calls, most)
	}
	switch n := int(renewals(tr, slug) - counted); {
	case slug != served && f.most == 0 && n != calls && n != calls-1: // one may still be in progress
		tr.Errorf("%d attempts were counted as %s, WeChat saw %d", n, slug, calls)
	case slug != served && !f.uncounted && n == 0:
		tr.Errorf("nothing was counted as %s", slug)
	}
	f.said(tr, at, want)
	end()
	tr.heals(cmp.Or(f.heals, coolDown))
	if tr.who = shop; tr.call(shop) != served {
		tr.Errorf("the authorizer's calls are answered %s", tr.call(shop))
	}
}

// said checks what stands in the log.
func (f wechatFault) said(tr *trial, at fetch, want string) {
	tr.Helper()
	lines := tr.said()
	if f.asks {
		n := len(lines[noTicket])
		if n < 1 || n > 7 {
			tr.Errorf("%d lines say that tickets were asked for", n)
		}
		tr.calls(askStartPushTicket, n)
		delete(lines, noTicket)
	}
	if f.marks {
		if n := len(lines[alone]); n < 1 || n > marksMost {
			tr.Errorf("%d lines say that a path rejects a good token", n)
		}
		delete(lines, alone)
	}
	line := cmp.Or(f.says, at.says)
	if line == nothing || want == served {
		line = ""
	}
	often := 1
	if at.who.IsComponent() && f.says != another {
		often += ticketsTaken(tr)
	}
	for message, entries := range lines {
		if message != line || len(entries) > often {
			tr.Errorf("%d lines %q, want at most %d and nothing but %q", len(entries), message, often, line)
		}
		for _, entry := range entries {
			if text := entry.ContextMap()["error"]; f.error != "" && !strings.Contains(text.(string), f.error) {
				tr.Errorf("error is %s, want %s", text, f.error)
			}
			if remedy := field(entry, "remedy"); !strings.HasPrefix(remedy, f.remedy) || f.remedy == "" && remedy != "" {
				tr.Errorf("remedy is %q, want %q", remedy, f.remedy)
			}
		}
	}
	if line != "" && len(lines) == 0 {
		tr.Errorf("nothing in the log, want %q", line)
	}
}

// fetch is a call of the gateway's that can fail, and how an application
// comes to depend on it.
type fetch struct {
	name, path string
	who        subject.Subject
	told       func(told) string
	says       string // where an attempt fails
	prepare    func(t *testing.T, test func(w *world))
	event      func(tr *trial) // what the gateway has to act on
	lasts      time.Duration   // the fault; an hour if it is 0
}

var fetches = []fetch{
	{
		name: "component token", path: askComponentToken, who: platform,
		told:    func(t told) string { return t.component },
		says:    "error, renewing token failed",
		prepare: func(t *testing.T, test func(w *world)) { expired(t, test) },
	},
	{
		name: "authorizer token", path: askAuthorizerToken, who: shop,
		told: func(t told) string { return t.authorizer },
		says: "error, renewing token failed",
		prepare: func(t *testing.T, test func(w *world)) {
			expired(t, func(w *world) { w.token(platform); test(w) })
		},
	},
	{
		name: "code exchange", path: askQueryAuth, who: shop,
		told:    func(t told) string { return t.code },
		says:    "error, exchanging authorization_code failed",
		prepare: func(t *testing.T, test func(w *world)) { play(t, func(w *world) { w.token(platform); test(w) }) },
		event:   func(tr *trial) { tr.authorize(theShop) },
		lasts:   8 * time.Minute, // of the ten that a code lives
	},
	{
		name: "authorizer info", path: askAuthorizerInfo, who: shop,
		told: func(t told) string { return t.info },
		says: "error, renewing token failed",
		prepare: func(t *testing.T, test func(w *world)) {
			playAuthorized(t, func(w *world) {
				w.lose(theShop)
				w.restart()
				test(w)
			})
		},
	},
}

// lose deletes what is stored of an account.
func (w *world) lose(appid string) {
	for name := range w.storage.Files() {
		if strings.Contains(name, appid) {
			w.must(w.storage.Delete(w.Context(), name))
		}
	}
}

// renewals is how many attempts were counted under a slug, of either kind.
func renewals(tr *trial, slug string) (n float64) {
	for _, kind := range []string{"component", "authorizer"} {
		n += metricstest.Value(tr.T, "caddy_wechat_renewals_total", kind, slug)
	}
	return n
}

// ticketsTaken is how many the gateway has taken since the fault began.
func ticketsTaken(tr *trial) (n int) {
	for _, push := range tr.weixin.Pushes() {
		if push.Status == http.StatusOK && strings.Contains(push.Plain, "component_verify_ticket") {
			n++
		}
	}
	return n
}
