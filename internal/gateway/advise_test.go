// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-wechat/caddy-wechat/internal/advice"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/permission"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Whose list, quota or permission it is follows from the token with which WeChat was
// called: for the gateway's own calls that of the component, except where the endpoint is
// a path.
func TestHintNamesWhoseCallItWas(t *testing.T) {
	account := subject.Of(benchComponent, benchAuthorizer)
	for name, row := range map[string]struct {
		who     subject.Subject
		code    int
		refused *openapi.Refusal
		hint    string
	}{
		"an account's call":             {account, 45009, nil, "the account's own daily quota"},
		"a component's call":            {subject.Of(benchComponent, ""), 45009, nil, "the third-party platform's daily quota"},
		"a renewal for an account":      {account, 0, &openapi.Refusal{Endpoint: openapi.EndpointAuthorizerToken, Code: 45009}, "the third-party platform's daily quota"},
		"a shared ticket of an account": {account, 0, &openapi.Refusal{Endpoint: openapi.EndpointSharedTicket + "?type=jsapi", Code: 45009}, "the account's own daily quota"},
		"an end user's call":            {"", 45009, nil, ""},
		"a success":                     {account, 0, nil, ""},
		"another refusal":               {account, 40003, nil, ""},
	} {
		core, logs := observer.New(zap.WarnLevel)
		g := &Gateway{Advisor: advice.NewAdvisor(), Log: zap.New(core)}
		w := httptest.NewRecorder()
		call := &relay.Call{Subject: row.who, Path: "/cgi-bin/user/get", Report: relay.Report{Errcode: row.code}}
		g.Hint(w, call, row.refused)
		got := w.Header().Get(openapi.HintHeader)
		if !strings.HasPrefix(got, row.hint) || row.hint == "" && got != "" {
			t.Errorf("%s: the hint is %q, want %q", name, got, row.hint)
		}
		noted, _ := g.Advisor.Last(row.who)
		if said := row.hint != ""; logs.Len() > 0 != said || noted.Hint != got {
			t.Errorf("%s: %d lines in the log, and noted is %q", name, logs.Len(), noted.Hint)
		}
	}
}

// What WeChat refuses to the whole component, whosever call has met it, is noted about the
// component; what is an account's own is not.
func TestHintNotesWhatConcernsTheComponent(t *testing.T) {
	account, component := subject.Of(benchComponent, benchAuthorizer), subject.Of(benchComponent, "")
	for code, row := range map[int]struct {
		refused *openapi.Refusal
		noted   bool
	}{
		61004: {nil, true}, 40164: {nil, false}, 45009: {nil, false}, 48001: {nil, false},
		0: {&openapi.Refusal{Endpoint: openapi.EndpointAuthorizerToken, Code: 45009}, true},
	} {
		g := &Gateway{Advisor: advice.NewAdvisor(), Log: zap.NewNop()}
		g.Hint(httptest.NewRecorder(), &relay.Call{Subject: account, Path: "/cgi-bin/user/get", Report: relay.Report{Errcode: code}}, row.refused)
		if _, at := g.Advisor.Last(component); !at.IsZero() != row.noted {
			t.Errorf("errcode %d: noted about the component at %v", code, at)
		}
		if _, at := g.Advisor.Last(account); at.IsZero() {
			t.Errorf("errcode %d: nothing is noted about the account", code)
		}
	}
}

// A permission set is named only if it is known what the account has granted.
func TestHintNamesThePermissionSetWhereCertain(t *testing.T) {
	granted := permission.Of([]int{1})
	for name, row := range map[string]struct {
		sets func(subject.Subject) (permission.Bits, bool)
		want string
	}{
		"nobody knows":  {nil, "a permission set that this path needs"},
		"not known yet": {func(subject.Subject) (permission.Bits, bool) { return permission.Bits{}, false }, "a permission set that this path needs"},
		"known":         {func(subject.Subject) (permission.Bits, bool) { return granted, true }, "none of the permission sets of which this path needs one: 88"},
	} {
		g := &Gateway{Advisor: advice.NewAdvisor(), Log: zap.NewNop(), Sets: row.sets}
		w := httptest.NewRecorder()
		g.Hint(w, &relay.Call{Subject: subject.Of(benchComponent, benchAuthorizer), Path: "/wxa/generate_urllink", Report: relay.Report{Errcode: 61007}}, nil)
		if got := w.Header().Get(openapi.HintHeader); !strings.Contains(got, row.want) {
			t.Errorf("%s: the hint is %q, want %q", name, got, row.want)
		}
	}
}
