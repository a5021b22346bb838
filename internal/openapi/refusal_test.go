// SPDX-License-Identifier: Apache-2.0

package openapi_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
)

func refusal(t *testing.T, answer string) *openapi.Refusal {
	t.Helper()
	err := (&openapi.Client{Transport: answers(200, answer)}).StartPushTicket(t.Context(), component, appSecret)
	var refusal *openapi.Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("error is %v, want a Refusal", err)
	}
	return refusal
}

func TestRefusalKeepsWhatIsUsefulOfTheMessage(t *testing.T) {
	const endpoint = "api_start_push_ticket"
	addr := netip.MustParseAddr
	for name, test := range map[string]struct {
		answer string
		want   openapi.Refusal
	}{
		"code and rid":                        {`{"errcode":40013,"errmsg":"invalid appid rid: 66c669e3-210a005b-256a5f92"}`, openapi.Refusal{Code: 40013, RID: "66c669e3-210a005b-256a5f92"}},
		"a code that is a string":             {`{"errcode":"40013","errmsg":"invalid appid"}`, openapi.Refusal{Code: 40013}},
		"system busy":                         {`{"errcode":-1,"errmsg":"system error"}`, openapi.Refusal{Code: -1}},
		"no message":                          {`{"errcode":61005}`, openapi.Refusal{Code: 61005}},
		"a message that is no text":           {`{"errcode":61005,"errmsg":{"rid: ":1}}`, openapi.Refusal{Code: 61005}},
		"a token in it makes no success":      {`{"errcode":45009,"component_access_token":"t"}`, openapi.Refusal{Code: 45009}},
		"something long is no rid":            {`{"errcode":40013,"errmsg":"rid: 66c669e3210a005b256a5f92"}`, openapi.Refusal{Code: 40013}},
		"address of 61004":                    {`{"errcode":61004,"errmsg":"access clientip is not registered requestIP: 203.0.113.7 rid: 66c669e3-210a005b-256a5f92"}`, openapi.Refusal{Code: 61004, IP: addr("203.0.113.7"), RID: "66c669e3-210a005b-256a5f92"}},
		"address right after the colon":       {`{"errcode":61004,"errmsg":"access clientip is not registered requestIP:203.0.113.7."}`, openapi.Refusal{Code: 61004, IP: addr("203.0.113.7")}},
		"address of 40164":                    {`{"errcode":40164,"errmsg":"invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist rid: 1-2-3"}`, openapi.Refusal{Code: 40164, IP: addr("203.0.113.7"), RID: "1-2-3"}},
		"address in IPv6":                     {`{"errcode":40164,"errmsg":"invalid ip 2001:DB8::1, not in whitelist"}`, openapi.Refusal{Code: 40164, IP: addr("2001:db8::1")}},
		"IPv4 written as IPv6":                {`{"errcode":40164,"errmsg":"invalid ip ::ffff:203.0.113.7, not in whitelist"}`, openapi.Refusal{Code: 40164, IP: addr("203.0.113.7")}},
		"no address given":                    {`{"errcode":61004,"errmsg":"access clientip is not registered"}`, openapi.Refusal{Code: 61004}},
		"an address in any other is left out": {`{"errcode":40013,"errmsg":"invalid 203.0.113.7"}`, openapi.Refusal{Code: 40013}},
	} {
		t.Run(name, func(t *testing.T) {
			test.want.Endpoint = endpoint
			got := refusal(t, test.answer)
			if diff := cmp.Diff(test.want, *got, cmpopts.IgnoreFields(openapi.Refusal{}, "Message"),
				cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
}

// The message is for the client that asked, unless it repeats what was sent.
func TestRefusalMessage(t *testing.T) {
	for answer, want := range map[string]string{
		`{"errcode":40013,"errmsg":"invalid \u0061ppid 无效 rid: 1-2-3"}`: "invalid appid 无效 rid: 1-2-3",
		`{"errcode":61005}`:                "",
		`{"errcode":61005,"errmsg":["x"]}`: `["x"]`,
		`{"errcode":40125,"errmsg":"` + appSecret.Reveal() + ` is invalid"}`: "withheld, it repeats the request",
	} {
		if got := refusal(t, answer).Message; got != want {
			t.Errorf("the message of %s is %q, want %q", answer, got, want)
		}
	}
}

func TestRefusalText(t *testing.T) {
	for want, r := range map[string]openapi.Refusal{
		"api_query_auth: errcode 61009":               {Endpoint: "api_query_auth", Code: 61009},
		"api_query_auth: errcode 40013 (rid 1-2-abc)": {Endpoint: "api_query_auth", Code: 40013, RID: "1-2-abc"},
	} {
		if r.Error() != want {
			t.Errorf("text is %q, want %q", r.Error(), want)
		}
	}
}

// TestKind is the classification of errcodes. A remedy is promised for all that
// an operator or an account's admin can mend.
func TestKind(t *testing.T) {
	const token, secretOnly = "api_authorizer_token", "api_component_token"
	for _, test := range []struct {
		kind     openapi.Kind
		endpoint string
		codes    []int
		remedy   string // a part of it, "" for none at all
	}{
		{openapi.TokenDead, token, []int{40001, 40014, 42001, 42006}, ""},
		{openapi.Withdrawn, token, []int{61003}, "authorise the platform again"},
		{openapi.RefreshDead, token, []int{61023, 42007}, "authorise the platform again"},
		{openapi.TicketBad, secretOnly, []int{61005, 61006}, "pushes"},
		{openapi.CodeSpent, token, []int{61009, 61010}, "authorise the platform again"},
		{openapi.Misconfigured, secretOnly, []int{40001, 40125, 41004}, "app_secret"},
		{openapi.Misconfigured, secretOnly, []int{40013, 41002, 41018, 61011}, "appid"},
		{openapi.Misconfigured, secretOnly, []int{61004, 40164, 45035, 89501, 89503, 89506, 89507}, "IP white list"},
		{openapi.Misconfigured, token, []int{61014, 61015, 61024, 41001, 41021}, "fault of the gateway"},
		{openapi.Misconfigured, token, []int{61028, 61029}, "publish"},
		{openapi.Quota, token, []int{45009}, "quota"},
		{openapi.Busy, token, []int{-1, 45011}, ""},
		{openapi.Other, token, []int{1, 89500, 89508, 48001, 61007, 99999}, ""},
	} {
		for _, code := range test.codes {
			r := &openapi.Refusal{Endpoint: test.endpoint, Code: code}
			if r.Kind() != test.kind {
				t.Errorf("%v is of kind %d, want %d", r, r.Kind(), test.kind)
			}
			if remedy := r.Remedy(); !strings.Contains(remedy, test.remedy) || (test.remedy == "") != (remedy == "") {
				t.Errorf("%v has remedy %q, want %q", r, remedy, test.remedy)
			}
		}
	}
}

// Only api_get_authorizer_info tells whether an account is the component's.
func TestSaysForeign(t *testing.T) {
	refusal := func(endpoint string, code int) error { return &openapi.Refusal{Endpoint: endpoint, Code: code} }
	for _, test := range []struct {
		err  error
		want bool
	}{
		{refusal(openapi.EndpointAuthorizerInfo, 61003), true},
		{refusal(openapi.EndpointAuthorizerInfo, 40013), true},
		{fmt.Errorf("asking: %w", refusal(openapi.EndpointAuthorizerInfo, 61003)), true},
		{refusal(openapi.EndpointAuthorizerInfo, 45009), false},
		{refusal(openapi.EndpointComponentToken, 40013), false},
		{refusal(openapi.EndpointAuthorizerToken, 61003), false},
		{errors.New("no answer"), false},
		{nil, false},
	} {
		if got := openapi.SaysForeign(test.err); got != test.want {
			t.Errorf("%v: %v, want %v", test.err, got, test.want)
		}
	}
}

func TestRemedyField(t *testing.T) {
	for _, test := range []struct {
		err    error
		remedy any
	}{
		{fmt.Errorf("asking: %w", &openapi.Refusal{Endpoint: openapi.EndpointAuthorizerInfo, Code: 61029}), "publish the platform again in the WeChat Open Platform console (全网发布)"},
		{&openapi.Refusal{Code: -1}, nil},
		{errors.New("no answer"), nil},
		{nil, nil},
	} {
		fields := zapcore.NewMapObjectEncoder()
		openapi.RemedyField(test.err).AddTo(fields)
		if got := fields.Fields["remedy"]; got != test.remedy || test.remedy == nil && len(fields.Fields) > 0 {
			t.Errorf("%v: %v, want %v", test.err, fields.Fields, test.remedy)
		}
	}
}

func TestRemedyNamesTheAddressForTheWhiteList(t *testing.T) {
	r := refusal(t, `{"errcode":61004,"errmsg":"access clientip is not registered requestIP: 203.0.113.7"}`)
	if !strings.Contains(r.Remedy(), "203.0.113.7") {
		t.Errorf("remedy is %q", r.Remedy())
	}
}
