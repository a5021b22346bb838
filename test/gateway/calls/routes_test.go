// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Every row of the route table, called with either kind of gateway token: what the
// gateway lets through, WeChat takes, and what it refuses, WeChat would refuse. The
// sandbox has a table of its own.
func TestEveryRouteWithBothTokens(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	hour := time.Now().Add(time.Hour)
	gateway := map[string]string{
		sandbox.KindAuthorizer: g.Issue(t, "platform", gwtest.PlatformSecret, gwtest.OfficialAccount, hour),
		sandbox.KindComponent:  g.Issue(t, "platform", gwtest.PlatformSecret, "", hour),
	}
	appid := map[string]string{sandbox.KindAuthorizer: gwtest.OfficialAccount, sandbox.KindComponent: g.WeChat.Component()}
	for _, row := range policy.Rows {
		route := policy.Lookup(row.Path)
		kind := route.KindFor(row.Action)
		for _, shown := range []string{sandbox.KindAuthorizer, sandbox.KindComponent} {
			for _, spelt := range []string{"access_token", "component_access_token"} {
				t.Run(row.Path+" "+row.Action+" with the "+shown+"'s "+spelt, func(t *testing.T) {
					g.WeChat.SetSwitches(sandbox.Switches{OptionTakesComponent: shown == sandbox.KindComponent})
					g.WeChat.ResetCounts()
					query := url.Values{spelt: {gateway[shown]}, "appid": {gwtest.OfficialAccount}}
					if row.Action != "" {
						query.Set("action", row.Action)
					}
					method, body := http.MethodPost, "{}"
					if slices.Contains([]string{"/cgi-bin/getcallbackip", "/cgi-bin/get_api_domain_ip", "/sns/userinfo", "/sns/auth"}, row.Path) {
						method, body = http.MethodGet, ""
					}
					answer := g.Ask(method, row.Path+"?"+query.Encode(), body, nil)

					refusal, seen := 0, shown // by the gateway; what WeChat sees
					switch {
					case kind == policy.None || route.Endpoint == policy.APIStartPushTicket || route.Endpoint == policy.ClearQuotaV2 || route.Endpoint == policy.ComponentClearQuotaV2:
						refusal = 40125 // they want a secret
						if route.Endpoint == policy.APIAuthorizerToken && shown == sandbox.KindComponent {
							refusal = 41002
						} else if route.Endpoint == policy.APIAuthorizerToken {
							refusal = 61014
						}
					case kind == policy.Component && shown == sandbox.KindAuthorizer:
						refusal = 61014
					case kind == policy.Authorizer && shown == sandbox.KindComponent:
						refusal = 61015
					case kind == policy.Login:
						seen = sandbox.KindComponent
					case kind == policy.User:
						seen = "" // no gateway token travels
					}
					calls := slices.DeleteFunc(g.WeChat.Calls(), func(c sandbox.Call) bool { return c.Path != row.Path && c.Path != route.Rewrite })
					if refusal != 0 {
						if answer.ErrCode != refusal || answer.Slug == "" || len(calls) != 0 {
							t.Errorf("answered %q %s, want %d; WeChat saw %d calls", answer.Slug, answer.Body, refusal, len(calls))
						}
						if code := withRealToken(t, g, shown, method, row, body); (refusal == 61014 || refusal == 61015) && code != refusal && kind != policy.None {
							t.Errorf("refused with %d, but WeChat answers %d to the real token", refusal, code)
						}
						return
					}
					if answer.ErrCode == 61014 || answer.ErrCode == 61015 || answer.ErrCode == 48001 {
						t.Errorf("WeChat wants another token: %s", answer.Body)
					}
					if route.Endpoint != policy.Relayed {
						return // the gateway's own call, or its memory
					}
					if len(calls) != 1 || calls[0].TokenKind != seen || seen != "" && calls[0].TokenAppID != appid[seen] {
						t.Fatalf("WeChat saw %+v, want one call with the token of the %s", calls, seen)
					}
					if query := calls[0].RawQuery; seen != "" && (!strings.HasPrefix(query, route.Param+"=") || strings.Count(query, "access_token") != 1) {
						t.Errorf("WeChat saw %q, want one token, as %s", query, route.Param)
					}
				})
			}
		}
	}
}

// withRealToken calls WeChat past the gateway with a real token, and returns the errcode.
func withRealToken(t *testing.T, g *gwtest.Gateway, kind, method string, row policy.Row, body string) int {
	t.Helper()
	real := url.Values{"access_token": {g.WeChat.ValidToken(kind, gwtest.OfficialAccount)}, "component_access_token": {g.WeChat.ValidToken(kind, gwtest.OfficialAccount)}}
	if row.Action != "" {
		real.Set("action", row.Action)
	}
	r, err := http.NewRequest(method, g.API+row.Path+"?"+real.Encode(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer gwtest.Reply
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.ErrCode
}

// A client that says by header for whom it acts gets the token that the action takes;
// where that is the component's, it needs component_api. A body decides nothing.
func TestActionDecidesTheToken(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	const path = "/wxa/getdefaultamsinfo"
	component, account := g.WeChat.Component(), gwtest.OfficialAccount
	for name, row := range map[string]struct {
		query, body string
		header      http.Header
		acts        string // at WeChat; "" if refused
		code        int
	}{
		"the platform's action":                          {"?action=get_share_ratio", "{}", gwtest.Bearer(gwtest.PlatformSecret, account), component, 0},
		"the account's action":                           {"?action=get_agency_ads_stat", "{}", gwtest.Bearer(gwtest.PlatformSecret, account), account, 0},
		"no action, an account":                          {"", "{}", gwtest.Bearer(gwtest.PlatformSecret, account), account, 0},
		"no action, the component":                       {"", "{}", gwtest.Bearer(gwtest.PlatformSecret, component), component, 0},
		"another action, the component":                  {"?action=new", "{}", gwtest.Bearer(gwtest.PlatformSecret, component), component, 0},
		"the account's action, the component":            {"?action=get_agency_ads_stat", "{}", gwtest.Bearer(gwtest.PlatformSecret, component), "", 61015},
		"the platform's action without component_api":    {"?action=get_share_ratio", "{}", gwtest.Bearer(gwtest.SoloSecret, ""), "", 48001},
		"the account's action without component_api":     {"?action=get_agency_ads_detail", "{}", gwtest.Bearer(gwtest.SoloSecret, ""), account, 0},
		"an action in JSON":                              {"?action=get_agency_ads_stat", `{"action":"get_share_ratio"}`, gwtest.Bearer(gwtest.SoloSecret, ""), account, 0},
		"an action in JSON alone":                        {"", `{"action":"get_share_ratio"}`, gwtest.Bearer(gwtest.SoloSecret, ""), account, 0},
		"an action with escapes":                         {"?%61ction=get%5Fshare%5Fratio", "{}", gwtest.Bearer(gwtest.PlatformSecret, account), component, 0},
		"two actions, no token that the client may have": {"?action=get_agency_ads_stat&action=get_share_ratio", "{}", gwtest.Bearer(gwtest.SoloSecret, ""), account, 0},
	} {
		t.Run(name, func(t *testing.T) {
			g.WeChat.ResetCounts()
			answer := g.Ask(http.MethodPost, path+row.query, row.body, row.header)
			if answer.ErrCode != row.code {
				t.Fatalf("answered %s, want %d", answer.Body, row.code)
			}
			if row.acts == "" {
				if n := g.WeChat.Count(path); n != 0 {
					t.Errorf("WeChat saw %d calls", n)
				}
				return
			}
			if call := onlyCall(t, g, path); call.TokenAppID != row.acts {
				t.Errorf("WeChat saw the token of %s, want %s", call.TokenAppID, row.acts)
			}
		})
	}
}
