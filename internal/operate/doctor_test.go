// SPDX-License-Identifier: Apache-2.0

package operate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// bareLog is Caddy's configuration with a site that has the directive log and no format.
const bareLog = `{"apps":{"http":{"servers":{"srv0":{"routes":[{"handle":[{"handler":"wechat_proxy"}]}],"logs":{}}}}}}`

// hosts are the hosts of WeChat's API. They are well if none are set.
type hosts struct {
	all    []openapi.Probed
	probes int
}

func (h *hosts) Probe(context.Context) []openapi.Probed {
	h.probes++
	if h.all == nil {
		return []openapi.Probed{{Host: "api.weixin.qq.com", Dated: true, Ahead: 300 * time.Millisecond}, {Host: "api2.weixin.qq.com", Dated: true}}
	}
	return h.all
}

// ticket stores a ticket that has come now, with its push.
func (f *office) ticket() {
	f.t.Helper()
	now := time.Now()
	if _, err := f.Vault.StoreTicket(f.t.Context(), component, vault.Ticket{Value: secret.New("TICKET"), CreateTime: now, Received: now}); err != nil {
		f.t.Error(err)
	}
	f.Pushes.Add(pushlog.Push{Time: now, At: "events", Component: component, What: "component_verify_ticket", Genuine: true, Outcome: pushlog.Acknowledged, Age: time.Second})
}

// refuses lets a push be refused now.
func (f *office) refuses(of string, reason string) {
	f.Pushes.Add(pushlog.Push{Time: time.Now(), At: "events", Component: of, Outcome: pushlog.Refused, Reason: reason})
}

// pushesWhenAsked lets WeChat push some time after it was asked for a ticket.
func (f *office) pushesWhenAsked(after time.Duration, push func()) {
	f.engine.onAsk = func(context.Context, string) error {
		time.AfterFunc(after, push)
		return nil
	}
}

// found is what an examination has found, by check.
func (f *office) diagnose(config string) (operate.Diagnosis, map[string]operate.Finding) {
	f.t.Helper()
	d, err := f.Diagnose(f.t.Context(), "", strings.NewReader(config))
	if err != nil {
		f.t.Fatal(err)
	}
	found := make(map[string]operate.Finding)
	for _, item := range d.Items {
		if before, twice := found[item.Check]; !twice || before.OK {
			found[item.Check] = item
		}
		if item.Found == "" || item.OK != (item.Remedy == "") {
			f.t.Errorf("a finding says nothing, or no remedy: %+v", item)
		}
	}
	return d, found
}

// examined makes an office that is well at the time start, and where a ticket comes soon
// after it was asked for.
func examined(t *testing.T, examine func(*office)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newOffice(t)
		time.Sleep(time.Until(start))
		f.well()
		f.pushesWhenAsked(300*time.Millisecond, f.ticket)
		examine(f)
	})
}

func TestAllIsWell(t *testing.T) {
	examined(t, func(f *office) {
		began := time.Now()
		d, _ := f.diagnose("")
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v, though the ticket came in less than a second", took)
		}
		got, err := json.Marshal(d)
		item := func(check, of, found string) string {
			return fmt.Sprintf(`{"check":%q,"ok":true,"found":%q,"remedy":"","component":%q}`, check, found, of)
		}
		want := `{"level":0,"node":"node-a","items":[` + strings.Join([]string{
			item("clock", "", "less than two seconds off WeChat's"),
			item("dns", "", "api.weixin.qq.com and api2.weixin.qq.com answer as WeChat does"),
			item("app_secret", component, "WeChat takes it"),
			item("ticket", component, "one came when WeChat was asked for it"),
			item("token", component, "the last genuine push is signed with it, 1s ago"),
			item("aes_key", component, "the last genuine push is encrypted with it, 1s ago"),
			item("white_list", component, "WeChat takes calls from this machine"),
			item("storage", "", "it can lock, store, load and delete; the slowest was locking, in 0s"),
			item("public_url", "", "no request to the launch page has come through a proxy that changes its address"),
			item("logs", "", "not looked at: the request came without Caddy's configuration"),
		}, ",") + `]}`
		if got := strings.Replace(string(got), "the slowest was unlocking", "the slowest was locking", 1); got != want || err != nil {
			t.Errorf("%v\n%s, want\n%s", err, got, want)
		}
		if lines := f.actions(); !slices.Equal(lines, []string{"admin doctor node-a:  → level=0 found="}) {
			t.Errorf("the audit is %q", lines)
		}
	})
}

// WeChat pushes at once only where its pushes have stopped.
func TestAPushIsWaitedForFifteenSeconds(t *testing.T) {
	examined(t, func(f *office) {
		time.Sleep(7 * time.Minute)
		f.engine.onAsk = nil
		began := time.Now()
		d, found := f.diagnose("")
		if took := time.Since(began); took != 15*time.Second || d.Level != operate.LevelWell || !strings.Contains(found["ticket"].Found, "the last one came 7m15s ago") {
			t.Errorf("after %v: %+v", took, d)
		}
	})
	examined(t, func(f *office) {
		f.pushesWhenAsked(13500*time.Millisecond, f.ticket)
		began := time.Now()
		if _, found := f.diagnose(""); time.Since(began) != 14*time.Second || !strings.Contains(found["ticket"].Found, "when WeChat was asked") {
			t.Errorf("after %v: %+v", time.Since(began), found["ticket"])
		}
	})
}

// The rows are what can be wrong. Of each the finding says what, the remedy what to do,
// and the level how bad it is; nothing else is found then, but what follows from it.
func TestTheDoctorFinds(t *testing.T) {
	ip := netip.MustParseAddr("203.0.113.7")
	outage := &openapi.Outage{Endpoint: openapi.EndpointStartPushTicket, Err: errors.New("connection reset")}
	refusal := func(code int) error {
		return &openapi.Refusal{Endpoint: openapi.EndpointStartPushTicket, Code: code, RID: "1-2-3", Message: "HIDDEN"}
	}
	asked := func(err error) func(*office) {
		return func(f *office) { f.engine.onAsk = func(context.Context, string) error { return err } }
	}
	silent := func(f *office) { f.engine.onAsk = nil }
	probed := func(all ...openapi.Probed) func(*office) { return func(f *office) { f.hosts.all = all } }
	alone := func(is openapi.Nature) openapi.Probed { return openapi.Probed{Host: "a.test", Is: is, Dated: true} }
	unreached := openapi.Probed{Host: "a.test", Err: errors.New("dial tcp: no route to host")}
	for _, row := range []struct {
		name    string
		make    func(*office)
		level   int
		checks  string // that find something
		finding string
		remedy  string
	}{
		{"a clock that is off by 15 minutes", probed(openapi.Probed{Host: "a.test", Dated: true, Ahead: 15 * time.Minute}), 2, "clock", "15m0s behind WeChat's: pushes are refused", "NTP"},
		{"a clock that is ahead", probed(openapi.Probed{Host: "a.test", Dated: true, Ahead: -11 * time.Minute}), 2, "clock", "11m0s ahead", "NTP"},
		{"a clock that is slightly off", probed(openapi.Probed{Host: "a.test", Dated: true, Ahead: 90 * time.Second}), 1, "clock", "1m30s behind", "NTP"},
		{"the clock of a host that is none of WeChat's", func(f *office) {
			probed(openapi.Probed{Host: "a.test", Is: openapi.Foreign, Dated: true, Ahead: time.Hour}, openapi.Probed{Host: "b.test", Dated: true})(f)
		}, 2, "dns", "does not answer as WeChat does", "proxy"},
		{"no host that tells its time, and stale pushes", func(f *office) {
			probed(openapi.Probed{Host: "a.test"})(f)
			f.pushesWhenAsked(time.Millisecond, func() { f.refuses(component, pushlog.Stale) })
		}, 2, "clock", "signed more than 10 minutes earlier or later", "NTP"},
		{"no host that tells its time, and a push that comes from the future", func(f *office) {
			probed(openapi.Probed{Host: "a.test"})(f)
			f.pushesWhenAsked(time.Millisecond, func() {
				f.ticket()
				f.Pushes.Add(pushlog.Push{Time: time.Now().Add(time.Millisecond), Component: component, Genuine: true, Age: -2 * time.Minute})
			})
		}, 1, "clock", "2m0s behind", "NTP"},
		{"nobody who tells the time", func(f *office) {
			probed(openapi.Probed{Host: "a.test"})(f)
			silent(f)
		}, 1, "clock", "cannot tell", "dns"},

		{"a name that leads back here", probed(alone(openapi.Gateway), openapi.Probed{Host: "b.test", Dated: true}), 2, "dns", "a.test is answered by a gateway", "api2.weixin.qq.com"},
		{"a host that cannot be reached", probed(unreached, openapi.Probed{Host: "b.test", Dated: true}), 1, "dns", "a.test cannot be reached: dial tcp: no route to host", "firewall"},
		{"no host that can be reached", func(f *office) { probed(unreached)(f); f.ticket() }, 2, "dns", "a.test cannot be reached", "firewall"},

		{"a wrong app secret", asked(refusal(40125)), 2, "app_secret", "WeChat refuses it (api_start_push_ticket: errcode 40125 (rid 1-2-3), asked 0s ago)", "app_secret"},
		{"a wrong app secret, as WeChat says it elsewhere", asked(refusal(40001)), 2, "app_secret", "errcode 40001", "app_secret"},
		{"a component that WeChat does not know", asked(refusal(40013)), 2, "app_secret", "errcode 40013", "appid"},
		{"WeChat is busy", asked(refusal(-1)), 1, "app_secret", "cannot tell", "in a minute"},
		{"WeChat does not answer", asked(outage), 1, "app_secret", "cannot tell", "other findings"},

		{"a white list without this machine", func(f *office) {
			asked(&openapi.Refusal{Endpoint: openapi.EndpointStartPushTicket, Code: 61004, IP: ip, Message: "HIDDEN"})(f)
			f.engine.tried = problem.ErrNoComponent
		}, 2, "white_list", "203.0.113.7", "白名单IP地址列表"},
		{"a white list that one call meets", func(f *office) {
			f.engine.tried = fmt.Errorf("no: %w", &openapi.Refusal{Endpoint: openapi.EndpointPreAuthCode, Code: 40164, IP: ip})
		}, 2, "white_list", "203.0.113.7", "白名单IP地址列表"},
		{"an address that an admin must confirm", func(f *office) { f.engine.tried = refusal(89503) }, 2, "white_list", "errcode 89503", "confirm"},
		{"another refusal", func(f *office) { f.engine.tried = refusal(61028) }, 2, "white_list", "refuses this one: api_start_push_ticket: errcode 61028", "全网发布"},
		{"a refusal that nobody knows", func(f *office) { f.engine.tried = refusal(12345) }, 2, "white_list", "errcode 12345", "documentation"},
		{"no token", func(f *office) {
			f.engine.tried = problem.ErrNoComponent
			f.engine.last[subject.Of(component, "")] = tokens.Failure{Time: time.Now(), Text: "said why", Remedy: "do that"}
		}, 2, "white_list", "said why", "do that"},

		{"a wrong token", func(f *office) {
			f.pushesWhenAsked(time.Second, func() { f.refuses(component, bizmsg.ErrSignature.Error()) })
		}, 2, "token", "does not match", "消息校验Token"},
		{"a wrong token for a long time", func(f *office) {
			silent(f)
			time.Sleep(30 * time.Minute)
			f.refuses("", bizmsg.ErrSignature.Error())
		}, 2, "ticket token", "does not match", "消息校验Token"},
		{"a push of somebody else", func(f *office) {
			silent(f)
			f.ticket()
			time.Sleep(time.Minute)
			f.refuses(component, bizmsg.ErrSignature.Error())
			time.Sleep(time.Minute)
		}, 1, "token", "by somebody else", "消息校验Token"},
		{"the previous token", func(f *office) {
			f.pushesWhenAsked(time.Second, func() {
				f.ticket()
				f.Pushes.Add(pushlog.Push{Time: time.Now().Add(time.Millisecond), Component: component, Genuine: true, Previous: true})
			})
		}, 1, "token", "previous", "keep"},
		{"a wrong key", func(f *office) {
			f.pushesWhenAsked(time.Second, func() { f.refuses(component, bizmsg.ErrCiphertext.Error()) })
		}, 2, "aes_key", "not encrypted with any of the keys", "消息加解密Key"},
		{"the key of another component", func(f *office) {
			f.pushesWhenAsked(time.Second, func() { f.refuses(component, bizmsg.ErrReceiveID.Error()) })
		}, 2, "aes_key", "another receive id", "AppID"},

		{"no ticket for long", func(f *office) { silent(f); time.Sleep(26 * time.Minute) }, 2, "ticket", "the last one came 26m15s ago, and WeChat has sent none within 15s", "授权事件接收配置"},
		{"no ticket, and WeChat cannot be asked", func(f *office) { time.Sleep(26 * time.Minute); asked(refusal(45011))(f) }, 2, "app_secret ticket", "", ""},
		{"a storage that does not load", func(f *office) {
			f.storage.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
				if op == vaulttest.Load {
					return fs.ErrPermission
				}
				return nil
			})
			f.engine.onAsk = nil
		}, 2, "storage ticket", "", ""},

		{"a storage that is read-only", func(f *office) {
			f.ticket()
			f.storage.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
				if op == vaulttest.Store && strings.Contains(name, "doctor") {
					return fs.ErrPermission
				}
				return nil
			})
			silent(f)
		}, 2, "storage", "storing wechat/doctor/", "Caddy's storage"},
		{"a storage that is slow", func(f *office) {
			f.storage.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
				if op == vaulttest.Store && strings.Contains(name, "doctor") {
					time.Sleep(2 * time.Second)
				}
				return nil
			})
		}, 1, "storage", "storing has taken 2s", "five seconds"},

		{"a proxy in front", func(f *office) {
			f.Site.Note("http://gw.test/wechat/authorize", http.Header{"X-Forwarded-Proto": {"https"}})
		}, 1, "public_url", "another scheme", "public_url"},
		{"a bare log", func(*office) {}, 1, "logs", `"default"`, "format wechat"},
	} {
		t.Run(row.name, func(t *testing.T) {
			examined(t, func(f *office) {
				row.make(f)
				config := ""
				if row.checks == "logs" {
					config = bareLog
				}
				d, found := f.diagnose(config)
				var wrong []string
				for check, finding := range found {
					if !finding.OK {
						wrong = append(wrong, check)
					}
				}
				slices.Sort(wrong)
				if got := strings.Join(wrong, " "); d.Level != row.level || got != row.checks {
					t.Errorf("level %d, found by %q: %+v", d.Level, got, d.Items)
				}
				if finding := found[row.checks[strings.LastIndexByte(row.checks, ' ')+1:]]; !strings.Contains(finding.Found, row.finding) || !strings.Contains(finding.Remedy, row.remedy) {
					t.Errorf("found is %+v", finding)
				}
				if text := fmt.Sprint(d, f.actions()); strings.Contains(text, "HIDDEN") {
					t.Error(text)
				}
			})
		})
	}
}

// What WeChat was asked for less than a minute ago it is not asked again: the answer
// holds.
func TestTheLastAnswerHolds(t *testing.T) {
	examined(t, func(f *office) {
		f.engine.onAsk = func(context.Context, string) error {
			return &openapi.Refusal{Endpoint: openapi.EndpointStartPushTicket, Code: 40125}
		}
		f.diagnose("")
		f.engine.onAsk = func(context.Context, string) error { return tokens.ErrAskedLately }
		time.Sleep(20 * time.Second)
		if _, found := f.diagnose(""); !strings.Contains(found["app_secret"].Found, "asked 20s ago") {
			t.Errorf("%+v", found["app_secret"])
		}
	})
}

// Two operators at once share one examination, as WeChat may not be asked twice. Each has
// the check of the configuration that he has sent.
func TestTwoShareOneExamination(t *testing.T) {
	examined(t, func(f *office) {
		asked := 0
		f.engine.onAsk = func(context.Context, string) error { asked++; return nil }
		ended, hangUp := context.WithCancel(f.t.Context())
		hangUp() // Caddy's admin API cancels the request meanwhile
		var both sync.WaitGroup
		results := make([]operate.Diagnosis, 2)
		for i, config := range []string{"", bareLog} {
			both.Go(func() {
				d, err := f.Diagnose(ended, "", strings.NewReader(config))
				if err != nil {
					t.Error(err)
				}
				results[i] = d
			})
			time.Sleep(5 * time.Second)
		}
		both.Wait()
		if asked != 1 || f.hosts.probes != 1 || results[0].Level != operate.LevelWell || results[1].Level != operate.LevelWarnings {
			t.Errorf("asked %d times, probed %d times: %+v", asked, f.hosts.probes, results)
		}
		f.diagnose("")
		if f.hosts.probes != 2 {
			t.Errorf("probed %d times after a third, which came later", f.hosts.probes)
		}
	})
}

// A storage that hangs, and does not heed its context, holds up nobody for ever.
func TestAStorageThatHangsIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newOffice(t)
		release := make(chan struct{})
		f.storage.Intercept(func(context.Context, vaulttest.Op, string) error { <-release; return fs.ErrClosed })
		began := time.Now()
		d, found := f.diagnose("")
		if took := time.Since(began); took > time.Minute || d.Level != operate.LevelBroken ||
			!strings.Contains(found["storage"].Found, "within 5s") || !strings.Contains(found["ticket"].Found, "not ended within") {
			t.Errorf("after %v: %+v", took, d)
		}
		close(release)
		synctest.Wait()
	})
}

// At the end of the process an examination ends, and no other begins.
func TestTheDoctorStops(t *testing.T) {
	examined(t, func(f *office) {
		f.engine.onAsk = nil
		began := time.Now()
		var running sync.WaitGroup
		running.Go(func() {
			if _, err := f.Diagnose(f.t.Context(), "", strings.NewReader("")); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		f.Doctor.Close()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it went on for %v", took)
		}
		running.Wait()
		if _, err := f.Diagnose(f.t.Context(), "", strings.NewReader("")); refused(t, err).Status != http.StatusServiceUnavailable {
			t.Error(err)
		}
	})
}

func TestConfigurationsThatCannotBeRead(t *testing.T) {
	examined(t, func(f *office) {
		for _, row := range []struct {
			body   io.Reader
			status int
		}{
			{strings.NewReader(`{"apps":"SECRET"}`), http.StatusBadRequest},
			{strings.NewReader(`SECRET`), http.StatusBadRequest},
			{strings.NewReader(`{"apps":{"http":{"servers":{"a":{"logs":"SECRET","routes":"wechat_proxy"}}}}`), http.StatusBadRequest},
			{strings.NewReader(`{"apps":{"http":{"servers":{"a":{"logs":"SECRET","routes":["wechat_proxy"]}}}}}`), http.StatusBadRequest},
			{io.MultiReader(strings.NewReader(`{`), broken{}), http.StatusBadRequest},
		} {
			_, err := f.Diagnose(f.t.Context(), "", row.body)
			if told := refused(t, err); told.Status != row.status || told.Remedy == "" || strings.Contains(told.Error(), "SECRET") {
				t.Errorf("%+v", told)
			}
		}
		if f.hosts.probes != 0 {
			t.Error("the gateway was examined all the same")
		}
		if d, found := f.diagnose(strings.Repeat("SECRET", 2<<20)); d.Level != operate.LevelWell || !strings.Contains(found["logs"].Found, "larger than 8 MiB") {
			t.Errorf("%+v", d)
		}
	})
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("SECRET") }
