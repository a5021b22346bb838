// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/logging"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// platformTarget is a target in safe mode that is spoken to as a platform. Its codes and
// tickets are numbered.
func platformTarget(t testing.TB, client string) *delivery.Target {
	t.Helper()
	target := safeTarget(t, client)
	var made atomic.Int64
	target.Platform = &delivery.Platform{
		Code: func(appID string, now time.Time) (string, time.Time) {
			return fmt.Sprintf("gwc1.%s.%d", appID, made.Add(1)), now.Add(time.Hour)
		},
		Ticket: func() string { return fmt.Sprintf("gwk1.%d", made.Add(1)) },
	}
	return target
}

// opened returns what is in a delivery, and its receive id.
func opened(t testing.TB, got received) (text, receiveID string) {
	t.Helper()
	if strings.HasPrefix(got.body, "{") {
		var envelope struct{ Encrypt string }
		if err := json.Unmarshal([]byte(got.body), &envelope); err != nil {
			t.Fatal(err)
		}
		return unseal(t, clientKey, envelope.Encrypt)
	}
	return unseal(t, clientKey, elements(t, got.body)["Encrypt"])
}

func TestAPlatformIsSpokenToAsWeChatDoes(t *testing.T) {
	target := platformTarget(t, "shop")
	got := requestFor(t, target, aMessage)
	if envelope := elements(t, got.body); envelope["ToUserName"] != userName || len(envelope) != 2 {
		t.Errorf("a message in the envelope %v", envelope)
	}
	if text, receiveID := opened(t, got); text != incoming || receiveID != component {
		t.Errorf("%q for %q", text, receiveID)
	}
	if got.query.Get("appid") != account || got.query.Get("openid") != openID {
		t.Errorf("query %v", got.query)
	}
	got = requestFor(t, target, anEvent)
	if envelope := elements(t, got.body); envelope["AppId"] != component || len(envelope) != 2 {
		t.Errorf("an event in the envelope %v", envelope)
	}
	if text, receiveID := opened(t, got); text != string(anEvent.Body) || receiveID != component {
		t.Errorf("%q for %q", text, receiveID)
	}
}

// The code is made at each attempt, and stands neither in the item that is queued nor in
// what others get.
func TestEventsOfAPlatformHaveACode(t *testing.T) {
	const registered = "<appid>" + account + "</appid><status>0</status><auth_code>queryauthcode@@@SECRET</auth_code>"
	for name, row := range map[string]struct {
		infoType, inner string
		code            string // the element with a code
		more            map[string]string
	}{
		"authorized":          {"authorized", authorizedInner, "AuthorizationCode", map[string]string{"AuthorizerAppid": account, "PreAuthCode": "withheld"}},
		"updateauthorized":    {"updateauthorized", authorizedInner, "AuthorizationCode", map[string]string{"AuthorizerAppid": account, "PreAuthCode": "withheld"}},
		"a fast registration": {bizmsg.InfoFastRegister, registered, "auth_code", map[string]string{"appid": account, "status": "0"}},
		"a failed one":        {bizmsg.InfoFastRegister, strings.Replace(registered, "queryauthcode@@@SECRET", "", 1), "", map[string]string{"appid": account, "status": "0"}},
		"unauthorized":        {"unauthorized", "<AuthorizerAppid>" + account + "</AuthorizerAppid>", "", map[string]string{"AuthorizerAppid": account}},
		"one without a code":  {"authorized", "<AuthorizerAppid>" + account + "</AuthorizerAppid>", "", map[string]string{"AuthorizerAppid": account}},
		"a code of nobody":    {"authorized", "<AuthorizerAppid>nonsense</AuthorizerAppid><AuthorizationCode>queryauthcode@@@SECRET</AuthorizationCode>", "", map[string]string{"AuthorizerAppid": "nonsense"}},
	} {
		t.Run(name, func(t *testing.T) {
			item := mustEvent(t, row.infoType, row.inner)
			if strings.Contains(string(item.Body), "ode") {
				t.Errorf("queued: %s", item.Body)
			}
			target, other := platformTarget(t, "shop"), safeTarget(t, "crm")
			for attempt := range 2 {
				text, _ := opened(t, requestFor(t, target, item))
				got := elements(t, text)
				for _, name := range []string{"AppId", "CreateTime", "InfoType"} {
					delete(got, name)
				}
				if row.code != "" {
					if want := fmt.Sprintf("gwc1.%s.%d", account, attempt+1); got[row.code] != want {
						t.Errorf("attempt %d: %s in %s", attempt, want, text)
					}
					delete(got, row.code)
				}
				if row.code == "AuthorizationCode" {
					seconds, _ := strconv.ParseInt(got["AuthorizationCodeExpiredTime"], 10, 64)
					if left := time.Until(time.Unix(seconds, 0)); left < 59*time.Minute || left > time.Hour {
						t.Errorf("it expires in %v", left)
					}
					delete(got, "AuthorizationCodeExpiredTime")
				}
				if diff := cmp.Diff(row.more, got); diff != "" {
					t.Error(diff)
				}
			}
			if text, _ := opened(t, requestFor(t, other, item)); text != string(item.Body) {
				t.Errorf("an ordinary account gets %s", text)
			}
		})
	}
}

func TestEventsInJSONHaveACodeToo(t *testing.T) {
	plain := `{"AppId":"` + component + `","CreateTime":1413192760,"InfoType":"authorized","AuthorizerAppid":"` + account + `","AuthorizationCode":"queryauthcode@@@SECRET",` +
		`"AuthorizationCodeExpiredTime":600,"PreAuthCode":"preauthcode@@@SECRET","Other_Token":"x"}`
	item := readEvent(t, plain).Shares(tenants{new(delivery.Target): "*"}.recipients)[0].Item
	text, _ := opened(t, requestFor(t, platformTarget(t, "shop"), item))
	var got map[string]any
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if expires, _ := got["AuthorizationCodeExpiredTime"].(float64); time.Until(time.Unix(int64(expires), 0)) < 59*time.Minute {
		t.Errorf("it expires at %v", got["AuthorizationCodeExpiredTime"])
	}
	if got["AuthorizationCode"] != "gwc1."+account+".1" || got["PreAuthCode"] != "withheld" || got["Other_Token"] != nil || got["AuthorizerAppid"] != account {
		t.Errorf("%s", text)
	}
}

// A code is as new as the attempt, however long the event has waited.
func TestAQueuedEventGetsANewCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, answering(500, ""))
		c.add(platformTarget(t, "shop"))
		item := mustEvent(t, "authorized", authorizedInner)
		item.Arrived = time.Now()
		c.enqueue(c.node(), item)
		time.Sleep(3 * time.Hour)
		c.app.become(200, "success")
		time.Sleep(time.Hour)
		all := c.app.all()
		if c.waiting() != 0 || len(all) < 3 {
			t.Fatalf("%d attempts, %d waiting", len(all), c.waiting())
		}
		codes := make(map[string]bool)
		for _, got := range all {
			text, _ := opened(t, got)
			codes[elements(t, text)["AuthorizationCode"]] = true
		}
		if len(codes) != len(all) || codes[""] {
			t.Errorf("%d codes in %d attempts", len(codes), len(all))
		}
	})
}

func TestWhoseRepliesAreTaken(t *testing.T) {
	const wrongID, hint = "meant for another receive id; ", "compare as of deliver"
	for name, row := range map[string]struct {
		platform bool
		answer
	}{
		"a platform, for the component":       {true, answer{body: sealReply(t, clientToken, clientKey, component, outgoing), reply: outgoing}},
		"a platform, for the account":         {true, answer{body: sealReply(t, clientToken, clientKey, account, outgoing), reply: outgoing}},
		"a platform, for somebody else":       {true, answer{body: sealReply(t, clientToken, clientKey, account2, outgoing), unusable: wrongID + "if"}},
		"a platform, for nobody":              {true, answer{body: sealReply(t, clientToken, clientKey, "", outgoing), unusable: hint}},
		"a platform, silence":                 {true, answer{body: sealReply(t, clientToken, clientKey, component, "success")}},
		"a platform, with another key":        {true, answer{body: sealReply(t, clientToken, previousKey, component, outgoing), unusable: "not encrypted with any of the keys"}},
		"a platform, in clear":                {true, answer{body: outgoing, unusable: "not encrypted"}},
		"a platform with a text of its own":   {true, answer{body: "Invalid appId", unusable: hint}},
		"an account, for the account":         {false, answer{body: sealReply(t, clientToken, clientKey, account, outgoing), reply: outgoing}},
		"an account, for the component":       {false, answer{body: sealReply(t, clientToken, clientKey, component, outgoing), unusable: wrongID + "if"}},
		"an account, for somebody else":       {false, answer{body: sealReply(t, clientToken, clientKey, account2, outgoing), unusable: hint}},
		"an account with a text of its own":   {false, answer{body: "-40005 SECRET", unusable: hint}},
		"an account without a reply, as JSON": {false, answer{body: `{"code":1}`, unusable: hint}},
	} {
		t.Run(name, func(t *testing.T) {
			target := safeTarget(t, "shop")
			if row.platform {
				target = platformTarget(t, "shop")
			}
			row.check(t, sendTo(t, answering(http.StatusOK, row.body), target, aMessage))
		})
	}
}

// An SDK that cannot read a delivery fails in its own way. What the operator reads names
// the option.
func TestFailuresOfAnSDKNameTheSetting(t *testing.T) {
	for _, target := range []*delivery.Target{safeTarget(t, "shop"), platformTarget(t, "shop")} {
		for _, status := range []int{400, 401, 403, 500} {
			for _, item := range []delivery.Item{aMessage, anEvent} {
				if result := sendTo(t, answering(status, "Invalid appId"), target, item); result.Err == nil || !regexp.MustCompile(`\bas( of deliver|, )`).MatchString(result.Err.Error()) {
					t.Errorf("status %d: %v", status, result.Err)
				}
			}
		}
	}
	if result := sendTo(t, answering(500, ""), plainTarget(t, "shop"), aMessage); strings.Contains(fmt.Sprint(result.Err), " as ") {
		t.Errorf("in plain mode there is no receive id: %v", result.Err)
	}
}

// A platform acknowledges an event by success. Another text counts as taken, as from all
// applications, but it may say that the event could not be read.
func TestAPlatformThatAcknowledgesWithATextOfItsOwn(t *testing.T) {
	for body, warned := range map[string]bool{
		"success": false, "": false, " SUCCESS\n": false, sealReply(t, clientToken, clientKey, component, "success"): false,
		"Invalid appId": true, `{"errcode":0}`: true, sealReply(t, clientToken, clientKey, component, "fail"): true,
	} {
		result := sendTo(t, answering(200, body), platformTarget(t, "shop"), anEvent)
		if result.Err != nil || (result.Unusable != nil) != warned || warned && !strings.Contains(result.Unusable.Error(), "compare as of deliver") {
			t.Errorf("%.40q: %+v", body, result)
		}
		if result := sendTo(t, answering(200, body), safeTarget(t, "shop"), anEvent); result.Err != nil || result.Unusable != nil {
			t.Errorf("%.40q from an application that is no platform: %+v", body, result)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, answering(200, "Invalid appId"))
		c.add(platformTarget(t, "shop"))
		c.enqueue(c.node(), event(account, 0, "a1"))
		synctest.Wait()
		if c.waiting() != 0 || c.logs.FilterMessageSnippet("something else than success").Len() != 1 {
			t.Errorf("%d waiting, logged %v", c.waiting(), c.logs.All())
		}
	})
}

// It may do so at every event: the log has the first at once, and then a line a minute.
func TestATextOfItsOwnFloodsNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, answering(200, "Invalid appId"))
		c.log = logging.Throttle(c.log, logging.NewTally())
		c.add(platformTarget(t, "shop"))
		node := c.node()
		for i := range 20 {
			c.enqueue(node, event(account, int64(i), fmt.Sprintf("a%02d", i)))
		}
		synctest.Wait()
		warned := func() []observer.LoggedEntry { return c.logs.FilterMessageSnippet("something else than success").All() }
		if said := warned(); c.waiting() != 0 || len(said) != 1 || !strings.HasPrefix(fmt.Sprint(said[0].ContextMap()["event_id"]), "a00") {
			t.Fatalf("%d waiting, warned %v", c.waiting(), said)
		}
		time.Sleep(2 * time.Minute)
		if said := warned(); len(said) != 2 || said[1].ContextMap()["count"] != int64(19) {
			t.Errorf("warned %v", said)
		}
	})
}

// Tickets go to the platforms of the component, and to those that want them. They are
// not queued.
func TestWhoGetsTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, answering(200, "success"))
		c.add(platformTarget(t, "platform"))
		c.add(platformTarget(t, "down"))
		c.add(safeTarget(t, "account"))
		c.add(platformTarget(t, "messages")).Match = delivery.Match{MsgTypes: []string{"text"}}
		c.add(platformTarget(t, "tickets")).Match = delivery.Match{InfoTypes: []string{"component_verify_ticket"}}
		other := platformTarget(t, "other")
		other.Component = "wxffffffffffffffff"
		c.add(other)
		c.app.answer = func(_ *http.Request, got received) (int, string, error) {
			if got.host == "down.test" {
				return 502, "", nil
			}
			return 200, "success", nil
		}
		desk := delivery.NewDeliveries(c.node())
		for range 2 {
			desk.SendTickets(component)
			synctest.Wait()
		}
		tickets, hosts := make(map[string]bool), make(map[string]int)
		for _, got := range c.app.all() {
			text, receiveID := opened(t, got)
			ticket := elements(t, text)
			tickets[ticket["ComponentVerifyTicket"]+got.host] = true
			hosts[got.host]++
			if receiveID != component || ticket["AppId"] != component || ticket["InfoType"] != "component_verify_ticket" || ticket["CreateTime"] != fmt.Sprint(time.Now().Unix()) {
				t.Errorf("%s for %s", text, receiveID)
			}
			if e, err := bizmsg.ParseEvent([]byte(text)); err != nil || e.ComponentVerifyTicket == nil {
				t.Errorf("%+v, %v", e, err)
			}
		}
		if diff := cmp.Diff(map[string]int{"platform.test": 2, "down.test": 2, "tickets.test": 2}, hosts); diff != "" || len(tickets) != 6 {
			t.Errorf("%d different tickets: %s", len(tickets), diff)
		}
		if c.waiting() != 0 || c.logs.FilterMessage("ticket not delivered, the next one comes in ten minutes").Len() != 2 {
			t.Errorf("%d waiting, logged %v", c.waiting(), c.logs.All())
		}
		desk.Finish(t.Context())
		desk.SendTickets(component)
		synctest.Wait()
		if len(c.app.all()) != 6 {
			t.Error("a ticket at the end of the process")
		}
	})
}

// What waits for a target that becomes a platform has its codes, too.
func TestATargetThatBecomesAPlatform(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, answering(500, ""))
		c.add(safeTarget(t, "shop"))
		node := c.node()
		item := mustEvent(t, "authorized", authorizedInner)
		item.Arrived = time.Now()
		c.enqueue(node, item)
		synctest.Wait()
		node.Close()
		c.app.become(200, "success")
		c.targets = map[vault.Queue]*delivery.Target{}
		c.add(platformTarget(t, "shop"))
		c.node()
		time.Sleep(time.Hour)
		all := slices.DeleteFunc(c.app.all(), func(got received) bool { text, _ := opened(t, got); return !strings.Contains(text, "gwc1.") })
		if len(all) != 1 {
			t.Errorf("%d with a code", len(all))
		}
	})
}
