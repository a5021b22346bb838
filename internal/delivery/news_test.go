// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
)

// News of the gateway's own are read like WeChat's events.
func TestNewsHaveTheFormOfAnEvent(t *testing.T) {
	news := delivery.News{
		Component: component, AppID: account, InfoType: "gateway_needs_authorization", Occurrence: "1",
		Time: time.Unix(1_700_000_000, 0), Reason: "a < b & c's", Remedy: "do it",
	}
	item := news.Item()
	if item.Kind != delivery.KindOwn || item.Component != component || item.AppID != account ||
		item.InfoType != news.InfoType || len(item.ID) != 32 || item.Arrived.IsZero() {
		t.Errorf("%+v", item)
	}
	want := map[string]string{"AppId": component, "CreateTime": "1700000000", "InfoType": "gateway_needs_authorization",
		"AuthorizerAppid": account, "Reason": "a < b & c's", "Remedy": "do it"}
	if diff := cmp.Diff(want, elements(t, string(item.Body))); diff != "" {
		t.Error(diff)
	}
	event, err := bizmsg.ParseEvent(item.Body)
	if err != nil || event.AuthorizerAppID != account || !event.CreateTime.Equal(news.Time) {
		t.Errorf("%+v, %v", event, err)
	}
	news.Remedy = ""
	if _, has := elements(t, string(news.Item().Body))["Remedy"]; has {
		t.Error("an empty element")
	}
}

// Two nodes may notice the same thing, at different times; a thing may happen twice.
func TestTheIDOfNewsIsThatOfTheOccurrence(t *testing.T) {
	news := delivery.News{Component: component, AppID: account, InfoType: "gateway_recovered", Occurrence: "1", Time: time.Unix(1, 0)}
	other := news
	other.Time, other.Reason = time.Unix(2, 0), "in other words"
	if other.Item().ID != news.Item().ID {
		t.Error("one occurrence has two ids")
	}
	for name, change := range map[string]func(n *delivery.News){
		"component":  func(n *delivery.News) { n.Component = account2 },
		"account":    func(n *delivery.News) { n.AppID = account2 },
		"InfoType":   func(n *delivery.News) { n.InfoType = "gateway_account_found" },
		"occurrence": func(n *delivery.News) { n.Occurrence = "2" },
	} {
		other := news
		change(&other)
		if other.Item().ID == news.Item().ID {
			t.Errorf("another %s has the same id", name)
		}
	}
}
