// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Each mistake fails its step, and no other.
func TestEachStepOfThePublishTestFails(t *testing.T) {
	const text, customer, mini = "official account: text", "official account: customer message", "mini program: customer message"
	plainText := func(p pushed) string { return "hello" }
	for name, row := range map[string]struct {
		change func(g *publishGateway)
		fails  []string
		got    string
	}{
		"a ticket that is not taken": {func(g *publishGateway) { g.event = func(string) string { return "no" } }, []string{"ticket"}, "not exactly `success`"},
		"an authorisation that is not taken": {func(g *publishGateway) {
			g.event = func(infoType string) string { return map[bool]string{true: "success"}[infoType != "authorized"] }
		}, []string{"official account: authorization", "mini program: authorization"}, "attempt 3 of 3"},
		"no reply":      {func(g *publishGateway) { g.text = func(pushed) string { return "success" } }, []string{text}, "`success`"},
		"another reply": {func(g *publishGateway) { g.text = func(p pushed) string { return g.reply(p, "hi") } }, []string{text}, `the text "hi"`},
		"a picture": {func(g *publishGateway) {
			g.text = func(p pushed) string {
				return sealedReply(strings.Replace(textReply(p.field("FromUserName"), "TESTCOMPONENT_MSG_TYPE_TEXT_callback"), "[text]", "[image]", 1))
			}
		}, []string{text}, `MsgType "image"`},
		"a reply in clear": {func(g *publishGateway) { g.text = plainText }, []string{text}, `the answer was "hello"`},
		"a reply that comes late": {func(g *publishGateway) {
			g.text = func(p pushed) string { time.Sleep(6 * time.Second); return g.reply(p, p.field("Content")+"_callback") }
			g.receiver.hangUp = true
		}, []string{text}, "no answer within 5s"},
		"success and not nothing": {func(g *publishGateway) { g.query = func(pushed, string) string { return "success" } }, []string{customer, mini}, "`success`"},
		"a reply and not nothing": {func(g *publishGateway) { g.query = func(p pushed, _ string) string { return g.reply(p, "hi") } }, []string{customer, mini}, `"hi"`},
		"no customer message":     {func(g *publishGateway) { g.send = func(string, pushed, string) {} }, []string{customer, mini}, "custom/send was not called"},
		"a customer message too late": {func(g *publishGateway) {
			send := g.send
			g.send = func(appid string, p pushed, code string) { time.Sleep(10 * time.Second); send(appid, p, code) }
		}, []string{customer, mini}, "custom/send was not called"},
		"an exchange and no more": {func(g *publishGateway) {
			g.send = func(appid string, _ pushed, code string) { g.exchange(appid, code) }
		}, []string{customer, mini}, "the code was exchanged; custom/send was not called"},
		"no exchange at all": {func(g *publishGateway) {
			g.late, g.send = true, func(string, pushed, string) {}
		}, []string{customer, mini}, "api_query_auth was not called"},
		"an exchange that comes too late": {func(g *publishGateway) {
			g.late, g.send = true, func(appid string, _ pushed, code string) {
				g.AdvanceClock(10 * time.Minute)
				g.exchange(appid, code)
			}
		}, []string{customer, mini}, "api_query_auth refused the code"},
		"another text": {func(g *publishGateway) {
			g.send = func(appid string, p pushed, code string) { g.sendText(g.tokens[appid], p.field("FromUserName"), code) }
		}, []string{customer, mini}, `custom/send of the text "$query_auth_code$" to the follower`},
		"to somebody else": {func(g *publishGateway) {
			g.send = func(appid string, p pushed, code string) { g.sendText(g.tokens[appid], "o1", code+"_from_api") }
		}, []string{customer, mini}, `_from_api" to somebody else`},
		"by another account": {func(g *publishGateway) {
			g.send = func(appid string, p pushed, code string) {
				for other, token := range g.tokens {
					if other != appid {
						g.sendText(token, p.field("FromUserName"), code+"_from_api")
					}
				}
			}
		}, []string{customer, mini}, "custom/send was not called"},
		"of another msgtype": {func(g *publishGateway) {
			g.send = func(appid string, p pushed, code string) {
				g.sendMessage(g.tokens[appid], map[string]any{"touser": p.field("FromUserName"), "msgtype": "link", "link": map[string]string{}, "text": map[string]string{"content": code + "_from_api"}})
			}
		}, []string{customer, mini}, `msgtype "link"`},
		"no answer to the event": {func(g *publishGateway) { g.location = func(pushed) string { return "" } }, []string{"official account: event"}, "an empty answer"},
		"a withdrawal that is not taken": {func(g *publishGateway) {
			g.event = func(infoType string) string { return map[bool]string{true: "success"}[infoType != "unauthorized"] }
		}, []string{"official account: withdrawal", "mini program: withdrawal"}, "attempt 3 of 3"},
	} {
		t.Run(name, func(t *testing.T) {
			playPublishTest(t, sandbox.Switches{PublishOldSteps: true}, func(t *testing.T, g *publishGateway) {
				row.change(g)
				steps, err := g.PublishTest(t.Context(), 3)
				if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%d of %d steps failed, first that of group 3, %s", len(row.fails), len(steps), row.fails[0])) {
					t.Errorf("error %v", err)
				}
				if want := map[bool]int{true: 1, false: 9}[row.fails[0] == sandbox.StepTicket]; len(steps) != want {
					t.Errorf("%d steps, want %d", len(steps), want)
				}
				var fails []string
				for _, step := range steps {
					if step.Sent == "" || step.Wanted == "" || step.Got == "" || step.Group != 3 || (step.AppID == "") != (step.Step == sandbox.StepTicket) {
						t.Errorf("step %+v", step)
					}
					if !step.OK {
						fails = append(fails, step.Step)
						if !strings.Contains(step.Got, row.got) {
							t.Errorf("%s got %q, want %q", step.Step, step.Got, row.got)
						}
					}
				}
				if diff := cmp.Diff(row.fails, fails); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// The token by which the message comes must not be older than that of the exchange,
// if the code is not that of the event. Then the code has to be exchanged as well.
func TestTheStoredTokenWillNotDoForACodeOfItsOwn(t *testing.T) {
	for exchanged, want := range map[bool]string{true: "with an older token", false: "api_query_auth was not called"} {
		playPublishTest(t, sandbox.Switches{DifferentCodes: true}, func(t *testing.T, g *publishGateway) {
			g.send = func(appid string, p pushed, code string) {
				stored := g.tokens[appid]
				if exchanged {
					g.exchange(appid, code)
				}
				g.sendText(stored, p.field("FromUserName"), code+"_from_api")
			}
			steps, err := g.PublishTest(t.Context(), 1)
			if err == nil || !strings.Contains(steps[4].Got, want) {
				t.Errorf("%v, %+v", err, steps[4])
			}
		})
	}
}

// An application may send messages of its own, before and after the right one.
func TestOtherMessagesDoNotDisturbThePublishTest(t *testing.T) {
	playPublishTest(t, sandbox.Switches{}, func(t *testing.T, g *publishGateway) {
		send := g.send
		g.send = func(appid string, p pushed, code string) {
			g.sendText(g.tokens[appid], p.field("FromUserName"), "Welcome!")
			send(appid, p, code)
			g.sendText(g.tokens[appid], p.field("FromUserName"), "Goodbye!")
		}
		began := time.Now()
		_, err := g.PublishTest(t.Context(), 1)
		g.must(err)
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %v, though each of the two messages comes after a second", took)
		}
	})
}

// WeChat hangs up twice, and the third attempt is answered in time.
func TestThePublishTestRepeatsAsWeChatDoes(t *testing.T) {
	playPublishTest(t, sandbox.Switches{}, func(t *testing.T, g *publishGateway) {
		g.receiver.hangUp = true
		attempts := map[string]int{}
		slow := func(right func(p pushed) string) func(p pushed) string {
			return func(p pushed) string {
				if attempts[p.plain]++; attempts[p.plain] < 3 {
					time.Sleep(10 * time.Second)
				}
				return right(p)
			}
		}
		g.text = slow(g.text)
		query := slow(func(p pushed) string { return "" })
		g.query = func(p pushed, _ string) string { return query(p) }
		steps, err := g.PublishTest(t.Context(), 1)
		g.must(err)
		for _, i := range []int{3, 4, 5} {
			if !strings.Contains(steps[i].Got, "at attempt 3") {
				t.Errorf("%+v", steps[i])
			}
		}
		if n := len(attempts); n != 3 {
			t.Errorf("%d messages in 9 attempts: a repetition has another text", n)
		}
	})
}

// The texts are for people: they hold no code, not even where the gateway shows one.
func TestNoCodeIsShown(t *testing.T) {
	playPublishTest(t, sandbox.Switches{PublishOldSteps: true}, func(t *testing.T, g *publishGateway) {
		event := ""
		g.text = func(p pushed) string {
			for _, earlier := range g.receiver.all() {
				event += earlier.field("AuthorizationCode")
			}
			return "codes: " + event
		}
		g.location = func(p pushed) string { return g.reply(p, event) }
		g.query = func(p pushed, code string) string { return g.reply(p, "a\x1b[2J\n"+strings.Repeat(code, 3)) }
		var told []byte
		steps, err := g.PublishTest(t.Context(), 1)
		for _, step := range steps {
			encoded, _ := json.Marshal(step)
			told = append(append(told, encoded...), step.Got...)
			if len(step.Got) > 500 || strings.ContainsAny(step.Got, "\x1b\n") {
				t.Errorf("unreadable: %q", step.Got)
			}
		}
		if text := string(told) + err.Error(); strings.Contains(text, "queryauthcode@@@") || !strings.Contains(text, "(another code)") || !strings.Contains(text, "$query_auth_code$$query_auth_code$") {
			t.Error(text)
		}
	})
}

func TestThePublishTestOverHTTP(t *testing.T) {
	playPublishTest(t, sandbox.Switches{}, func(t *testing.T, g *publishGateway) {
		type result struct {
			Steps  []sandbox.PublishStep
			Failed *sandbox.PublishStep
			Error  string
		}
		pull := func(body string, status int) (r result) {
			t.Helper()
			response, answer := g.do("POST", "/_sandbox/publish-test", body)
			if err := json.Unmarshal([]byte(answer), &r); err != nil || response.StatusCode != status {
				t.Errorf("%s: %d %s", body, response.StatusCode, answer)
			}
			return r
		}
		if r := pull(`{"group":2}`, 200); len(r.Steps) != 6 || r.Failed != nil || r.Error != "" || r.Steps[1].AppID != "wx9252c5e0bb1836fc" {
			t.Errorf("%+v", r)
		}
		if r := pull(``, 200); len(r.Steps) != 30 {
			t.Errorf("all groups: %+v", r)
		}
		g.send = func(string, pushed, string) {}
		if r := pull(`{"group":2}`, 409); len(r.Steps) != 6 || r.Failed == nil || r.Failed.Step != "official account: customer message" || !strings.Contains(r.Error, r.Failed.Got) {
			t.Errorf("%+v", r)
		}
		for _, group := range []string{"6", "-1"} {
			if r := pull(`{"group":`+group+`}`, 409); r.Steps == nil || len(r.Steps) != 0 || !strings.Contains(r.Error, "groups 1 to 5") {
				t.Errorf("%+v", r)
			}
		}
		pull(`{"groups":[1]}`, 400)
	})
}

// A caller who gives up has not failed the test.
func TestThePublishTestEndsWithItsContext(t *testing.T) {
	playPublishTest(t, sandbox.Switches{}, func(t *testing.T, g *publishGateway) {
		g.send = func(string, pushed, string) {}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		steps, err := g.PublishTest(ctx, 0)
		if len(steps) != 4 || !strings.Contains(fmt.Sprint(err), "after 4 steps") || time.Since(began) != 5*time.Second {
			t.Errorf("%d steps, %v", len(steps), err)
		}
	})
}
