// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
)

const account3 = "wxdddddddddddddddd"

// told is what each tenant gets of an event: the appid, a blank, the text; "" for
// nothing.
func told(t *testing.T, plain string, rights map[string]string) map[string]string {
	t.Helper()
	all, got := make(tenants), make(map[string]string)
	for name, may := range rights {
		all[&delivery.Target{Client: name}] = may
		got[name] = ""
	}
	id := ""
	for _, share := range readEvent(t, plain).Shares(all.recipients) {
		if id == "" {
			id = share.Item.ID
		}
		if share.Item.ID != id {
			t.Error("one event has two ids")
		}
		for _, target := range share.Targets {
			if got[target.Client] != "" {
				t.Errorf("%s gets it twice", target.Client)
			}
			got[target.Client] = share.Item.AppID + " " + string(share.Item.Body)
		}
	}
	return got
}

// Results about accounts of several tenants come in one event. None learns of the
// accounts of another.
func TestOfAListEachTenantGetsItsOwn(t *testing.T) {
	head := "<xml><AppId>" + component + "</AppId><InfoType>order_path_apply_result_notify</InfoType>"
	entry := func(appID, result string) string {
		return "<list><appid>" + appID + "</appid><ret_code>" + result + "</ret_code></list>"
	}
	odd := "<list><ret_code>7</ret_code></list>"
	first, second, third := entry(account, "0"), entry(account2, "-2"), entry(account, "85")
	got := told(t, head+first+second+third+odd+"</xml>", map[string]string{
		"one":      account,
		"other":    account2,
		"both":     account2 + " " + account,
		"all":      "*",
		"platform": "component",
		"own":      "component " + account2,
		"nobody":   account3,
	})
	want := map[string]string{
		"one":      account + " " + head + first + third + "</xml>",
		"other":    account2 + " " + head + second + "</xml>",
		"both":     account + " " + head + first + second + third + "</xml>",
		"all":      account + " " + head + first + second + third + odd + "</xml>",
		"platform": component + " " + head + first + second + third + odd + "</xml>",
		"own":      account2 + " " + head + first + second + third + odd + "</xml>",
		"nobody":   "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAListInJSON(t *testing.T) {
	head := `{ "AppId":"` + component + `", "InfoType":"order_path_audit_result_notify","list":`
	for name, row := range map[string]struct{ list, one, other string }{
		"of objects": {
			`[{"appid":"` + account + `", "status":4} , {"appid":"` + account2 + `"},{"appid":"` + account + `"}, {"status":1}]`,
			`[{"appid":"` + account + `", "status":4},{"appid":"` + account + `"}]`,
			`[{"appid":"` + account2 + `"}]`,
		},
		"of appids":             {`["` + account + `","` + account2 + `"]`, `["` + account + `"]`, `["` + account2 + `"]`},
		"one object":            {`{"appid":"` + account + `"}`, `{"appid":"` + account + `"}`, ""},
		"one appid":             {`"` + account + `"`, `"` + account + `"`, ""},
		"an entry names two":    {`[{"appid":"` + account + `","a":{"Verify_AppId":["` + account2 + `"]}},"` + account2 + `"]`, "[]", `["` + account2 + `"]`},
		"a name that is twice":  {`[{"appid":"` + account2 + `","appid":"` + account + `"},"` + account + `"]`, `["` + account + `"]`, "[]"},
		"a name with an escape": {`[{"\u0061ppid":"` + account + `"}]`, `[{"\u0061ppid":"` + account + `"}]`, ""},
		"empty":                 {`[]`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tail := `,"more":[1, 2.50]}`
			got := told(t, head+row.list+tail, map[string]string{"one": account, "other": account2, "platform": "component"})
			want := map[string]string{"one": "", "other": "", "platform": component + " " + head + row.list + tail}
			if row.one != "" {
				want["one"] = account + " " + head + row.one + tail
			}
			if row.other != "" {
				want["other"] = account2 + " " + head + row.other + tail
			}
			for client, text := range got {
				_, text, _ = strings.Cut(text, " ")
				if text != "" && !json.Valid([]byte(text)) {
					t.Errorf("%s gets what is not JSON: %s", client, text)
				}
				got[client] = strings.ReplaceAll(got[client], " , ", ",")
				want[client] = strings.ReplaceAll(want[client], " , ", ",")
			}
			got["platform"], want["platform"] = strings.ReplaceAll(got["platform"], "}, {", "},{"), strings.ReplaceAll(want["platform"], "}, {", "},{")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An event that is about one account is for those who may act for it, whatever its
// list says.
func TestAListBesideTheAccountOfAnEvent(t *testing.T) {
	plain := "<xml><InfoType>a</InfoType><appid>" + account + "</appid><List><AppId>" + account2 + "</AppId></List></xml>"
	got := told(t, plain, map[string]string{"one": account, "other": account2, "all": "*", "platform": "component"})
	want := map[string]string{
		"one":      account + " <xml><InfoType>a</InfoType><appid>" + account + "</appid></xml>",
		"other":    "",
		"all":      account + " " + plain,
		"platform": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Some notices are documented as JSON.
func TestAnEventInJSONIsDeliveredWithoutItsCredentials(t *testing.T) {
	plain := ` {"AppId":"` + component + `","CreateTime":1413192760, "InfoType":"notify_3rd_wxa_auth","appid":"` + account + `",
		"AuthorizationCode":"SECRET","pre_auth_code":"SECRET","\u0061ccess_token":"SECRET","ticket":{"a":["SECRET"]},"Session_Key":"SE` + "\x1d" + `CRET",
		"info":{"deep":[{"refreshToken":"SECRET","name":"a` + "\x1d" + `b \u4e2d","n":1.50,"big":12345678901234567890}]}}`
	shares := readEvent(t, plain).Shares(tenants{new(delivery.Target): account}.recipients)
	if len(shares) != 1 || shares[0].Item.AppID != account || shares[0].Item.InfoType != "notify_3rd_wxa_auth" {
		t.Fatalf("%+v", shares)
	}
	want := `{"AppId":"` + component + `","CreateTime":1413192760, "InfoType":"notify_3rd_wxa_auth","appid":"` + account + `",   ` +
		`"AuthorizationCode":null,"pre_auth_code":null,"\u0061ccess_token":null,"ticket":null,"Session_Key":null,   ` +
		`"info":{"deep":[{"refreshToken":null,"name":"a b \u4e2d","n":1.50,"big":12345678901234567890}]}}`
	if diff := cmp.Diff(want, string(shares[0].Item.Body)); diff != "" {
		t.Error(diff)
	}
}

func TestControlCharactersDoNotLoseAnEvent(t *testing.T) {
	for name, plain := range map[string]string{
		"XML":  "<xml><AppId>" + component + "</AppId><InfoType>a</InfoType><appid>" + account + "</appid><name><![CDATA[a\x1db]]>&#29;</name></xml>",
		"JSON": `{"AppId":"` + component + `","InfoType":"a","appid":"` + account + `","name":"a` + "\x1d" + `b"}`,
	} {
		got := told(t, plain, map[string]string{"one": account})["one"]
		if !strings.Contains(got, "a b") || strings.Contains(got, "\x1d") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func FuzzEventInJSON(f *testing.F) {
	f.Add(`{"InfoType":"a","list":[{"appid":"` + account + `"},{"appid":"` + account2 + `"},1,null],"AuthorizationCode":"b","List":{"x":[{"token":1}]}}`)
	f.Add(`{"a":{"ticket":["` + account2 + `"]},"list":"` + account2 + `","list":null}`)
	f.Add("{\"\\u0061ppid\":\"a\x1d\",\"list\":[[{\"app_id\":\"" + account2 + "\"}]]}")
	one, platform := new(delivery.Target), new(delivery.Target)
	all := tenants{one: account, platform: "component"}
	f.Fuzz(func(t *testing.T, plain string) {
		event, err := delivery.NewEvent(component, bizmsg.Event{}, []byte(plain), arrived)
		if err != nil || !bizmsg.IsJSON([]byte(plain)) {
			return
		}
		for _, share := range event.Shares(all.recipients) {
			var value map[string]any
			if err := json.Unmarshal(share.Item.Body, &value); err != nil {
				t.Fatalf("%v: %q became %q", err, plain, share.Item.Body)
			}
			noCredential(t, value)
			if share.Targets[0] == one {
				for name, list := range value {
					if strings.EqualFold(name, "list") {
						noForeigner(t, list)
					}
				}
			}
		}
	})
}

// noCredential checks that there is no value where a credential may stand.
func noCredential(t *testing.T, value any) {
	t.Helper()
	switch v := value.(type) {
	case []any:
		for _, each := range v {
			noCredential(t, each)
		}
	case map[string]any:
		for name, each := range v {
			plain := strings.ReplaceAll(strings.ToLower(name), "_", "")
			if each != nil && (strings.Contains(plain, "token") || strings.Contains(plain, "ticket") || strings.Contains(plain, "authorizationcode")) {
				t.Fatalf("%q came through: %v", name, each)
			}
			noCredential(t, each)
		}
	}
}

// noForeigner checks that no account of another is named in a list.
func noForeigner(t *testing.T, value any) {
	t.Helper()
	switch v := value.(type) {
	case []any:
		for _, each := range v {
			noForeigner(t, each)
		}
	case map[string]any:
		for name, each := range v {
			if strings.EqualFold(name, "appid") && each == account2 {
				t.Fatalf("%v came through", each)
			}
			noForeigner(t, each)
		}
	}
}
