// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

const (
	platform = "wx00000000000000c0"
	account  = "wx00000000000000a0"
)

// send is a call that went well.
func send() Call {
	return Call{
		Client: "shop", Component: platform, AppID: account, Method: "POST", Path: "/cgi-bin/message/custom/send", Kind: "authorizer", HasWeChat: true,
		Status: 200, Upstream: 12345678 * time.Nanosecond, Bytes: 27, Remote: "192.0.2.1", RequestID: "f1b2",
	}
}

// refused is a call that WeChat has refused.
func refused(errcode int) Call {
	c := send()
	c.WeChat, c.Errcode, c.RID = errcode, errcode, "5f2a-1-2"
	return c
}

// denied is a call that the gateway has refused.
func denied(client, appid, slug string) Call {
	return Call{Client: client, AppID: appid, Slug: slug, Errcode: 48001, Status: 200, Method: "GET", Kind: "none"}
}

// observed returns a log of this mode, and what it has written.
func observed(t *testing.T, mode Mode) (*Log, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	l := New(zap.New(core), mode)
	t.Cleanup(l.Stop)
	return l, logs
}

// lines are those written since the last time, in short.
func lines(logs *observer.ObservedLogs) (all []string) {
	for _, entry := range logs.TakeAll() {
		m := entry.ContextMap()
		all = append(all, fmt.Sprint(m["client"], " ", m["appid"], " ", m["slug"], " ", m["errcode"], " ", m["count"]))
	}
	slices.Sort(all) // timers have no order
	return all
}

func want(t *testing.T, logs *observer.ObservedLogs, want ...string) {
	t.Helper()
	if got := lines(logs); !slices.Equal(got, want) {
		t.Errorf("written\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A line as a file has it.
func TestFieldsOfACall(t *testing.T) {
	var out strings.Builder
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"})
	l := New(zap.New(zapcore.NewCore(encoder, zapcore.AddSync(&out), zap.InfoLevel)), Calls)
	l.Call(send())
	l.Call(refused(45009))
	own := denied("none", "", "bad_token")
	l.Call(own)
	l.Action(Action{Operator: "admin", Action: "renew", Object: platform + "/" + account, Before: "failing", After: "authorized"})
	if got, want := out.String(), `{"msg":"call","client":"shop","component":"wx00000000000000c0","appid":"wx00000000000000a0","method":"POST","path":"/cgi-bin/message/custom/send","kind":"authorizer","wechat_errcode":0,"errcode":0,"status":200,"repeated":false,"upstream_ms":12.345,"bytes":27,"remote":"192.0.2.1","request_id":"f1b2"}
{"msg":"call","client":"shop","component":"wx00000000000000c0","appid":"wx00000000000000a0","method":"POST","path":"/cgi-bin/message/custom/send","kind":"authorizer","wechat_errcode":45009,"errcode":45009,"rid":"5f2a-1-2","slug":"wechat","status":200,"repeated":false,"upstream_ms":12.345,"bytes":27,"remote":"192.0.2.1","request_id":"f1b2"}
{"msg":"call","client":"none","component":"","appid":"","method":"GET","path":"","kind":"none","errcode":48001,"slug":"bad_token","status":200,"repeated":false,"upstream_ms":0,"bytes":0,"remote":"","request_id":""}
{"msg":"action","operator":"admin","action":"renew","object":"wx00000000000000c0/wx00000000000000a0","before":"failing","after":"authorized"}
`; got != want {
		t.Errorf("written\n%swant\n%s", got, want)
	}
	for line := range strings.Lines(out.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

func TestModes(t *testing.T) {
	for mode, row := range map[string]struct {
		wantsAll, wantsRefused bool
		written                []string
	}{
		"off":      {false, false, nil},
		"refusals": {false, true, []string{"shop " + account + " no_right 48001 <nil>", "shop " + account + " wechat 0 <nil>", "shop " + account + " wechat 45009 <nil>"}},
		"calls": {true, true, []string{"shop " + account + " <nil> 0 <nil>", "shop " + account + " no_right 48001 <nil>", "shop " + account + " no_right 48001 <nil>",
			"shop " + account + " wechat 0 <nil>", "shop " + account + " wechat 45009 <nil>"}},
	} {
		t.Run(mode, func(t *testing.T) {
			parsed, ok := ParseMode(mode)
			if !ok {
				t.Fatal("unknown")
			}
			l, logs := observed(t, parsed)
			if l.Wants(false) != row.wantsAll || l.Wants(true) != row.wantsRefused {
				t.Errorf("wants all %v, refused %v", l.Wants(false), l.Wants(true))
			}
			page := send()
			page.Status, page.HasWeChat = 502, false
			for _, c := range []Call{send(), refused(45009), page, denied("shop", account, "no_right"), denied("shop", account, "no_right")} {
				l.Call(c)
			}
			want(t, logs, row.written...)
			l.Action(Action{Operator: "admin", Action: "forget"})
			if entries := logs.TakeAll(); len(entries) != 1 || entries[0].ContextMap()["action"] != "forget" {
				t.Errorf("of an action was written: %v", entries)
			}
		})
	}
	for _, name := range []string{"", "Off", "call", "all", "0", "refusals "} {
		if _, ok := ParseMode(name); ok {
			t.Errorf("%q is a mode", name)
		}
	}
}

// A thousand equal refusals are two lines: the first, and the last with the count.
func TestEqualRefusalsAreALineAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := observed(t, Refusals)
		for range 1000 {
			l.Call(denied("shop", account, "no_right"))
		}
		want(t, logs, "shop "+account+" no_right 48001 <nil>")
		time.Sleep(time.Minute + time.Second)
		want(t, logs, "shop "+account+" no_right 48001 999")
		time.Sleep(time.Hour)
		want(t, logs)
		l.Call(denied("shop", account, "no_right"))
		want(t, logs, "shop "+account+" no_right 48001 <nil>")
	})
}

func TestOtherRefusalsHaveLinesOfTheirOwn(t *testing.T) {
	l, logs := observed(t, Refusals)
	other := denied("shop", account, "no_right")
	other.Component = platform
	for range 2 {
		for _, c := range []Call{denied("shop", account, "no_right"), denied("crm", account, "no_right"), denied("shop", "wx00000000000000a1", "no_right"),
			denied("shop", account, "busy"), refused(45009), refused(48001), other} {
			l.Call(c)
		}
	}
	if n := logs.Len(); n != 7 {
		t.Errorf("%d lines, want 7: %v", n, lines(logs))
	}
}

// What is kept of a refusal until its count is written keeps no request in memory, and is
// no longer than a line may be.
func TestRefusalsKeepNoPartOfARequest(t *testing.T) {
	request := strings.Repeat("M", 1<<20) + " /wxa/commit?appid=" + account
	method, path, appid := request[:1<<20], request[1<<20+1:][:11], request[len(request)-18:]
	synctest.Test(t, func(t *testing.T) {
		l, logs := observed(t, Refusals)
		for range 2 {
			c := denied("shop", appid, "no_right")
			c.Method, c.Path = method, path
			l.Call(c)
		}
		time.Sleep(time.Minute + time.Second)
		for _, entry := range logs.TakeAll() {
			m := entry.ContextMap()
			if m["path"] != "/wxa/commit" || m["appid"] != account || len(m["method"].(string)) > maxMethod {
				t.Errorf("written %.300v", m)
			}
			for name, value := range m {
				if text, ok := value.(string); ok && shares(text, request) {
					t.Errorf("%s is a part of the request", name)
				}
			}
		}
	})
}

// A stranger's method is no longer in a line of any mode.
func TestLongMethods(t *testing.T) {
	l, logs := observed(t, Calls)
	c := denied("none", "", "bad_token")
	c.Method = strings.Repeat("M", 1<<20)
	l.Call(c)
	if got := logs.All()[0].ContextMap()["method"]; got != strings.Repeat("M", maxMethod) {
		t.Errorf("written %.100q", got)
	}
}

// shares reports whether part lies in the memory of whole.
func shares(part, whole string) bool {
	from, begin := uintptr(unsafe.Pointer(unsafe.StringData(part))), uintptr(unsafe.Pointer(unsafe.StringData(whole)))
	return from >= begin && from < begin+uintptr(len(whole))
}

// Where too many accounts are refused to count each, the count names none of them.
func TestRefusalsOfManyAccountsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := observed(t, Refusals)
		const accounts = 50_000
		for i := range accounts {
			c := denied("shop", fmt.Sprintf("wx%016x", i), "not_authorized")
			c.Component = platform
			l.Call(c)
		}
		if n := logs.Len(); n != maxAccounts+1 {
			t.Errorf("%d lines, want %d", n, maxAccounts+1)
		}
		logs.TakeAll()
		time.Sleep(time.Minute + time.Second)
		want(t, logs, fmt.Sprintf("shop  not_authorized 48001 %d", accounts-maxAccounts-1))
	})
}

// At the end the counts are written, and no timer writes later into a closed log.
func TestStopWritesCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := observed(t, Refusals)
		for range 3 {
			l.Call(denied("shop", account, "no_right"))
		}
		logs.TakeAll()
		l.Stop()
		want(t, logs, "shop "+account+" no_right 48001 2")
		l.Stop()
		for range 3 {
			l.Call(denied("shop", account, "no_right"))
			l.Call(denied("shop", account, "busy"))
		}
		want(t, logs, "shop "+account+" busy 48001 <nil>")
		time.Sleep(time.Hour)
		want(t, logs)
	})
}

// What is not written costs nothing: most calls are of this kind.
func TestCallThatNobodyWantsAllocatesNothing(t *testing.T) {
	for _, mode := range []Mode{Off, Refusals} {
		l, _ := observed(t, mode)
		c := send()
		if n := testing.AllocsPerRun(100, func() {
			if l.Wants(c.Refused()) {
				l.Call(c)
			}
		}); n != 0 {
			t.Errorf("mode %d: %v allocations", mode, n)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	log := zap.New(zapcore.NewCore(encoder, zapcore.AddSync(io.Discard), zap.InfoLevel))
	for name, row := range map[string]struct {
		mode Mode
		c    Call
	}{
		"off": {Off, send()}, "refusals, of a success": {Refusals, send()}, "refusals": {Refusals, refused(45009)}, "calls": {Calls, send()},
	} {
		b.Run(name, func(b *testing.B) {
			l := New(log, row.mode)
			defer l.Stop()
			b.ReportAllocs()
			for b.Loop() {
				if l.Wants(row.c.Refused()) {
					l.Call(row.c)
				}
			}
		})
	}
}
