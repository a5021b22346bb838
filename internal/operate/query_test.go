// SPDX-License-Identifier: Apache-2.0

package operate_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
)

// What cannot be meant is refused with what to do, and nothing is done.
func TestMistakesAreNamedWithTheirRemedy(t *testing.T) {
	w := newWorld(t)
	w.put("shop/main", 1, false)
	w.put("former/main", 2, true)
	list := func(ctx context.Context, query string) error { _, err := w.List(ctx, query); return err }
	replay := func(ctx context.Context, query string) error { _, err := w.Replay(ctx, query); return err }
	discard := func(ctx context.Context, query string) error { _, err := w.Discard(ctx, query); return err }
	test := func(ctx context.Context, query string) error { _, err := w.Test(ctx, query); return err }
	const bad, missing = http.StatusBadRequest, http.StatusNotFound
	for _, row := range []struct {
		name   string
		do     func(context.Context, string) error
		query  string
		status int
		want   string // in the text or the remedy
	}{
		{"list", list, "limit=0", bad, "1 to 1000"},
		{"list", list, "limit=-1", bad, "1 to 1000"},
		{"list", list, "limit=1001", bad, "1 to 1000"},
		{"list", list, "limit=1000000000", bad, "1 to 1000"},
		{"list", list, "limit=99999999999999999999", bad, "1 to 1000"},
		{"list", list, "limit=x", bad, "1 to 1000"},
		{"list", list, "limit=1e2", bad, "1 to 1000"},
		{"list", list, "limit=%201", bad, "1 to 1000"},
		{"list", list, "state=alive", bad, "waiting or dead"},
		{"list", list, "state=Dead", bad, "waiting or dead"},
		{"list", list, "cursor=x", bad, "without a cursor"},
		{"list", list, "cursor=waiting.!", bad, "without a cursor"},
		{"list", list, "cursor=waiting.Li4vLi4vLi4", bad, "without a cursor"},
		{"list", list, "cursor=dead.&state=waiting", bad, "same state"},
		{"list", list, "colour=red", bad, "client, target, state, cursor, limit"},
		{"list", list, "Client=shop", bad, "client, target"},
		{"list", list, "client=shop&client=crm", bad, "2 times"},
		{"list", list, "client=%zz", bad, "encode"},
		{"list", list, "client=shop;target=main", bad, "encode"},
		{"list", list, "client=shopp", missing, "crm, former, shop"},
		{"list", list, "client=../shop", missing, "crm, former, shop"},
		{"list", list, "client=shop&target=mian", missing, "log, main"},
		{"list", list, "target=mian", missing, "log, main"},
		{"list", list, "client=crm&target=log", missing, "known are: main"},

		{"discard", discard, "", bad, "all=true"},
		{"discard", discard, "state=dead", bad, "all=true"},
		{"discard", discard, "all=false", bad, "all=true"},
		{"discard", discard, "all=yes", bad, "write true"},
		{"discard", discard, "all=", bad, "leave it out"},
		{"discard", discard, "client=&since=2026-11-30T12:00:00Z", bad, "client is empty"},
		{"discard", discard, "client=shop&target=", bad, "target is empty"},
		{"discard", discard, "client=shop&since=", bad, "since is empty"},
		{"discard", discard, "client=shop&state=", bad, "state is empty"},
		{"discard", discard, "since=yesterday", bad, "RFC 3339"},
		{"discard", discard, "since=2026-11-30", bad, "RFC 3339"},
		{"discard", discard, "since=2026-11-30T12:00:00", bad, "RFC 3339"},
		{"discard", discard, "since=1796040000", bad, "RFC 3339"},
		{"discard", discard, "event_id=1", bad, "32 characters"},
		{"discard", discard, "event_id=" + strings.ToUpper(id(10)), bad, "32 characters"},
		{"discard", discard, "client=shop&limit=1", bad, "event_id"},
		{"discard", discard, "client=shop&evnt_id=" + id(1), bad, "event_id"},
		{"discard", discard, "client=shop&client=crm", bad, "2 times"},
		{"discard", discard, "client=shop&target=%", bad, "encode"},
		{"discard", discard, "client=shopp", missing, "crm, former, shop"},
		{"discard", discard, "client=shop&target=mian&all=true", missing, "log, main"},
		{"replay", replay, "", bad, "all=true"},
		{"replay", replay, "client=shopp", missing, "crm, former, shop"},

		{"test", test, "", bad, "name the client"},
		{"test", test, "target=main", bad, "name the client"},
		{"test", test, "client=", bad, "client is empty"},
		{"test", test, "client=shop&all=true", bad, "use client, target"},
		{"test", test, "client=former", missing, "crm, shop"}, // it has no address any more
		{"test", test, "client=shop&target=mian", missing, "log, main"},
	} {
		t.Run(row.name+"?"+row.query, func(t *testing.T) {
			told := refused(t, row.do(t.Context(), row.query))
			if told.Status != row.status || told.Text == "" || told.Remedy == "" || !strings.Contains(told.Error(), row.want) {
				t.Errorf("%d %q, %q, want %d and %q", told.Status, told.Text, told.Remedy, row.status, row.want)
			}
		})
	}
	if left, _ := w.list(""); len(left) != 2 || w.delivered() != nil {
		t.Errorf("left are %v, delivered %v", left, w.delivered())
	}
}

// A gateway without any target says what is missing.
func TestNoTargetAtAllIsNamed(t *testing.T) {
	w := newWorld(t)
	clear(w.Settings.Targets)
	for _, query := range []string{"client=shop", "target=main"} {
		_, err := w.List(t.Context(), query)
		if told := refused(t, err); told.Status != http.StatusNotFound || !strings.Contains(told.Remedy, "deliver") {
			t.Errorf("%+v", told)
		}
	}
	if page, err := w.List(t.Context(), ""); err != nil || page.Items == nil || len(page.Items) != 0 {
		t.Errorf("%+v, %v", page, err)
	}
}
