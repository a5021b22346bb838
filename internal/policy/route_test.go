// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/policy"
)

// The rows of the specification, as short as they can be said.
func authorizer() policy.Route {
	return policy.Route{Kind: policy.Authorizer, Param: "access_token"}
}
func component() policy.Route { return policy.Route{Kind: policy.Component, Param: "access_token"} }
func either() policy.Route    { return policy.Route{Kind: policy.Either, Param: "access_token"} }
func user() policy.Route      { return policy.Route{Kind: policy.User, Anonymous: true} }

func login(rewrite string) policy.Route {
	return policy.Route{Kind: policy.Login, Param: "component_access_token", Rewrite: rewrite}
}

func answered(e policy.Endpoint) policy.Route { return policy.Route{Kind: policy.None, Endpoint: e} }

func byOldName(r policy.Route) policy.Route { r.Param = "component_access_token"; return r }

func handled(r policy.Route, e policy.Endpoint) policy.Route { r.Endpoint = e; return r }

func anonymous(r policy.Route) policy.Route { r.Anonymous = true; return r }

type specified struct {
	path string
	want policy.Route
}

var paths = []specified{
	// Token endpoints: WeChat wants a secret, the gateway the client's.
	{"/cgi-bin/token", answered(policy.Token)},
	{"/cgi-bin/stable_token", answered(policy.StableToken)},
	{"/cgi-bin/component/api_component_token", answered(policy.APIComponentToken)},
	{"/cgi-bin/component/api_authorizer_token", answered(policy.APIAuthorizerToken)},

	// Secret in the body.
	{"/cgi-bin/component/api_start_push_ticket", handled(component(), policy.APIStartPushTicket)},
	{"/cgi-bin/component/clear_quota/v2", handled(component(), policy.ComponentClearQuotaV2)},
	{"/cgi-bin/clear_quota/v2", handled(authorizer(), policy.ClearQuotaV2)},

	// The component API.
	{"/cgi-bin/component/api_create_preauthcode", handled(component(), policy.APICreatePreauthcode)},
	{"/cgi-bin/component/api_query_auth", handled(component(), policy.APIQueryAuth)},
	{"/cgi-bin/component/api_get_authorizer_info", handled(component(), policy.APIGetAuthorizerInfo)},
	{"/cgi-bin/component/api_get_authorizer_list", handled(component(), policy.APIGetAuthorizerList)},
	{"/cgi-bin/component/api_get_authorizer_option", handled(component(), policy.APIAuthorizerOption)},
	{"/cgi-bin/component/api_set_authorizer_option", handled(component(), policy.APIAuthorizerOption)},
	{"/cgi-bin/component/api_confirm_authorization", component()},
	{"/cgi-bin/component/fastregisterweapp", component()},
	{"/cgi-bin/component/modify_wxa_server_domain", component()},
	{"/cgi-bin/component/modify_wxa_jump_domain", component()},
	{"/cgi-bin/component/get_domain_confirmfile", component()},
	{"/cgi-bin/component/something_new", component()},

	// Authorizer paths in the component's folder.
	{"/cgi-bin/component/getprivacysetting", authorizer()},
	{"/cgi-bin/component/setprivacysetting", authorizer()},
	{"/cgi-bin/component/uploadprivacyextfile", authorizer()},

	// Component paths in other folders.
	{"/wxa/component/fastregisterpersonalweapp", component()},
	{"/wxa/component/fastregisterbetaweapp", component()},
	{"/wxa/component/something_new", component()},
	{"/wxa/component/fastnormalizebetaweapp", authorizer()},
	{"/wxa/component/reusemchidfastnormalizebetaweapp", authorizer()},
	{"/wxa/gettemplatedraftlist", component()},
	{"/wxa/gettemplatelist", component()},
	{"/wxa/addtotemplate", component()},
	{"/wxa/deletetemplate", component()},
	{"/wxa/security/applysetorderpathinfo", component()},
	{"/wxa/servicemarket/service/get_service_buyer_list", component()},
	{"/wxa/servicemarket/service/get_service_buyer", component()},
	{"/wxa/servicemarket/service/login_auth", component()},
	{"/wxa/setdefaultamsinfo", component()},
	{"/product/service/check_auth", byOldName(component())},
	{"/product/register/register_shop", byOldName(component())},
	{"/product/register/submit_basicinfo", authorizer()},
	{"/wxa/servicemarket", authorizer()},
	{"/wxa/servicemarketretrieve", authorizer()},
	{"/wedata/wedata_get_login_config", component()},
	{"/wedata/wedata_set_login_config", component()},
	{"/wedata/anything_else", authorizer()},
	{"/componenttcb/describeenvs", component()},
	{"/componenttcb/a/b", component()},
	{"/componenttcb", authorizer()},
	{"/componenttcbx/describeenvs", authorizer()},

	// Both.
	{"/cgi-bin/component/get_authorizer_option", either()},
	{"/cgi-bin/component/set_authorizer_option", either()},
	{"/wxa/servicemarket/get_paid_order_list", either()},
	{"/product/register/check_audit_status", either()},
	{"/cgi-bin/openapi/quota/clear", either()},
	{"/cgi-bin/callback/check", either()},
	{"/cgi-bin/changeopenid", either()},
	{"/tcb/modifyenv", either()},
	{"/tcb/invokecloudfunction", either()},
	{"/tcb/usecloudaccesstoken", either()},
	{"/tcb/databasequery", authorizer()},
	{"/cgi-bin/getcallbackip", either()},
	{"/cgi-bin/get_api_domain_ip", either()},
	{"/cgi-bin/clear_quota", either()},
	{"/cgi-bin/openapi/quota/get", either()},
	{"/cgi-bin/openapi/rid/get", handled(either(), policy.RIDGet)},
	{"/wxa/operationams", either()},

	// Answered from memory, or relayed.
	{"/cgi-bin/ticket/getticket", handled(authorizer(), policy.SharedTicket)},

	// By the action.
	{"/wxa/getdefaultamsinfo", policy.Route{Kind: policy.Either, Param: "access_token", Actions: &policy.Actions{
		"get_share_ratio": policy.Component, "agency_get_custom_share_ratio": policy.Component, "get_agency_settled_revenue": policy.Component,
		"get_agency_ads_stat": policy.Authorizer, "get_agency_ads_detail": policy.Authorizer,
	}}},

	// End users.
	{"/sns/jscode2session", login("/sns/component/jscode2session")},
	{"/sns/oauth2/access_token", login("/sns/oauth2/component/access_token")},
	{"/sns/oauth2/refresh_token", anonymous(login("/sns/oauth2/component/refresh_token"))},
	{"/sns/component/jscode2session", login("")},
	{"/sns/oauth2/component/access_token", login("")},
	{"/sns/oauth2/component/refresh_token", login("")},
	{"/sns/component/something_new", policy.Route{Kind: policy.Component, Param: "component_access_token"}},
	{"/sns/oauth2/component/something_new", policy.Route{Kind: policy.Component, Param: "component_access_token"}},
	{"/sns/userinfo", user()},
	{"/sns/auth", user()},
	{"/sns/something_new", authorizer()},

	// Everything else.
	{"/donut/code2verifyinfo", authorizer()},
	{"/publisher/stat", authorizer()},
	{"/cgi-bin/message/custom/send", authorizer()},
	{"/cgi-bin/media/upload", authorizer()},
	{"/cgi-bin/component", authorizer()},
	{"/wxa/getwxacodeunlimit", authorizer()},
	{"/wxa/business/getuserphonenumber", authorizer()},
	{"/wxaapi/newtmpl/addtemplate", authorizer()},
	{"/card/create", authorizer()},
	{"/channels/ec/basics/info/get", authorizer()},
	{"/shop/img/upload", authorizer()},
	{"/datacube/getusersummary", authorizer()},
	{"/xpay/query_user_balance", authorizer()},
	{"/SomeThing/New", authorizer()},
}

func TestLookup(t *testing.T) {
	for _, row := range paths {
		if _, ok := policy.Clean(row.path); !ok {
			t.Errorf("%s: refused by Clean", row.path)
		}
		if diff := cmp.Diff(row.want, policy.Lookup(row.path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.path, diff)
		}
	}
}

// A path whose case alone differs has the same route: if WeChat ignores case,
// /CGI-BIN/component/API_query_auth would otherwise relay the credentials in
// the answer.
func TestLookupIgnoresCase(t *testing.T) {
	for _, row := range paths {
		for _, path := range []string{strings.ToUpper(row.path), swapCase(row.path)} {
			if diff := cmp.Diff(row.want, policy.Lookup(path)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		}
	}
}

// swapCase raises every other letter.
func swapCase(s string) string {
	b := []byte(s)
	for i := 0; i < len(b); i += 2 {
		b[i] = strings.ToUpper(s[i : i+1])[0]
	}
	return string(b)
}

// Three calls need no client: their credential is the end user's own.
func TestAnonymousCalls(t *testing.T) {
	want := []string{"/sns/oauth2/refresh_token", "/sns/userinfo", "/sns/auth"}
	var got []string
	for _, row := range paths {
		if policy.Lookup(row.path).Anonymous {
			got = append(got, row.path)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("anonymous paths (-want +got):\n%s", diff)
	}
}

// What a path is rewritten to is a path of its own, of the same kind, that is
// not rewritten again.
func TestRewritesEnd(t *testing.T) {
	for _, row := range paths {
		from := policy.Lookup(row.path)
		if from.Rewrite == "" {
			continue
		}
		to := policy.Lookup(from.Rewrite)
		if to.Kind != from.Kind || to.Param != from.Param || to.Rewrite != "" {
			t.Errorf("%s is rewritten to %s, which is %+v", row.path, from.Rewrite, to)
		}
	}
}

// Every row of the table is one of the specification above, and carries the page
// that it follows. A row for an action stands behind the one of its path.
func TestEveryRowIsSpecified(t *testing.T) {
	known := make(map[string]bool)
	for _, row := range paths {
		known[row.path] = true
	}
	seen := make(map[string]bool)
	for _, row := range policy.Rows {
		if !known[row.Path] {
			t.Errorf("%s: not in the specification", row.Path)
		}
		if row.Page == "" {
			t.Errorf("%s %s: follows no page", row.Path, row.Action)
		}
		if key := row.Path + " " + row.Action; seen[key] || row.Action != "" && !seen[row.Path+" "] {
			t.Errorf("%s: twice, or before the row of its path", key)
		} else {
			seen[key] = true
		}
		if row.Path != strings.ToLower(row.Path) {
			t.Errorf("%s: never found, it is not in lower case", row.Path)
		}
		if got := policy.Lookup(row.Path).KindFor(row.Action); got != row.Route.Kind {
			t.Errorf("%s with action %q: kind %d, want %d", row.Path, row.Action, got, row.Route.Kind)
		}
	}
}

// An action that nobody knows, or none, leaves the decision to the token; an action
// says nothing about other paths.
func TestUnknownActionHasTheKindOfItsPath(t *testing.T) {
	for _, action := range []string{"", "get_share_ratio2", "Get_Share_Ratio", "agency_new"} {
		if kind := policy.Lookup("/wxa/getdefaultamsinfo").KindFor(action); kind != policy.Either {
			t.Errorf("%q: kind %d", action, kind)
		}
	}
	if kind := policy.Lookup("/cgi-bin/user/get").KindFor("get_share_ratio"); kind != policy.Authorizer {
		t.Errorf("another path: kind %d", kind)
	}
}

// A path that only its family knows is none that the table names.
func TestNamed(t *testing.T) {
	for path, want := range map[string]bool{
		"/cgi-bin/component/api_query_auth": true, "/wxa/GetTemplateList": true, "/cgi-bin/getcallbackip": true,
		"/cgi-bin/component/unheard_of": false, "/cgi-bin/component/": false, "/wxa/gettemplatelist/": false, "/cgi-bin/user/get": false,
	} {
		if got := policy.Named(path); got != want {
			t.Errorf("Named(%q) = %t", path, got)
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	kinds := make(policy.PathKinds)
	if _, err := kinds.Add("component", "/wxa/new/path"); err != nil {
		t.Fatal(err)
	}
	lower := slices.DeleteFunc(slices.Clone(paths), func(row specified) bool { return strings.ToLower(row.path) != row.path })
	allocs := testing.AllocsPerRun(100, func() {
		for _, row := range lower {
			policy.Lookup(row.path).KindFor("get_share_ratio")
			kinds.Lookup(row.path)
			policy.PathKinds(nil).Lookup(row.path)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

func BenchmarkLookup(b *testing.B) {
	for name, path := range map[string]string{
		"entry":      "/cgi-bin/component/api_get_authorizer_info",
		"family":     "/cgi-bin/component/fastregisterweapp",
		"unknown":    "/cgi-bin/message/custom/send",
		"mixed case": "/cgi-bin/component/API_query_auth",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if path, ok := policy.Clean(path); ok {
					policy.Lookup(path)
				}
			}
		})
	}
}
