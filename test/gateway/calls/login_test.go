// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	formType   = "application/x-www-form-urlencoded"
	sessions   = "/sns/jscode2session"
	refreshing = "/sns/oauth2/refresh_token"
)

// multipartForm returns parameters as a client library sends them that was given a
// map, with a file beside them.
func multipartForm(parameters url.Values) (contentType, body string) {
	var out strings.Builder
	for name := range parameters {
		fmt.Fprintf(&out, "--b0undary\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", name, parameters.Get(name))
	}
	out.WriteString("--b0undary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--b0undary--\r\n")
	return "multipart/form-data; boundary=b0undary", out.String()
}

// asJSON returns parameters as a JSON object.
func asJSON(parameters url.Values) string {
	var members []string
	for name := range parameters {
		members = append(members, fmt.Sprintf("%q:%q", name, parameters.Get(name)))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func typed(contentType string) http.Header { return http.Header{"Content-Type": {contentType}} }

// A login may come as GET or POST, with its parameters in the query, in a form or in
// JSON. WeChat gets a GET with a query and no body, and none of what was the
// gateway's.
func TestLoginInEveryForm(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	mini := gwtest.MiniProgram
	token := tokenOf(t, g, mini, gwtest.ClientSecret)
	for name, request := range map[string]func(p url.Values) (method, query, body string, header http.Header){
		"GET": func(p url.Values) (string, string, string, http.Header) { return "GET", p.Encode(), "", nil },
		"GET with a stray {}": func(p url.Values) (string, string, string, http.Header) {
			return "GET", p.Encode(), "{}", typed("application/json")
		},
		"GET with a stray null":  func(p url.Values) (string, string, string, http.Header) { return "GET", p.Encode(), "null", nil },
		"GET with a stray blank": func(p url.Values) (string, string, string, http.Header) { return "GET", p.Encode(), " \r\n", nil },
		"GET with the form again": func(p url.Values) (string, string, string, http.Header) {
			return "GET", p.Encode(), p.Encode(), typed(formType)
		},
		"POST with a query and no body": func(p url.Values) (string, string, string, http.Header) { return "POST", p.Encode(), "", nil },
		"POST with a query and {}": func(p url.Values) (string, string, string, http.Header) {
			return "POST", p.Encode(), "{}", typed("application/json")
		},
		"POST form": func(p url.Values) (string, string, string, http.Header) {
			return "POST", "", p.Encode(), typed(formType + "; charset=utf-8")
		},
		"POST JSON": func(p url.Values) (string, string, string, http.Header) {
			return "POST", "", asJSON(p), typed("application/json")
		},
		"POST JSON under the name of a form": func(p url.Values) (string, string, string, http.Header) {
			return "POST", "", "\n" + asJSON(p), typed(formType)
		},
		"POST JSON without a type": func(p url.Values) (string, string, string, http.Header) { return "POST", "", asJSON(p), nil },
		"POST multipart": func(p url.Values) (string, string, string, http.Header) {
			contentType, body := multipartForm(p)
			return "POST", "", body, typed(contentType)
		},
		"POST with all but the secret in the query": func(p url.Values) (string, string, string, http.Header) {
			p.Del("secret")
			return "POST", p.Encode(), `{"secret":"` + gwtest.ClientSecret + `"}`, nil
		},
		"POST with nothing but the secret in the query": func(p url.Values) (string, string, string, http.Header) {
			p.Del("secret")
			return "POST", "secret=" + gwtest.ClientSecret, p.Encode(), typed(formType)
		},
		"POST with the appid in both": func(p url.Values) (string, string, string, http.Header) {
			return "POST", "appid=" + mini, p.Encode(), typed(formType)
		},
		"POST with another code in the query": func(p url.Values) (string, string, string, http.Header) {
			return "POST", "js_code=stale&JSCODE=older", p.Encode(), typed(formType)
		},
		"POST with a bearer": func(p url.Values) (string, string, string, http.Header) {
			p.Del("secret")
			header := gwtest.Bearer(gwtest.ClientSecret, "")
			header.Set("Content-Type", formType)
			return "POST", "", p.Encode(), header
		},
		"POST with a gateway token in the body, and the secret": func(p url.Values) (string, string, string, http.Header) {
			p.Set("access_token", token)
			return "POST", "", asJSON(p), nil
		},
		"POST with a component of the caller's choice": func(p url.Values) (string, string, string, http.Header) {
			p.Set("component_appid", "wxeeeeeeeeeeeeeeee")
			return "POST", "Component_AppID=wxffffffffffffffff", p.Encode(), typed(formType)
		},
		"POST with members that are null or empty": func(p url.Values) (string, string, string, http.Header) {
			p.Del("js_code")
			return "POST", "js_code=" + g.WeChat.NewUserCode(mini, "alice"), strings.Replace(asJSON(p), "{", `{"js_code":null,"access_token":"",`, 1), nil
		},
		"POST with the credentials once more": func(p url.Values) (string, string, string, http.Header) {
			p.Set("key", gwtest.ClientSecret)
			p.Set("session", token)
			return "POST", "", asJSON(p), nil
		},
	} {
		for _, path := range []string{sessions, "/sns/component/jscode2session"} {
			t.Run(name+" "+path, func(t *testing.T) {
				g.WeChat.ResetCounts()
				code := g.WeChat.NewUserCode(mini, "alice")
				method, query, body, header := request(url.Values{"appid": {mini}, "secret": {gwtest.ClientSecret}, "js_code": {code}, "grant_type": {"authorization_code"}})
				if strings.Contains(query, "js_code=0a") {
					parsed, _ := url.ParseQuery(query)
					code = parsed.Get("js_code")
				}
				answer := g.Ask(method, path+"?"+query, body, header)
				if !strings.Contains(answer.Body, g.WeChat.OpenID(mini, "alice")) {
					t.Fatalf("answered %d %s", answer.Status, answer.Body)
				}
				call := onlyCall(t, g, "/sns/component/jscode2session")
				if call.Method != "GET" || call.BodySize != 0 || call.Header.Get("Content-Type") != "" || call.Header.Get("Content-Length") != "" {
					t.Errorf("WeChat saw %s with a body of %d bytes and %v", call.Method, call.BodySize, call.Header)
				}
				got, err := url.ParseQuery(call.RawQuery)
				want := url.Values{
					"component_access_token": {g.WeChat.ValidToken(sandbox.KindComponent, "")}, "component_appid": {g.WeChat.Component()},
					"appid": {mini}, "js_code": {code}, "grant_type": {"authorization_code"},
				}
				if diff := cmp.Diff(want, got); diff != "" || err != nil {
					t.Errorf("WeChat saw another query (-want +got), %v:\n%s", err, diff)
				}
			})
		}
	}
}

// A web login and the renewal of its token by POST: the renewal needs no client, and a
// client that shows itself all the same must be one.
func TestWebLoginByPOST(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	official := gwtest.OfficialAccount
	var refresh string
	for name, body := range map[string]string{
		formType:           "appid=" + official + "&secret=" + gwtest.ClientSecret + "&grant_type=authorization_code&code=",
		"application/json": `{"appid":"` + official + `","secret":"` + gwtest.ClientSecret + `","code":"`,
	} {
		body += g.WeChat.NewUserCode(official, "bob")
		if name == "application/json" {
			body += `"}`
		}
		answer := g.Ask("POST", "/sns/oauth2/access_token", body, typed(name))
		_, rest, found := strings.Cut(answer.Body, `"refresh_token":"`)
		if !found {
			t.Fatalf("%s: %s", name, answer.Body)
		}
		refresh, _, _ = strings.Cut(rest, `"`)
	}
	renewal := url.Values{"appid": {official}, "grant_type": {"refresh_token"}, "refresh_token": {refresh}}
	withSecret := func(secret string) url.Values {
		return url.Values{"appid": {official}, "grant_type": {"refresh_token"}, "refresh_token": {refresh}, "secret": {secret}}
	}
	multipartType, multipartBody := multipartForm(renewal)
	for name, row := range map[string]struct {
		method, query, body string
		header              http.Header
		code                int
	}{
		"form":                            {"POST", "", renewal.Encode(), typed(formType), 0},
		"JSON":                            {"POST", "", asJSON(renewal), nil, 0},
		"multipart":                       {"POST", "", multipartBody, typed(multipartType), 0},
		"query and no body":               {"POST", renewal.Encode(), "", nil, 0},
		"GET with a stray {}":             {"GET", renewal.Encode(), "{}", nil, 0},
		"a client's secret in the form":   {"POST", "", withSecret(gwtest.IdleSecret).Encode(), typed(formType), 0},
		"a wrong secret in the form":      {"POST", "", withSecret(gwtest.UnknownSecret).Encode(), typed(formType), 40125},
		"a header that is not ours":       {"POST", "", renewal.Encode(), http.Header{"Content-Type": {formType}, "Authorization": {"Basic x"}}, 0},
		"a header that is not ours, GET":  {"GET", renewal.Encode(), "", http.Header{"Authorization": {"Basic x"}}, 0},
		"no appid":                        {"POST", "", "refresh_token=" + refresh, typed(formType), 41002},
		"nothing":                         {"POST", "", "", nil, 41002},
		"another appid in query and form": {"POST", "appid=" + gwtest.MiniProgram, renewal.Encode(), typed(formType), 47001},
	} {
		t.Run(name, func(t *testing.T) {
			g.WeChat.ResetCounts()
			answer := g.Ask(row.method, refreshing+"?"+row.query, row.body, row.header)
			if answer.ErrCode != row.code || (row.code == 0) != strings.HasPrefix(answer.Token, "USERTOKEN") {
				t.Fatalf("answered %s, want %d", answer.Body, row.code)
			}
			if row.code != 0 {
				if calls := g.WeChat.Calls(); len(calls) != 0 {
					t.Errorf("WeChat saw %d calls", len(calls))
				}
				return
			}
			if call := onlyCall(t, g, "/sns/oauth2/component/refresh_token"); call.Method != "GET" || call.TokenKind != sandbox.KindComponent || strings.Contains(call.RawQuery, "secret") {
				t.Errorf("WeChat saw %s with a %s token and %s", call.Method, call.TokenKind, call.RawQuery)
			}
		})
	}
}

// The rights of the client are held against what WeChat gets to see. What is
// refused does not reach WeChat, and uses up no code.
func TestLoginRefusals(t *testing.T) {
	clients := gwtest.ManyClients() + "\nclient getter {\nsecret getter-secret-0123456789abcdef0123456\nauthorizers *\nallow GET " + sessions + "\n}" +
		"\nclient poster {\nsecret poster-secret-0123456789abcdef0123456\nauthorizers *\nallow POST " + sessions + "\n}"
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: clients})
	mini, official := gwtest.MiniProgram, gwtest.OfficialAccount
	officialToken := tokenOf(t, g, official, gwtest.ClientSecret)
	form := func(appid, secret string) string { return "appid=" + appid + "&secret=" + secret + "&js_code=x" }
	jsonOf := func(appid, secret string) string {
		return `{"appid":"` + appid + `","secret":"` + secret + `","js_code":"x"}`
	}
	const passed = 40029 // WeChat's, for the made-up code
	solo, shop := gwtest.SoloSecret, gwtest.ClientSecret
	for name, row := range map[string]struct {
		method, query, body string
		header              http.Header
		status, code        int
	}{
		"a form that names an account of another client": {"POST", "", form(mini, solo), typed(formType), 200, 61003},
		"JSON that does": {"POST", "", jsonOf(mini, solo), nil, 200, 61003},
		"a form that names another account than the query":     {"POST", form(official, solo), "appid=" + mini, typed(formType), 200, 47001},
		"JSON that does, and would be allowed":                 {"POST", form(official, shop), `{"appid":"` + mini + `"}`, nil, 200, 47001},
		"a body under GET that does":                           {"GET", form(official, solo), "appid=" + mini, typed(formType), 200, 47001},
		"a form that does under another spelling":              {"POST", form(official, solo), "App%49d=" + mini, typed(formType), 200, 47001},
		"JSON that does under another spelling":                {"POST", form(official, solo), `{"app_id":"` + mini + `"}`, nil, 200, 47001},
		"a form with two appids":                               {"POST", "", form(official, solo) + "&appid=" + mini, typed(formType), 200, 47001},
		"a form with two spellings":                            {"POST", "", form(official, solo) + "&AppID=" + mini, typed(formType), 200, 47001},
		"two appids in the query, of which the form is one":    {"POST", "appid=" + official + "&appid=" + mini, form(mini, shop), typed(formType), 200, 47001},
		"a gateway token of another account":                   {"POST", "access_token=" + officialToken, form(mini, ""), typed(formType), 200, 61003},
		"a gateway token of another account in the body":       {"POST", "", form(mini, "") + "&access_token=" + officialToken, typed(formType), 200, 61003},
		"a gateway token of the account in the body":           {"POST", "", form(official, "") + "&access_token=" + officialToken, typed(formType), 200, passed},
		"a gateway token that is not valid":                    {"POST", "", form(official, "") + "&access_token=" + officialToken + "x", typed(formType), 200, 40001},
		"a wrong secret in the form":                           {"POST", "", form(mini, gwtest.UnknownSecret), typed(formType), 200, 40125},
		"a wrong secret in the query, a right one in the form": {"POST", "secret=" + gwtest.UnknownSecret, form(mini, shop), typed(formType), 200, 40125},
		"a number in the place of a secret":                    {"POST", "", `{"appid":"` + mini + `","secret":1}`, nil, 200, 40125},
		"a number in the place of a code":                      {"POST", "", `{"appid":"` + mini + `","secret":"` + shop + `","js_code":1}`, nil, 200, passed},
		"no secret":                                            {"POST", "", form(mini, ""), typed(formType), 200, 41001},
		"null in the place of a secret":                        {"POST", "", `{"appid":"` + mini + `","secret":null}`, nil, 200, 41001},
		"no appid":                                             {"POST", "", "js_code=x&secret=" + shop, typed(formType), 200, 41002},
		"no appid, one account":                                {"POST", "", "js_code=x&secret=" + solo, typed(formType), 200, 41002},
		"an appid in no letters":                               {"POST", "", `{"appid":["` + mini + `"],"secret":"` + shop + `"}`, nil, 200, 41002},
		"nothing":                                              {"POST", "", "", nil, 200, 41001},
		"a header that is not ours, alone":                     {"POST", "appid=" + mini, "", http.Header{"Authorization": {"Basic x"}}, 401, 40125},
		"a header that is not ours beside a secret":            {"POST", "", form(mini, shop), http.Header{"Authorization": {"Basic x"}, "Content-Type": {formType}}, 200, passed},
		"a header that is not ours beside a wrong secret":      {"POST", "", form(mini, gwtest.UnknownSecret), http.Header{"Authorization": {"Basic x"}, "Content-Type": {formType}}, 200, 40125},
		"a header that is not ours beside a secret, GET":       {"GET", form(mini, shop), "", http.Header{"Authorization": {"Bearer " + gwtest.UnknownSecret}}, 200, passed},
		"a header that is not ours beside a token":             {"GET", "appid=" + official + "&access_token=" + officialToken, "", http.Header{"Authorization": {"Basic x"}}, 200, passed},
		"a client's header decides over the form's secret":     {"POST", "", form(mini, shop), http.Header{"Authorization": {"Bearer " + solo}, "Content-Type": {formType}}, 200, 61003},
		"a rule for GET allows POST, which goes up as GET":     {"POST", "", form(mini, "getter-secret-0123456789abcdef0123456"), typed(formType), 200, passed},
		"a rule for POST allows POST":                          {"POST", "", form(mini, "poster-secret-0123456789abcdef0123456"), typed(formType), 200, passed},
		"a rule for POST does not allow GET":                   {"GET", form(mini, "poster-secret-0123456789abcdef0123456"), "", nil, 200, 48001},
		"a path not allowed to the client":                     {"POST", "", form(mini, gwtest.NarrowSecret), typed(formType), 200, 48001},
		"HEAD":                                                 {"HEAD", form(mini, shop), "", nil, 200, 0},
		"PUT":                                                  {"PUT", "", form(mini, shop), typed(formType), 200, 48001},
		"a form without its type":                              {"POST", "", form(mini, shop), nil, 200, 47001},
		"a broken form":                                        {"POST", "", "appid=%zz", typed(formType), 200, 47001},
		"broken JSON":                                          {"POST", "", jsonOf(mini, shop)[:30], nil, 200, 47001},
		"a JSON list":                                          {"POST", "", "[" + jsonOf(mini, shop) + "]", nil, 200, 47001},
		"multipart without a boundary":                         {"POST", "", "--x\r\n", typed("multipart/form-data"), 200, 47001},
		"multipart that is cut off":                            {"POST", "", "--x\r\nContent-Disposition: form-data; name=\"appid\"\r\n\r\nwx", typed("multipart/form-data; boundary=x"), 200, 47001},
		"a body over the limit":                                {"POST", form(mini, shop), "x=" + strings.Repeat("x", 16<<10), typed(formType), 413, 47001},
		"a stray body over the limit under GET":                {"GET", form(mini, shop), `{"x":"` + strings.Repeat("x", 16<<10) + `"}`, nil, 413, 47001},
	} {
		t.Run(name, func(t *testing.T) {
			g.WeChat.ResetCounts()
			answer := g.Ask(row.method, sessions+"?"+row.query, row.body, row.header)
			if row.method == "HEAD" && answer.Slug != "not_allowed" || answer.Status != row.status || answer.ErrCode != row.code {
				t.Errorf("answered %d %q %s, want %d with %d", answer.Status, answer.Slug, answer.Body, row.status, row.code)
			}
			if seen := len(g.WeChat.Calls()); (seen == 1) != (row.code == passed) {
				t.Errorf("WeChat saw %d calls", seen)
			}
		})
	}
}

// The body of a login is bounded in what it makes WeChat read, too: it is a query
// there.
func TestLoginWithManyParameters(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	body := "appid=" + gwtest.MiniProgram + "&secret=" + gwtest.ClientSecret + "&js_code=x" + strings.Repeat("&a=%E4%BD%A0", 1000)
	if answer := g.Ask("POST", sessions+"?b=1", body, typed(formType)); answer.ErrCode != 40029 {
		t.Errorf("answered %d %s", answer.Status, answer.Body)
	}
	if call := onlyCall(t, g, "/sns/component/jscode2session"); strings.Count(call.RawQuery, "a=%E4%BD%A0") != 1000 || !strings.HasSuffix(call.RawQuery, "&b=1") {
		t.Errorf("WeChat saw %.200q", call.RawQuery)
	}
}
