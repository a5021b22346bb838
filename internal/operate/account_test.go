// SPDX-License-Identifier: Apache-2.0

package operate_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/advice"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// All that is known of an account has a place: why it fails and since when, what to do
// about it, and what WeChat refused last. No token and no name of gh_ has one.
func TestTheViewOfAnAccountHasThisForm(t *testing.T) {
	f := newOffice(t)
	who := subject.Of(component, number(1))
	r := authorized()
	r.Trouble, r.TroubleSince = vault.RenewalsFail, start
	r.Code, r.CodeExpires = secret.New("CODE"), time.Now().Add(time.Hour)
	r.Note = vault.Note{Since: start, Slug: "refused", Errcode: 61004, RID: "1-2-3", Text: "api_authorizer_token: errcode 61004 (rid 1-2-3)", Remedy: "add 192.0.2.1"}
	f.store(number(1), r)
	f.grants(number(1))
	f.profile(number(1), vault.Profile{UserName: "gh_0123456789ab", Name: "示例", Principal: "示例公司", Kind: "official_account", Learned: start.Add(time.Minute)})
	f.engine.last[who] = tokens.Failure{Time: start.Add(time.Hour), Text: "said", Remedy: "do"}
	f.engine.cooling[who] = start.Add(61 * time.Minute)
	f.engine.unsaved = 1
	advised, ok := advice.Of(advice.Case{Errcode: 61004, Component: component, AppID: number(1), IP: netip.MustParseAddr("192.0.2.1"), Now: start})
	if !ok {
		t.Fatal("no advice")
	}
	f.Advisor.Note(who, advised, start.Add(2*time.Hour))
	detail, err := f.Account(t.Context(), number(1), "")
	got := marshal(t, detail, err)
	for _, want := range []string{
		`{"appid":"` + number(1) + `","name":"示例","kind":"official_account","state":"failing","token_expires":"2026-11-30T14:00:00Z",`,
		`"clients":["all","shop"],"component":"` + component + `","principal":"示例公司","token_obtained":"2026-11-30T12:00:00Z","learned":"2026-11-30T12:01:00Z",`,
		`"authorised":"2026-11-30T11:00:00Z","cooling_until":"2026-11-30T13:01:00Z","last_failure":{"time":"2026-11-30T13:00:00Z","text":"said","remedy":"do"},`,
		`"cause":{"since":"2026-11-30T12:00:00Z","slug":"refused","errcode":61004,"rid":"1-2-3","text":"api_authorizer_token: errcode 61004 (rid 1-2-3)","remedy":"add 192.0.2.1"}`,
		`"advice":{"time":"2026-11-30T14:00:00Z",`, `"unstored":true,"pending":true`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nis not in %s", want, got)
		}
	}
	for _, hidden := range []string{"TOKEN", "REFRESH", "CODE", "gh_"} {
		if strings.Contains(got, hidden) {
			t.Errorf("%s is shown in %s", hidden, got)
		}
	}
}

// What an account does not have is left out, and it is no trouble of a cause.
func TestTheViewOfAHealthyAccount(t *testing.T) {
	f := newOffice(t)
	f.store(number(1), authorized())
	detail, err := f.Account(t.Context(), number(1), "")
	got := marshal(t, detail, err)
	for _, missing := range []string{"cause", "last_failure", "cooling_until", "advice", "learned", "null"} {
		if strings.Contains(got, missing) {
			t.Errorf("%s is shown in %s", missing, got)
		}
	}
}

// An earlier release has noted no cause: then the record says what it knows.
func TestTheCauseWithoutANote(t *testing.T) {
	f := newOffice(t)
	f.store(number(1), vault.Record{State: vault.Unauthorized, EventTime: start})
	for file := range f.storage.Files() {
		if strings.Contains(file, "/states/") {
			if err := f.storage.Delete(t.Context(), file); err != nil {
				t.Fatal(err)
			}
		}
	}
	detail, err := f.Account(t.Context(), number(1), "")
	if err != nil || detail.Cause.Slug != "unauthorized" || !detail.Cause.Since.Equal(start) {
		t.Errorf("%v, %+v", err, detail.Cause)
	}
}

// Renew and reread answer with the account as it is afterwards, forget with a count.
func TestActionsAnswerHowItIsAfterwards(t *testing.T) {
	f := newOffice(t)
	broken := authorized()
	broken.Trouble, broken.TroubleSince = vault.RenewalsFail, start
	f.store(number(1), broken)
	f.engine.onRenew = func(subject.Subject) {
		renewed := authorized()
		renewed.Generation = 10
		f.store(number(1), renewed)
	}
	for name, do := range map[string]func(context.Context, string, string) (string, error){
		"renew": func(ctx context.Context, id, q string) (string, error) {
			a, err := f.Renew(ctx, id, q)
			return a.State, err
		},
		"reread": func(ctx context.Context, id, q string) (string, error) {
			a, err := f.Reread(ctx, id, q)
			return a.State, err
		},
	} {
		state, err := do(t.Context(), number(1), "component="+component)
		if err != nil || state != "authorized" {
			t.Errorf("%s: %v, %q", name, err, state)
		}
	}
	f.engine.onRenew = nil
	if n, err := f.Forget(t.Context(), number(1), ""); err != nil || n.Count != 1 {
		t.Errorf("forget: %v, %v", n, err)
	}
	if want := "[renew reread forget]"; len(f.engine.did) != 3 {
		t.Errorf("the engine has done %v, want %s", f.engine.did, want)
	}
}

// Whatever goes wrong with an action has a status of its own and a remedy, and nothing
// of WeChat's errmsg in it.
func TestActionsThatFailSayWhatToDo(t *testing.T) {
	f := newOffice(t)
	f.store(number(1), authorized())
	refusal := &openapi.Refusal{Endpoint: "api_authorizer_token", Code: 61004, RID: "1-2-3", IP: netip.MustParseAddr("192.0.2.1"), Message: "SECRET invalid ip"}
	for _, row := range []struct {
		err    error
		status int
		want   string
	}{
		{tokens.ErrAuthorized, 409, "withdraws the authorisation"},
		{problem.ErrUnauthorized, 409, "launch page"},
		{fmt.Errorf("%w: %w", problem.ErrNeedsAdmin, refusal), 409, "launch page"},
		{refusal, 502, "192.0.2.1"},
		{&openapi.Refusal{Endpoint: "api_authorizer_token", Code: -1, Message: "SECRET"}, 502, "errcode -1"},
		{&openapi.Outage{Endpoint: "api_authorizer_token", Err: errors.New("connection reset")}, 502, "cannot be reached"},
		{problem.ErrNoTicket, 503, "events URL"},
		{problem.ErrNoComponent, 503, "caddy wechat status"},
		{fmt.Errorf("storing: %w", vault.ErrUnavailable), 503, "storage"},
		{problem.ErrStorage, 503, "storage"},
		{context.DeadlineExceeded, 504, "did not answer in time"},
		{fmt.Errorf("loading: %w", vault.ErrNotFound), 404, "is not known"},
	} {
		f.engine.err = row.err
		for name, do := range map[string]func() error{
			"renew":  func() error { _, err := f.Renew(t.Context(), number(1), ""); return err },
			"reread": func() error { _, err := f.Reread(t.Context(), number(1), ""); return err },
			"forget": func() error { _, err := f.Forget(t.Context(), number(1), ""); return err },
		} {
			told := refused(t, do())
			if told.Status != row.status || told.Remedy == "" || !strings.Contains(told.Error(), row.want) || strings.Contains(told.Error(), "SECRET") {
				t.Errorf("%s, %v: %d %q %q, want %d and %q", name, row.err, told.Status, told.Text, told.Remedy, row.status, row.want)
			}
		}
	}
}
