// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/policy"
)

// What an operator says of a path wins, in every spelling of the path, and for that
// path alone.
func TestPathKinds(t *testing.T) {
	for _, row := range []struct {
		name, kind, path string
		want             policy.Route
		overrides        bool
	}{
		{"a new path of the platform", "component", "/wxa/new/path", component(), false},
		{"a new path of both", "either", "/wxa/new/path", either(), false},
		{"what the default says", "authorizer", "/wxa/new/path", authorizer(), false},
		{"spelt as WeChat might", "component", "/wxa/New/Path", component(), false},
		{"an exception in a family", "authorizer", "/cgi-bin/component/new", authorizer(), true},
		{"what the family says", "component", "/cgi-bin/component/new", component(), false},
		{"a row that is wrong", "either", "/wxa/gettemplatelist", either(), true},
		{"what the row says", "component", "/wxa/gettemplatelist", component(), false},
		{"a row with actions", "either", "/wxa/getdefaultamsinfo", either(), true},
		{"a row with another parameter", "component", "/product/service/check_auth", byOldName(component()), false},
		{"and its account's token", "authorizer", "/product/service/check_auth", authorizer(), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			kinds := make(policy.PathKinds)
			overrides, err := kinds.Add(row.kind, row.path)
			if err != nil || overrides != row.overrides {
				t.Fatalf("overrides %v, error %v", overrides, err)
			}
			for _, path := range []string{row.path, strings.ToLower(row.path), strings.ToUpper(row.path)} {
				if diff := cmp.Diff(row.want, kinds.Lookup(path)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", path, diff)
				}
			}
			for _, path := range []string{row.path + "/x", row.path + "x", "/wxa", "/cgi-bin/component/api_query_auth"} {
				if diff := cmp.Diff(policy.Lookup(path), kinds.Lookup(path)); diff != "" {
					t.Errorf("%s has changed, too:\n%s", path, diff)
				}
			}
			if named := policy.Named(row.path); named != policy.Named(strings.ToUpper(row.path)) || named && strings.Contains(row.path, "new") {
				t.Error("the table names the path: what its answers hold would count as known")
			}
		})
	}
}

func TestPathKindsThatAreMistakes(t *testing.T) {
	for _, row := range []struct{ name, kind, path, err string }{
		{"an unknown kind", "login", "/wxa/new", "want the kind authorizer, component or either"},
		{"a kind in other letters", "Component", "/wxa/new", "want the kind authorizer, component or either"},
		{"no kind", "", "/wxa/new", "want the kind authorizer, component or either"},
		{"a prefix", "component", "/wxa/new/*", "not a plain path"},
		{"all paths", "component", "/*", "not a plain path"},
		{"no path", "component", "", "not a plain path"},
		{"a relative path", "component", "wxa/new", "not a plain path"},
		{"a query", "component", "/wxa/new?action=x", "not a plain path"},
		{"a slash at the end", "component", "/wxa/new/", "not a plain path"},
		{"a path that climbs", "component", "/wxa/../new", "not a plain path"},
		{"an escape", "component", "/wxa/%6eew", "not a plain path"},
		{"the same path", "component", "/wxa/known", "has a kind already"},
		{"the same path and another kind", "either", "/wxa/known", "has a kind already"},
		{"the same path in other letters", "component", "/WXA/Known", "has a kind already"},
	} {
		t.Run(row.name, func(t *testing.T) {
			kinds := make(policy.PathKinds)
			if _, err := kinds.Add("component", "/wxa/known"); err != nil {
				t.Fatal(err)
			}
			if _, err := kinds.Add(row.kind, row.path); err == nil || !strings.Contains(err.Error(), row.err) {
				t.Errorf("error %v, want %q", err, row.err)
			}
			if len(kinds) != 1 {
				t.Errorf("it was added all the same: %v", kinds)
			}
		})
	}
}

// Token endpoints, logins, end users' calls and all that the gateway answers itself
// keep what the table says, in every spelling.
func TestPathKindsChangeNothingOfWhatIsMoreThanRelayed(t *testing.T) {
	refused := 0
	for _, row := range policy.Rows {
		route := policy.Lookup(row.Path)
		relayed := route.Endpoint == policy.Relayed && (route.Kind == policy.Authorizer || route.Kind == policy.Component || route.Kind == policy.Either)
		for _, kind := range []string{"component", "authorizer", "either"} {
			for _, path := range []string{row.Path, strings.ToUpper(row.Path)} {
				kinds := make(policy.PathKinds)
				if _, err := kinds.Add(kind, path); (err == nil) != relayed {
					t.Errorf("%s as %s: error %v", path, kind, err)
				} else if err != nil {
					refused++
				}
			}
		}
	}
	if refused < 20*6 {
		t.Errorf("only %d were refused", refused)
	}
}
