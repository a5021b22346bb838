// SPDX-License-Identifier: Apache-2.0

package openapi_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

func TestAuthorizerList(t *testing.T) {
	client := &openapi.Client{Hosts: []string{"https://wechat.example"}, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		body, _ := io.ReadAll(r.Body)
		if want := `{"component_appid":"wx0123456789abcdef","count":2,"offset":4}`; string(body) != want || r.URL.RawQuery != escapedToken {
			t.Errorf("asked %s with %s, want %s", r.URL, body, want)
		}
		return answers(200, `{"total_count":33,"list":[{"authorizer_appid":"wxfedcba9876543210","refresh_token":"old","auth_time":1558000607},
			{"authorizer_appid":"wx1111111111111111","auth_time":1},{"authorizer_appid":"wx2222222222222222","refresh_token":""}]}`)(r)
	})}
	list, err := client.AuthorizerList(t.Context(), component, componentToken, 4, 2)
	if err != nil {
		t.Fatal(err)
	}
	type entry struct{ AppID, Refresh, Answer string }
	var got []entry
	for _, listed := range list.Authorizers {
		got = append(got, entry{listed.AppID, listed.Refresh.Reveal(), string(listed.Answer)})
	}
	want := []entry{
		{authorizer, "old", `{"authorizer_appid":"wxfedcba9876543210","refresh_token":"withheld","auth_time":1558000607}`},
		{"wx1111111111111111", "", `{"authorizer_appid":"wx1111111111111111","auth_time":1}`},
		{"wx2222222222222222", "", `{"authorizer_appid":"wx2222222222222222","refresh_token":""}`},
	}
	if diff := cmp.Diff(want, got); diff != "" || list.Total != 33 {
		t.Errorf("total %d, list (-want +got):\n%s", list.Total, diff)
	}
	if strings.Contains(string(list.Answer), "old") {
		t.Errorf("the answer for clients is %s", list.Answer)
	}
}

func TestListsThatCannotBeRead(t *testing.T) {
	for _, answer := range []string{`{"total_count":[],"list":[]}`, `{"total_count":1,"list":["x"]}`, `[]`, ``} {
		client := &openapi.Client{Transport: answers(200, answer)}
		_, err := client.AuthorizerList(t.Context(), component, componentToken, 0, 1)
		wantOutage(t, err, 200)
	}
}

// The answers that are passed on hold no credential, wherever it stands in
// them, and nothing else is changed.
func TestAnswersForClients(t *testing.T) {
	const answer = `{"authorization_info":{"func_info":[{"x":1.0}], "authorizer_refresh_token":"dTo-","authorizer_access_token":"QXjU",` +
		`"authorizer_appid":"wxfedcba9876543210","Refresh_Token":"dTo-","new":{"access_token":"QXjU"}},"authorizer_info":{"nick_name":"美妆` + "\x02" + `"}}`
	want := strings.NewReplacer(`"dTo-"`, openapi.Withheld, `"QXjU"`, openapi.Withheld).Replace(answer)
	client := &openapi.Client{Transport: answers(200, answer)}
	granted, err := client.QueryAuth(t.Context(), component, componentToken, code)
	if err != nil || string(granted.Answer) != want {
		t.Errorf("QueryAuth: %v, %s, want %s", err, granted.Answer, want)
	}
	info, err := client.AuthorizerInfo(t.Context(), component, authorizer, componentToken)
	if err != nil || string(info.Answer) != want {
		t.Errorf("AuthorizerInfo: %v, %s, want %s", err, info.Answer, want)
	}
}

// Call gives the answer as it came, and takes paths besides names.
func TestAsk(t *testing.T) {
	const answer = "{ \"errcode\":\"0\",\n\"request\":{} }"
	for endpoint, path := range map[string]string{
		"api_get_authorizer_option": "/cgi-bin/component/api_get_authorizer_option",
		"/cgi-bin/openapi/rid/get":  "/cgi-bin/openapi/rid/get",
	} {
		client := &openapi.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path != path {
				t.Errorf("%s asked %s", endpoint, r.URL.Path)
			}
			return answers(200, answer)(r)
		})}
		if got, err := client.Call(t.Context(), endpoint, componentToken, openapi.Params{"n": 1}); err != nil || string(got) != answer {
			t.Errorf("%s: %v, %s", endpoint, err, got)
		}
	}
}

// A refusal of a gateway's is none of WeChat's: neither the secret nor the
// token that it refuses is wrong.
func TestGatewayInWeChatsPlace(t *testing.T) {
	client := &openapi.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		response, err := answers(200, `{"errcode":40125,"errmsg":"invalid appsecret (gateway)"}`)(r)
		response.Header = http.Header{openapi.GatewayHeader: {"client_secret"}}
		return response, err
	})}
	_, err := client.ComponentToken(t.Context(), component, appSecret, ticket)
	outage := wantOutage(t, err, 200)
	var refusal *openapi.Refusal
	if errors.As(err, &refusal) || !strings.Contains(outage.Error(), "gateway answered") {
		t.Errorf("the error is %v", err)
	}
}

// What is sent is never repeated in an error.
func TestAskKeepsSecretsOutOfErrors(t *testing.T) {
	appSecret := secret.New("an app secret")
	client := &openapi.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return nil, errors.New("malformed HTTP response \"an app secret\"")
	})}
	if _, err := client.Call(t.Context(), "clear_quota/v2", nil, openapi.Params{"appsecret": appSecret.Reveal(), "n": 1}); err == nil || strings.Contains(err.Error(), "an app secret") {
		t.Errorf("the error is %v", err)
	}
}
