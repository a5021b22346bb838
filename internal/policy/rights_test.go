// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/policy"
)

func TestPath(t *testing.T) {
	const (
		send     = "/cgi-bin/message/custom/send"
		template = "/wxa/gettemplatelist"
		info     = "/cgi-bin/component/api_get_authorizer_info"
	)
	allow := func(args ...string) *policy.Rights { return &policy.Rights{Rules: rules(t, args...)} }
	withComponent := func(r *policy.Rights) *policy.Rights { r.ComponentAPI = true; return r }

	tests := []struct {
		name   string
		rights *policy.Rights
		method string
		path   string
		want   bool
	}{
		{"without rules, an authorizer-level path", &policy.Rights{}, "POST", send, true},
		{"without rules, a path nobody knows", &policy.Rights{}, "POST", "/wxa/new", true},
		{"without rules, a login", &policy.Rights{}, "GET", "/sns/jscode2session", true},
		{"without rules, no component-level path", &policy.Rights{}, "GET", template, false},
		{"component_api opens component-level paths", withComponent(&policy.Rights{}), "GET", template, true},
		{"component_api leaves the others open", withComponent(&policy.Rights{}), "POST", send, true},

		{"a rule allows its path", allow(send), "POST", send, true},
		{"a rule allows no other path", allow(send), "POST", "/wxa/new", false},
		{"a rule allows nothing below its path", allow("/wxa/new"), "POST", "/wxa/new/er", false},
		{"a rule allows no other spelling", allow(send), "POST", "/cgi-bin/message/custom/Send", false},
		{"a rule without method allows any", allow(send), "PUT", send, true},
		{"a rule with method allows that", allow("GET", send), "GET", send, true},
		{"a rule with method allows no other", allow("GET", send), "POST", send, false},
		{"a prefix allows what is below", allow("/wxa/*"), "POST", "/wxa/a/b", true},
		{"a prefix does not allow itself", allow("/wxa/*"), "POST", "/wxa", false},
		{"a prefix ends at a slash", allow("/wxa/*"), "POST", "/wxaapi/newtmpl/addtemplate", false},
		{"one rule of several is enough", allow("GET", "/a", "/b", "/wxa/*"), "GET", "/wxa/x", true},
		{"rules narrow logins too", allow(send), "GET", "/sns/jscode2session", false},
		{"a rule names the login as it is called", allow("/sns/jscode2session"), "GET", "/sns/jscode2session", true},

		{"a rule alone opens no component-level path", allow(template), "GET", template, false},
		{"nor does a broad one", allow("/*"), "GET", template, false},
		{"nor does a broad one for another spelling", allow("/*"), "GET", "/WXA/GetTemplateList", false},
		{"rules narrow component_api", withComponent(allow(send)), "GET", template, false},
		{"a rule and component_api together open it", withComponent(allow(template)), "GET", template, true},
		{"the exceptions in the component's folder are authorizer-level", &policy.Rights{}, "POST", "/cgi-bin/component/getprivacysetting", true},
		{"an answer that carries credentials is component-level", &policy.Rights{}, "POST", info, false},

		{"token endpoints are open", &policy.Rights{}, "POST", "/cgi-bin/stable_token", true},
		{"token endpoints are not narrowed by rules", allow(send), "GET", "/cgi-bin/token", true},
		{"an SDK for platforms gets authorizer tokens without component_api", allow(send), "POST", "/cgi-bin/component/api_authorizer_token", true},
		{"the end user's own token is not narrowed by rules", allow(send), "GET", "/sns/userinfo", true},
		{"an undecided subject counts as the component", &policy.Rights{}, "GET", "/cgi-bin/getcallbackip", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.rights.Path(tt.method, tt.path, policy.Lookup(tt.path).Kind); got != tt.want {
				t.Errorf("Path(%s %s) = %v, want %v", tt.method, tt.path, got, tt.want)
			}
		})
	}
}

// On a path that takes both tokens, the subject of the call is asked about.
func TestPathOfEitherKind(t *testing.T) {
	const path = "/cgi-bin/getcallbackip"
	shop, console := &policy.Rights{}, &policy.Rights{ComponentAPI: true}
	if !shop.Path("GET", path, policy.Authorizer) || !console.Path("GET", path, policy.Authorizer) {
		t.Error("refused for an authorizer")
	}
	if shop.Path("GET", path, policy.Component) {
		t.Error("allowed for the component without component_api")
	}
	if !console.Path("GET", path, policy.Component) {
		t.Error("refused for the component with component_api")
	}
}

func TestAuthorizer(t *testing.T) {
	tests := []struct {
		name   string
		rights *policy.Rights
		appid  string
		want   bool
	}{
		{"one of the list", authorizers("wx1", "wx2"), "wx2", true},
		{"not of the list", authorizers("wx1"), "wx2", false},
		{"no list at all", &policy.Rights{}, "wx1", false},
		{"all of them", &policy.Rights{AllAuthorizers: true}, "wx1", true},
		{"none is not one of all", &policy.Rights{AllAuthorizers: true}, "", false},
		{"none is not one of the list", authorizers("wx1"), "", false},
		{"component_api is no right to an authorizer", &policy.Rights{ComponentAPI: true}, "wx1", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.rights.Authorizer(tt.appid); got != tt.want {
				t.Errorf("Authorizer(%q) = %v, want %v", tt.appid, got, tt.want)
			}
		})
	}
}

func TestOnlyAuthorizer(t *testing.T) {
	tests := []struct {
		name   string
		rights *policy.Rights
		want   string
	}{
		{"one", authorizers("wx1"), "wx1"},
		{"two", authorizers("wx1", "wx2"), ""},
		{"none", &policy.Rights{}, ""},
		{"all, of which one is named", &policy.Rights{AllAuthorizers: true, Authorizers: authorizers("wx1").Authorizers}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.rights.OnlyAuthorizer(); got != tt.want {
				t.Errorf("OnlyAuthorizer() = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestParseRules(t *testing.T) {
	tests := []struct {
		line string
		want []policy.Rule
		err  string // part of the error
	}{
		{"/wxa/getwxacode", []policy.Rule{{Path: "/wxa/getwxacode"}}, ""},
		{"GET /wxa/getwxacode", []policy.Rule{{Method: "GET", Path: "/wxa/getwxacode"}}, ""},
		{"POST /a /b/*", []policy.Rule{{Method: "POST", Path: "/a"}, {Method: "POST", Path: "/b/*"}}, ""},
		{"/*", []policy.Rule{{Path: "/*"}}, ""},
		{"", nil, "no path"},
		{"GET", nil, "no path"},
		{"get /a", nil, `method "get"`},
		{"PSOT /a", nil, `method "PSOT"`},
		{"wxa/a /b", nil, `method "wxa/a"`},
		{"/a POST /b", nil, `"POST" is neither a plain path`},
		{"*", nil, "no path"},
		{"/a*", nil, `"/a*" is neither`},
		{"/a/*/b", nil, `"/a/*/b" is neither`},
		{"/a/", nil, `"/a/" is neither`},
		{"/a//*", nil, `"/a//*" is neither`},
		{"//*", nil, `"//*" is neither`},
		{"/a/../b", nil, `"/a/../b" is neither`},
		{"/a?b=c", nil, `"/a?b=c" is neither`},
		{"/", nil, `"/" is neither`},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			got, err := policy.ParseRules(strings.Fields(tt.line)...)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
		})
	}
}

func rules(t *testing.T, args ...string) []policy.Rule {
	t.Helper()
	rules, err := policy.ParseRules(args...)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func authorizers(appids ...string) *policy.Rights {
	r := &policy.Rights{Authorizers: map[string]struct{}{}}
	for _, appid := range appids {
		r.Authorizers[appid] = struct{}{}
	}
	return r
}

func BenchmarkRights(b *testing.B) {
	rules, err := policy.ParseRules("/wxa/a", "/wxa/b", "/wxa/c", "/cgi-bin/*")
	if err != nil {
		b.Fatal(err)
	}
	rights := authorizers("wxaaaaaaaaaaaaaaaa")
	rights.Rules = rules
	b.ReportAllocs()
	for b.Loop() {
		if !rights.Path("POST", "/cgi-bin/message/custom/send", policy.Authorizer) || !rights.Authorizer("wxaaaaaaaaaaaaaaaa") {
			b.Fatal("refused")
		}
	}
}
