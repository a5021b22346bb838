// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// What the tables of faults share: a gateway that lives as in production, an
// application that makes a call every second, and a look at what came of it.

// What an application is told, besides the slug of a problem.
const (
	served   = "served"
	passedOn = "passed on" // a refusal of WeChat's own
)

// trial is a gateway and an application that meet a fault.
type trial struct {
	*world
	node   *node           // whom the application calls
	who    subject.Subject // whose token its calls take
	before int             // lines in the log when the fault began
}

// live lets the node live as a running gateway does: WeChat pushes a ticket
// every ten minutes, and the node watches them and follows the news.
func (w *world) live() {
	w.watch(w.node)
	w.follow(w.node)
	w.node.background(func() { _ = w.weixin.Run(w.Context()) })
	synctest.Wait()
}

// begin forgets what was before the fault.
func (tr *trial) begin() {
	synctest.Wait()
	tr.weixin.ResetCounts()
	tr.before = tr.logs.Len()
}

// call makes one call as the proxy does and returns what the application is told.
func (tr *trial) call(who subject.Subject) string {
	token, err := tr.node.Current(tr.Context(), who, theClient)
	if err != nil {
		return problem.Of(err).Slug
	}
	code, by := tr.errcode(who, token), Caller{theClient, pathFor(who)}
	if openapi.RejectsToken(code) {
		if token, err = tr.node.Replace(tr.Context(), who, rejectionTo(by.Client, by.Path, token)); err != nil {
			return problem.Of(err).Slug
		}
		if code = tr.errcode(who, token); openapi.RejectsToken(code) {
			return problem.ErrRejected.Slug
		}
	}
	switch code {
	case 0:
		tr.node.Accepted(who, token, by)
		return served
	case 61003:
		tr.node.Recheck(who, token)
	}
	return passedOn
}

// A path of each level, as applications call them.
const (
	authorizerCall = "/cgi-bin/user/get"
	componentCall  = "/wxa/gettemplatelist"
)

// pathFor is the path that applications call with who's token.
func pathFor(who subject.Subject) string {
	if who.IsComponent() {
		return componentCall
	}
	return authorizerCall
}

// errcode is what WeChat says to a call with this token.
func (tr *trial) errcode(who subject.Subject, token *Token) int {
	path := pathFor(who)
	r, err := http.NewRequestWithContext(tr.Context(), http.MethodGet,
		"http://wechat"+path+"?access_token="+url.QueryEscape(token.Value.Reveal()), nil)
	tr.must(err)
	answer, err := tr.weixin.Transport().RoundTrip(r)
	tr.must(err)
	defer answer.Body.Close()
	var refusal struct {
		Code int `json:"errcode"`
	}
	tr.must(json.NewDecoder(answer.Body).Decode(&refusal))
	return refusal.Code
}

// ask makes a call every second for d, whether or not those before it were
// answered, and returns how often the application was told what.
func (tr *trial) ask(d time.Duration) map[string]int {
	var all sync.WaitGroup
	var mu sync.Mutex
	told := make(map[string]int)
	for range d / time.Second {
		all.Go(func() {
			answer := tr.call(tr.who)
			mu.Lock()
			defer mu.Unlock()
			told[answer]++
		})
		time.Sleep(time.Second)
	}
	all.Wait()
	synctest.Wait()
	return told
}

// isTold checks that the application was told all of want, words after commas,
// and nothing else.
func (tr *trial) isTold(told map[string]int, want string) {
	tr.Helper()
	if !slices.Equal(slices.Sorted(maps.Keys(told)), slices.Sorted(slices.Values(strings.Split(want, ", ")))) {
		tr.Errorf("the application was told %v, want %s all the time", told, want)
	}
}

// heals checks that calls are served within d from now on, and stay so.
func (tr *trial) heals(d time.Duration) {
	tr.Helper()
	for ended := time.Now(); tr.call(tr.who) != served; time.Sleep(time.Second) {
		if time.Since(ended) > d {
			tr.Fatalf("%v after the fault the application is told %s", d, tr.call(tr.who))
		}
	}
	tr.isTold(tr.ask(2*time.Minute), served)
}

// said returns the lines of warnings and errors since the fault began, by
// level and message.
func (tr *trial) said() map[string][]observer.LoggedEntry {
	said := make(map[string][]observer.LoggedEntry)
	for _, entry := range tr.logs.All()[tr.before:] {
		if entry.Level >= zap.WarnLevel {
			message := entry.Level.String() + ", " + entry.Message
			said[message] = append(said[message], entry)
		}
	}
	return said
}

// field is a field of a line in the log, "" if it is not there.
func field(entry observer.LoggedEntry, name string) string {
	text, _ := entry.ContextMap()[name].(string)
	return text
}

// expired is playAuthorized with tokens that have expired, and a ticket that
// has not.
func expired(t *testing.T, test func(w *world)) {
	playAuthorized(t, func(w *world) {
		time.Sleep(3 * time.Hour)
		test(w)
	})
}

// attempts is how many attempts the rules allow within d at the most: pauses
// grow from a second to a minute, jitter takes a quarter off, and after each of
// so many hopes, such as a new ticket, they start again.
func attempts(d time.Duration, hopes int) (n int) {
	quick := 0
	for pause := minCoolDown; d >= 0; pause = min(2*pause, maxCoolDown) {
		if n++; pause < maxCoolDown {
			quick++
		}
		d -= pause * 3 / 4
	}
	return n + hopes*(quick+1)
}

// coolDown is the longest pause, and the second until the next call.
const coolDown = maxCoolDown*5/4 + time.Second
