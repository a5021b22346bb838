// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const account, another = "wx0000000000000001", "wx0000000000000002"

// What the gateways are excused for, and what not: each kind of failure with the
// same thing done to it, and done to somebody else or too long ago.
func TestOnlyWhatWasDoneToACallExplainsItsFailure(t *testing.T) {
	eof, component := errors.New("EOF"), sandbox.DefaultComponent
	refusal := func(slug string) answer { return answer{status: http.StatusServiceUnavailable, slug: slug} }
	rejected := func(errcode int) answer { return answer{slug: "rejected", errcode: errcode} }
	weChats := func(errcode int) answer { return answer{status: http.StatusOK, errcode: errcode} }
	during := func(c condition) func(*record) { return func(r *record) { r.begin(c) } }
	questionStruck := func(node int, appid string) func(*record) { return func(r *record) { r.fail(node, appid, time.Now()) } }
	callStruck := func(r *record) { r.arrive(7); r.answered(7, true, false) }
	arrived := func(r *record) { r.arrive(7) }
	tokenGiven := func(r *record) {
		time.Sleep(time.Second / 2)
		r.give(3, componentAPI+"api_authorizer_token", account)
	}

	for name, row := range map[string]struct {
		answer answer
		done   []func(*record)
		want   kind
	}{
		"no answer, gateway killed":         {answer{err: eof}, []func(*record){during(condition{kind: down, node: 3})}, down},
		"no answer, another gateway killed": {answer{err: eof}, []func(*record){during(condition{kind: down, node: 2})}, ""},
		"no answer, WeChat cut it":          {answer{err: eof}, []func(*record){callStruck}, struck},
		"no answer, storage gone":           {answer{err: eof}, []func(*record){during(condition{kind: noStorage})}, ""},
		"no answer, reload":                 {answer{err: eof}, []func(*record){during(condition{kind: reloaded, node: 3})}, ""},
		"no answer, reload, idle connection": {
			answer{err: eof, idle: true}, []func(*record){during(condition{kind: reloaded, node: 3})}, reloaded},
		"no answer, reload, idle connection, but WeChat has seen the call": {
			answer{err: eof, idle: true}, []func(*record){during(condition{kind: reloaded, node: 3}), arrived}, ""},

		"unreachable, this call struck":           {refusal("unreachable"), []func(*record){callStruck}, struck},
		"unreachable, question struck":            {refusal("unreachable"), []func(*record){questionStruck(3, account)}, cooling},
		"unreachable, component's question":       {refusal("unreachable"), []func(*record){questionStruck(3, component)}, cooling},
		"unreachable, another gateway's question": {refusal("unreachable"), []func(*record){questionStruck(2, account)}, ""},
		"unreachable, question about another":     {refusal("unreachable"), []func(*record){questionStruck(3, another)}, ""},
		"unreachable, question answered since":    {refusal("unreachable"), []func(*record){questionStruck(3, account), tokenGiven}, ""},
		"unreachable, code struck":                {refusal("unreachable"), []func(*record){questionStruck(3, someCode)}, ""},
		"unreachable, code struck of an account just back": {
			refusal("unreachable"), []func(*record){questionStruck(3, someCode), during(condition{kind: away, appid: account})}, cooling},
		"refused, this call struck": {refusal("refused"), []func(*record){callStruck}, ""},

		"component token, killed again":        {refusal("component_token"), []func(*record){during(condition{kind: dying, appid: component})}, dying},
		"component token, another one killed":  {refusal("component_token"), []func(*record){during(condition{kind: dying, appid: account})}, ""},
		"storage, gone":                        {refusal("storage"), []func(*record){during(condition{kind: noStorage})}, noStorage},
		"storage, gateway killed":              {refusal("storage"), []func(*record){during(condition{kind: down, node: 3})}, ""},
		"not authorized, withdrawn":            {refusal("not_authorized"), []func(*record){during(condition{kind: away, appid: account})}, away},
		"not authorized, another withdrawn":    {refusal("not_authorized"), []func(*record){during(condition{kind: away, appid: another})}, ""},
		"needs authorization, withdrawn":       {refusal("needs_authorization"), []func(*record){during(condition{kind: away, appid: account})}, away},
		"needs authorization, question struck": {refusal("needs_authorization"), []func(*record){questionStruck(3, account)}, ""},
		"WeChat says withdrawn, and so it is":  {weChats(61003), []func(*record){during(condition{kind: away, appid: account})}, away},
		"WeChat says withdrawn":                {weChats(61003), nil, ""},
		"token not valid, killed again":        {weChats(40001), []func(*record){during(condition{kind: dying, appid: account})}, dying},
		"token not valid":                      {weChats(42001), []func(*record){callStruck}, ""},
		"WeChat's nonsense":                    {weChats(-1), []func(*record){callStruck}, struck},
		"nonsense that is not WeChat's":        {answer{status: http.StatusBadGateway}, nil, ""},
		"gateway token not recognised":         {answer{status: http.StatusOK, slug: "token_unknown", errcode: 40001}, []func(*record){callStruck}, ""},
		"rejected, killed again":               {rejected(-1), []func(*record){during(condition{kind: dying, appid: account})}, dying},
		"rejected, question struck":            {rejected(-1), []func(*record){questionStruck(3, account)}, cooling},
		"rejected, no reason":                  {rejected(-1), nil, ""},
		"rejected, though it is alive":         {rejected(48001), []func(*record){during(condition{kind: dying, appid: account})}, ""},
		"no ticket":                            {refusal("no_ticket"), []func(*record){during(condition{kind: noStorage})}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecord()
				for _, done := range row.done {
					done(r)
				}
				time.Sleep(time.Second)
				f := failure{from: time.Now(), to: time.Now(), node: 3, appid: account, id: 7, answer: row.answer}
				if got := r.explain(f); got != row.want {
					t.Errorf("explained by %q, want %q", got, row.want)
				}
			})
		})
	}
}

// An excuse ends: with what was done, or with the pause that the rules allow.
func TestExcusesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		now := func(slug string) failure {
			return failure{from: time.Now(), to: time.Now(), node: 3, appid: account, answer: answer{slug: slug}}
		}
		for _, pause := range []time.Duration{1250 * time.Millisecond, 2500 * time.Millisecond, 5 * time.Second} {
			r.fail(3, account, time.Now())
			time.Sleep(pause)
			if r.explain(now("refused")) == "" {
				t.Errorf("not excused %v after a failure", pause)
			}
			time.Sleep(time.Millisecond)
			if r.explain(now("refused")) != "" {
				t.Errorf("excused for more than %v after a failure", pause)
			}
		}
		asked := time.Now()
		time.Sleep(time.Minute)
		told := now("refused")
		time.Sleep(time.Second)
		if r.fail(3, account, asked); r.explain(told) == "" {
			t.Error("not excused because the failure was noted later than it was told")
		}
		end := r.begin(condition{kind: noStorage})
		time.Sleep(time.Hour)
		patient := now("storage")
		end(time.Second)
		time.Sleep(time.Second)
		if r.explain(now("storage")) != noStorage {
			t.Error("not excused within the time that was granted")
		}
		time.Sleep(time.Millisecond)
		if r.explain(now("storage")) != "" {
			t.Error("excused after the time that was granted")
		}
		patient.to = time.Now()
		if r.explain(patient) != "" {
			t.Error("excused for what was over long before the call failed")
		}
	})
}

// Nothing may come to WeChat twice, unless WeChat has refused the token.
func TestACallThatComesTwiceIsNoticed(t *testing.T) {
	refused := func(r *record) { r.answered(7, false, true) }
	lost := func(r *record) { r.answered(7, true, false) }
	arrived := func(r *record) { r.arrive(7) }
	for name, row := range map[string]struct {
		happened         []func(*record)
		healed, tooOften bool
	}{
		"once":                               {[]func(*record){arrived, lost}, false, false},
		"again with a renewed token":         {[]func(*record){arrived, refused, arrived}, true, false},
		"again, the refusal noted late":      {[]func(*record){arrived, arrived, refused}, true, false},
		"again after a lost answer":          {[]func(*record){arrived, lost, arrived}, false, true},
		"again, nobody knows why":            {[]func(*record){arrived, arrived}, false, true},
		"a third time, whatever the answers": {[]func(*record){arrived, refused, arrived, refused, arrived}, false, true},
	} {
		r := newRecord()
		for _, happened := range row.happened {
			happened(r)
		}
		if call := r.calls[7]; call.healed() != row.healed || call.tooOften() != row.tooOften {
			t.Errorf("%s: healed %v, too often %v", name, call.healed(), call.tooOften())
		}
	}
}

// The witness takes each fault of the sandbox's for one, and nothing else.
func TestTheWitnessTellsFaultsFromAnswers(t *testing.T) {
	weChat, err := sandbox.New(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{weChat, newRecord()}
	api := httptest.NewServer(w.of(0))
	t.Cleanup(api.Close)
	ask := func() {
		response, err := http.Post(api.URL+componentAPI+"api_component_token", "", strings.NewReader(`{"component_appid":"`+sandbox.DefaultComponent+`"}`))
		if err == nil {
			response.Body.Close()
		}
	}
	noticed := func() int {
		w.record.mu.Lock()
		defer w.record.mu.Unlock()
		return w.record.failed[condition{cooling, 0, sandbox.DefaultComponent}]
	}
	ask()
	if n := noticed(); n != 0 {
		t.Errorf("a refusal, for want of a ticket, counts as %d faults", n)
	}
	for _, f := range faults {
		if f.fault == (sandbox.Fault{}) {
			continue // slow, which is none to the one who waits
		}
		before, deadline := noticed(), time.Now().Add(10*time.Second)
		weChat.Inject(f.fault)
		ask()
		weChat.ClearFaults()
		for noticed() == before && time.Now().Before(deadline) { // a connection is cut before that is noted
			time.Sleep(time.Millisecond)
		}
		if noticed() != before+1 {
			t.Errorf("%s: noticed %d times", f.name, noticed()-before)
		}
	}
}

// Every credential of the sandbox's is found, whatever it is.
func TestEveryCredentialIsFound(t *testing.T) {
	weChat, err := sandbox.New(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := weChat.AddAccount(sandbox.Account{AppID: account}); err != nil {
		t.Fatal(err)
	}
	_ = weChat.PushTicket(t.Context())                // nobody takes it, but it is made
	code, _ := weChat.Authorize(t.Context(), account) // likewise
	if _, err := weChat.RotateToken(account); err != nil {
		t.Fatal(err)
	}
	for _, credential := range append(weChat.Credentials(), code) {
		if findCredential([]byte("x"+credential+"x")) == "" {
			t.Errorf("%.16s… is not found", credential)
		}
	}
}
