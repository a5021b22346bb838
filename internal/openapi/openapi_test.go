// SPDX-License-Identifier: Apache-2.0

package openapi_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

const (
	component  = "wx0123456789abcdef"
	authorizer = "wxfedcba9876543210"
)

// The secrets that go out; '&', '<' and '+' are there to be escaped properly.
var (
	appSecret      = secret.New("app-secret-0a1b2c")
	ticket         = secret.New("ticket@@@<Ab&cd>")
	componentToken = secret.New("component token+/=&%")
	code           = secret.New("queryauthcode@@@code")
	refresh        = secret.New("refreshtoken@@@old")
	sent           = []secret.Secret{appSecret, ticket, componentToken, code, refresh}
)

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answers returns a transport that answers everything with status and body.
func answers(status int, body string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

// plain is a result with its secrets in clear, for comparison.
type plain map[string]any

func plainToken(t openapi.Token) plain {
	return plain{"value": t.Value.Reveal(), "lifetime": t.Lifetime}
}

// calls are all endpoints with the arguments above, by the last part of their path.
var calls = map[string]func(context.Context, *openapi.Client) (plain, error){
	"api_component_token": func(ctx context.Context, c *openapi.Client) (plain, error) {
		token, err := c.ComponentToken(ctx, component, appSecret, ticket)
		return plainToken(token), err
	},
	"api_start_push_ticket": func(ctx context.Context, c *openapi.Client) (plain, error) {
		return plain{}, c.StartPushTicket(ctx, component, appSecret)
	},
	"api_create_preauthcode": func(ctx context.Context, c *openapi.Client) (plain, error) {
		got, err := c.PreAuthCode(ctx, component, componentToken)
		return plain{"value": got.Value.Reveal(), "lifetime": got.Lifetime}, err
	},
	"api_query_auth": func(ctx context.Context, c *openapi.Client) (plain, error) {
		got, err := c.QueryAuth(ctx, component, componentToken, code)
		return plain{"appid": got.AppID, "access": plainToken(got.Access), "refresh": got.Refresh.Reveal(), "functions": got.Functions}, err
	},
	"api_authorizer_token": func(ctx context.Context, c *openapi.Client) (plain, error) {
		token, out, err := c.AuthorizerToken(ctx, component, authorizer, componentToken, refresh)
		return plain{"access": plainToken(token), "refresh": out.Reveal()}, err
	},
	"api_get_authorizer_info": func(ctx context.Context, c *openapi.Client) (plain, error) {
		got, err := c.AuthorizerInfo(ctx, component, authorizer, componentToken)
		return plain{
			"appid": got.AppID, "nick": got.NickName, "user": got.UserName, "principal": got.PrincipalName,
			"kind": got.Kind, "refresh": got.Refresh.Reveal(), "functions": got.Functions, "status": got.AccountStatus,
		}, err
	},
}

const escapedToken = "access_token=component+token%2B%2F%3D%26%25"

// TestEndpoints holds the documented request of each endpoint and the answers
// that must be understood.
func TestEndpoints(t *testing.T) {
	for _, test := range []struct {
		endpoint, query, body string
		answer                string
		want                  plain
	}{{
		"api_component_token", "",
		`{"component_appid":"wx0123456789abcdef","component_appsecret":"app-secret-0a1b2c","component_verify_ticket":"ticket@@@<Ab&cd>"}`,
		`{"component_access_token":"61W3","expires_in":7200}`,
		plain{"value": "61W3", "lifetime": 2 * time.Hour},
	}, {
		"api_start_push_ticket", "",
		`{"component_appid":"wx0123456789abcdef","component_secret":"app-secret-0a1b2c"}`,
		`{"errcode":0,"errmsg":"in a normal state"}`,
		plain{},
	}, {
		"api_create_preauthcode", escapedToken,
		`{"component_appid":"wx0123456789abcdef"}`,
		`{"pre_auth_code":"preauthcode@@@x","expires_in":1800}`,
		plain{"value": "preauthcode@@@x", "lifetime": 30 * time.Minute},
	}, {
		"api_query_auth", escapedToken,
		`{"authorization_code":"queryauthcode@@@code","component_appid":"wx0123456789abcdef"}`,
		`{"authorization_info":{"authorizer_appid":"wxfedcba9876543210","authorizer_access_token":"QXjU","expires_in":7200,
		  "authorizer_refresh_token":"dTo-","func_info":[{"funcscope_category":{"id":1}},
		  {"funcscope_category":{"id":"17","type":0,"name":"x"},"confirm_info":{"need_confirm":0}}]}}`,
		plain{"appid": authorizer, "access": plain{"value": "QXjU", "lifetime": 2 * time.Hour}, "refresh": "dTo-", "functions": []int{1, 17}},
	}, {
		"api_authorizer_token", escapedToken,
		`{"authorizer_appid":"wxfedcba9876543210","authorizer_refresh_token":"refreshtoken@@@old","component_appid":"wx0123456789abcdef"}`,
		`{"authorizer_access_token":"aaUl","expires_in":7200,"authorizer_refresh_token":"BstnRqgT"}`,
		plain{"access": plain{"value": "aaUl", "lifetime": 2 * time.Hour}, "refresh": "BstnRqgT"},
	}, {
		"api_get_authorizer_info", escapedToken,
		`{"authorizer_appid":"wxfedcba9876543210","component_appid":"wx0123456789abcdef"}`,
		`{"authorizer_info":{"nick_name":"美妆饰品","service_type_info":{"id":0},"user_name":"gh_c43395cb652e","principal_name":"某公司",
		  "MiniProgramInfo":{"network":{"RequestDomain":[]}},"account_status":1},
		  "authorization_info":{"authorizer_appid":"wxfedcba9876543210","authorizer_refresh_token":"dTo-","func_info":[{"funcscope_category":{"id":3}}]}}`,
		plain{
			"appid": authorizer, "nick": "美妆饰品", "user": "gh_c43395cb652e", "principal": "某公司",
			"kind": openapi.MiniProgram, "refresh": "dTo-", "functions": []int{3}, "status": 1,
		},
	}} {
		t.Run(test.endpoint, func(t *testing.T) {
			client := &openapi.Client{
				Hosts: []string{"https://wechat.example/"},
				Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					body, _ := io.ReadAll(r.Body)
					got := []string{r.Method, r.URL.Scheme, r.URL.Host, r.URL.Path, r.URL.RawQuery, r.Header.Get("Content-Type"), string(body)}
					want := []string{"POST", "https", "wechat.example", "/cgi-bin/component/" + test.endpoint, test.query, "application/json", test.body}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("request (-want +got):\n%s", diff)
					}
					return answers(200, test.answer)(r)
				}),
			}
			got, err := calls[test.endpoint](t.Context(), client)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAnswers holds the traps: what WeChat, or what stands before it, is known
// to send instead of the documented answer. want nil means an Outage.
func TestAnswers(t *testing.T) {
	token := func(value string, lifetime time.Duration) plain { return plain{"value": value, "lifetime": lifetime} }
	authorization := func(value, refresh string, functions ...int) plain {
		access := token(value, 2*time.Hour)
		if value == "" {
			access = token("", 0)
		}
		return plain{"appid": authorizer, "access": access, "refresh": refresh, "functions": functions}
	}
	info := func(nick string, kind openapi.AccountKind, refresh string) plain {
		return plain{
			"appid": authorizer, "nick": nick, "user": "", "principal": "",
			"kind": kind, "refresh": refresh, "functions": []int(nil), "status": 0,
		}
	}
	for name, test := range map[string]struct {
		endpoint, answer string
		want             plain
	}{
		"errcode 0 beside a token is no refusal":      {"api_component_token", `{"errcode":0,"errmsg":"ok","component_access_token":"t","expires_in":7200}`, token("t", 2*time.Hour)},
		"errcode may be a string":                     {"api_component_token", `{"errcode":"0","component_access_token":"t","expires_in":7200}`, token("t", 2*time.Hour)},
		"errcode may be null":                         {"api_component_token", `{"errcode":null,"component_access_token":"t","expires_in":7200}`, token("t", 2*time.Hour)},
		"errcode that is no number is not believed":   {"api_start_push_ticket", `{"errcode":true}`, nil},
		"errcode that is a word is not believed":      {"api_start_push_ticket", `{"errcode":"ok"}`, nil},
		"expires_in may be a string":                  {"api_component_token", `{"component_access_token":"t","expires_in":"600"}`, token("t", 10*time.Minute)},
		"expires_in missing means the documented one": {"api_component_token", `{"component_access_token":"t"}`, token("t", 2*time.Hour)},
		"expires_in 0 means the documented one":       {"api_component_token", `{"component_access_token":"t","expires_in":0}`, token("t", 2*time.Hour)},
		"expires_in -1 means the documented one":      {"api_component_token", `{"component_access_token":"t","expires_in":-1}`, token("t", 2*time.Hour)},
		"expires_in of a day is believed":             {"api_component_token", `{"component_access_token":"t","expires_in":86400}`, token("t", 24*time.Hour)},
		"expires_in over a day is not":                {"api_component_token", `{"component_access_token":"t","expires_in":86401}`, token("t", 2*time.Hour)},
		"expires_in beyond int64 costs no token":      {"api_component_token", `{"component_access_token":"t","expires_in":1e400}`, token("t", 2*time.Hour)},
		"expires_in of nonsense costs no token":       {"api_component_token", `{"component_access_token":"t","expires_in":[]}`, token("t", 2*time.Hour)},
		"a code without expires_in gets ten minutes":  {"api_create_preauthcode", `{"pre_auth_code":"p"}`, token("p", 10*time.Minute)},
		"unknown fields are ignored":                  {"api_component_token", `{"x":{"y":[1]},"component_access_token":"t","expires_in":7200}`, token("t", 2*time.Hour)},
		"of repeated fields the last counts":          {"api_component_token", `{"component_access_token":"s","component_access_token":"t","expires_in":7200}`, token("t", 2*time.Hour)},
		"blanks and line ends around are ignored":     {"api_component_token", "\r\n\t{\"component_access_token\":\"t\",\n\"expires_in\":7200}\n", token("t", 2*time.Hour)},

		"no token at all":                 {"api_component_token", `{"expires_in":7200}`, nil},
		"an empty token":                  {"api_component_token", `{"component_access_token":"","expires_in":7200}`, nil},
		"a token that is no string":       {"api_component_token", `{"component_access_token":7,"expires_in":7200}`, nil},
		"an empty pre_auth_code":          {"api_create_preauthcode", `{"pre_auth_code":"","expires_in":1800}`, nil},
		"an empty authorizer token":       {"api_authorizer_token", `{"authorizer_access_token":"","authorizer_refresh_token":"r"}`, nil},
		"an authorisation without appid":  {"api_query_auth", `{"authorization_info":{"authorizer_access_token":"t"}}`, nil},
		"an authorisation that is a list": {"api_query_auth", `{"authorization_info":[]}`, nil},
		"an empty answer":                 {"api_start_push_ticket", ``, nil},
		"an empty answer of blanks":       {"api_start_push_ticket", " \n", nil},
		"a cut-off answer":                {"api_component_token", `{"component_access_token":"t","expires_in":72`, nil},
		"two answers":                     {"api_start_push_ticket", `{"errcode":0}{"errcode":0}`, nil},
		"a page of HTML":                  {"api_start_push_ticket", `<html><body>502 Bad Gateway</body></html>`, nil},
		"JSON that is no object":          {"api_start_push_ticket", `null`, nil},
		"JSON that is a list":             {"api_start_push_ticket", `[]`, nil},

		"an account without permissions has no tokens":     {"api_query_auth", `{"authorization_info":{"authorizer_appid":"wxfedcba9876543210","func_info":[]}}`, authorization("", "")},
		"permission sets of odd form are left out":         {"api_query_auth", `{"authorization_info":{"authorizer_appid":"wxfedcba9876543210","func_info":[null,{},{"funcscope_category":{"id":"x"}},7,{"funcscope_category":{"id":9}}],"authorizer_access_token":"t","authorizer_refresh_token":"r"}}`, authorization("t", "r", 9)},
		"a renewal without refresh token":                  {"api_authorizer_token", `{"authorizer_access_token":"t","expires_in":7200}`, plain{"access": token("t", 2*time.Hour), "refresh": ""}},
		"a byte order mark":                                {"api_get_authorizer_info", "\uFEFF{\"authorizer_info\":{\"nick_name\":\"a\"},\"authorization_info\":{\"authorizer_appid\":\"wxfedcba9876543210\"}}", info("a", openapi.OfficialAccount, "")},
		"raw control characters in a nickname":             {"api_get_authorizer_info", "{\"authorizer_info\":{\"nick_name\":\"a\x01b\nc\x00\"},\"authorization_info\":{\"authorizer_appid\":\"wxfedcba9876543210\"}}", info("a b c ", openapi.OfficialAccount, "")},
		"invalid UTF-8 in a nickname":                      {"api_get_authorizer_info", "{\"authorizer_info\":{\"nick_name\":\"a\xffb\"},\"authorization_info\":{\"authorizer_appid\":\"wxfedcba9876543210\"}}", info("a\ufffdb", openapi.OfficialAccount, "")},
		"the old name authorization_appid":                 {"api_get_authorizer_info", `{"authorizer_info":{"nick_name":"n"},"authorization_info":{"authorization_appid":"wxfedcba9876543210","authorizer_refresh_token":"r"}}`, info("n", openapi.OfficialAccount, "r")},
		"an empty refresh token is none":                   {"api_get_authorizer_info", `{"authorizer_info":{"nick_name":"n"},"authorization_info":{"authorizer_appid":"wxfedcba9876543210","authorizer_refresh_token":""}}`, info("n", openapi.OfficialAccount, "")},
		"MiniProgramInfo null means an official account":   {"api_get_authorizer_info", `{"authorizer_info":{"nick_name":"n","MiniProgramInfo":null},"authorization_info":{"authorizer_appid":"wxfedcba9876543210"}}`, info("n", openapi.OfficialAccount, "")},
		"an empty MiniProgramInfo still is a mini program": {"api_get_authorizer_info", `{"authorizer_info":{"nick_name":"n","MiniProgramInfo":{}},"authorization_info":{"authorizer_appid":"wxfedcba9876543210"}}`, info("n", openapi.MiniProgram, "")},
		"a shop":                            {"api_get_authorizer_info", `{"authorizer_info":{"nick_name":"n","service_type_info":{"id":0},"store_info":{"id":"x"}},"authorization_info":{"authorizer_appid":"wxfedcba9876543210"}}`, info("n", openapi.Shop, "")},
		"an account of Channels":            {"api_get_authorizer_info", `{"authorizer_info":{"nick_name":"n","service_type_info":{"id":0},"channels_info":{"id":"x"}},"authorization_info":{"authorizer_appid":"wxfedcba9876543210"}}`, info("n", openapi.OtherAccount, "")},
		"an assistant that sells":           {"api_get_authorizer_info", `{"authorizer_info":{"nick_name":"n","service_type_info":{"id":0},"talent_info":{"id":"x"}},"authorization_info":{"authorizer_appid":"wxfedcba9876543210"}}`, info("n", openapi.OtherAccount, "")},
		"a supplier":                        {"api_get_authorizer_info", `{"authorizer_info":{"nick_name":"n","service_type_info":{"id":0},"supplier_info":{"id":"x"}},"authorization_info":{"authorizer_appid":"wxfedcba9876543210"}}`, info("n", openapi.OtherAccount, "")},
		"an unknown member makes no kind":   {"api_get_authorizer_info", `{"authorizer_info":{"nick_name":"n","service_type_info":{"id":0},"novel_info":{"id":"x"}},"authorization_info":{"authorizer_appid":"wxfedcba9876543210"}}`, info("n", openapi.OfficialAccount, "")},
		"information about another account": {"api_get_authorizer_info", `{"authorization_info":{"authorizer_appid":"wxaaaaaaaaaaaaaaaa","authorizer_refresh_token":"r"}}`, nil},
		"information about nobody":          {"api_get_authorizer_info", `{}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := calls[test.endpoint](t.Context(), &openapi.Client{Transport: answers(200, test.answer)})
			var outage *openapi.Outage
			switch {
			case test.want == nil && !errors.As(err, &outage):
				t.Errorf("error is %v, want an Outage", err)
			case test.want == nil && (outage.Endpoint != test.endpoint || outage.Status != 200):
				t.Errorf("outage is %+v", outage)
			case test.want != nil && err != nil:
				t.Error(err)
			case test.want != nil:
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("result (-want +got):\n%s", diff)
				}
			}
		})
	}
}
