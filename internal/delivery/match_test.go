// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
)

func TestWhatATargetWants(t *testing.T) {
	var (
		text       = delivery.Item{Kind: delivery.KindMessage, AppID: account, MsgType: "text"}
		subscribe  = delivery.Item{Kind: delivery.KindMessage, AppID: account, MsgType: "event", Event: "subscribe"}
		click      = delivery.Item{Kind: delivery.KindMessage, AppID: account2, MsgType: "event", Event: "CLICK"}
		authorized = delivery.Item{Kind: delivery.KindEvent, AppID: account, InfoType: "authorized"}
		own        = delivery.Item{Kind: delivery.KindOwn, AppID: account2, InfoType: "gateway_recovered"}
		about      = delivery.Item{Kind: delivery.KindEvent, AppID: component, InfoType: "notify_third_fasteregister"} // no account
		unknown    = delivery.Item{Kind: delivery.KindMessage, AppID: account}                                         // what could not be read
	)
	all := map[string]delivery.Item{"text": text, "subscribe": subscribe, "click": click, "authorized": authorized, "own": own, "about": about, "unknown": unknown}
	for name, row := range map[string]struct {
		match delivery.Match
		want  string
	}{
		"everything":                    {delivery.Match{}, "text subscribe click authorized own about unknown"},
		"a type of message":             {delivery.Match{MsgTypes: []string{"text"}}, "text"},
		"any of several types":          {delivery.Match{MsgTypes: []string{"image", "TEXT", "Event"}}, "text subscribe click"},
		"an event":                      {delivery.Match{Events: []string{"click", "SUBSCRIBE"}}, "subscribe click"},
		"an event of an account":        {delivery.Match{Events: []string{"click", "subscribe"}, AppIDs: []string{account}}, "subscribe"},
		"types, and an event":           {delivery.Match{MsgTypes: []string{"text", "event"}, Events: []string{"subscribe"}}, "subscribe"},
		"an authorisation event":        {delivery.Match{InfoTypes: []string{"Authorized"}}, "authorized"},
		"news of the gateway's own":     {delivery.Match{InfoTypes: []string{"gateway_recovered", "gateway_account_found"}}, "own"},
		"an account":                    {delivery.Match{AppIDs: []string{account}}, "text subscribe authorized unknown"},
		"what is about no account":      {delivery.Match{AppIDs: []string{component}}, "about"},
		"an account nothing comes from": {delivery.Match{AppIDs: []string{"wxcccccccccccccccc"}}, ""},
	} {
		target := plainTarget(t, "shop")
		target.Match = row.match
		for which, item := range all {
			wanted := false
			for each := range strings.FieldsSeq(row.want) {
				wanted = wanted || each == which
			}
			if target.Wants(item) != wanted {
				t.Errorf("%s: %s is wanted: %t", name, which, !wanted)
			}
		}
		if err := row.match.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAMatchThatNothingCanMeet(t *testing.T) {
	for name, match := range map[string]delivery.Match{
		"msg_type and info_type": {MsgTypes: []string{"text"}, InfoTypes: []string{"authorized"}},
		"event and info_type":    {Events: []string{"subscribe"}, InfoTypes: []string{"authorized"}},
		"text and event":         {MsgTypes: []string{"text"}, Events: []string{"subscribe"}},
	} {
		if match.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
