// SPDX-License-Identifier: Apache-2.0

package operate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

func marshal(t *testing.T, answer any, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The JSON is a contract, and an empty list is a list.
func TestTheAccountsHaveThisForm(t *testing.T) {
	f := newOffice(t)
	page, err := f.Accounts(t.Context(), "")
	if got, want := marshal(t, page, err), `{"items":[],"next":""}`; got != want {
		t.Errorf("the empty list is %s, want %s", got, want)
	}
	f.store(number(1), authorized())
	f.profile(number(1), vault.Profile{Name: "示例商店", Principal: "示例公司", Kind: "mini_program", Functions: []int{3}, Learned: start.Add(-2 * time.Hour)})
	f.store(number(2), vault.Record{State: vault.Unauthorized, EventTime: start})
	page, err = f.Accounts(t.Context(), "")
	want := `{"items":[{"appid":"` + number(1) + `","name":"示例商店","kind":"mini_program","state":"authorized","token_expires":"2026-11-30T14:00:00Z",` +
		`"permissions":[{"id":1,"name":"消息管理"},{"id":99999,"name":""}],"clients":["all"]},` +
		`{"appid":"` + number(2) + `","name":"","kind":"","state":"unauthorized","permissions":[],"clients":["all"]}],"next":""}`
	if got := marshal(t, page, err); got != want {
		t.Errorf("the list is\n%s, want\n%s", got, want)
	}
}

// What the account has granted is what was learnt last, from an event or from WeChat's
// answer, and is named in the language that is asked for.
func TestPermissionsAreThoseThatWereLearntLast(t *testing.T) {
	f := newOffice(t)
	f.store(number(1), authorized())
	f.profile(number(1), vault.Profile{Functions: []int{1}, Learned: start})
	names := func(query string) (names []string) {
		page, err := f.Accounts(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Items[0].Permissions {
			names = append(names, fmt.Sprint(p.ID, " ", p.Name))
		}
		return names
	}
	zh, en := names(""), names("lang=en")
	if len(zh) != 1 || len(en) != 1 || !strings.HasPrefix(zh[0], "1 ") || zh[0] == en[0] || en[0] == "1 " {
		t.Errorf("permissions are %q and %q", zh, en)
	}
}

// pages returns the appids of all pages, and how many there are.
func (f *office) pages(query string) (appids []string, pages int) {
	f.t.Helper()
	for cursor := ""; ; {
		page, err := f.Accounts(f.t.Context(), query+"&cursor="+cursor)
		if err != nil {
			f.t.Fatalf("%s: %v", query, err)
		}
		pages++
		for _, a := range page.Items {
			appids = append(appids, a.AppID)
		}
		if cursor = page.Next; cursor == "" {
			return appids, pages
		}
		if pages > 10_000 {
			f.t.Fatalf("%s: no end", query)
		}
	}
}

// populate makes 300 accounts: each third has withdrawn, each 50th fails, each 60th
// needs its admin. It returns the appids by state.
func (f *office) populate() map[vault.Standing][]string {
	f.t.Helper()
	by := make(map[vault.Standing][]string)
	for n := range 300 {
		r := authorized()
		switch {
		case n%60 == 1:
			r.Trouble, r.TroubleSince = vault.NeedsAuthorization, start
		case n%50 == 2:
			r.Trouble, r.TroubleSince = vault.RenewalsFail, start
		case n%3 == 0:
			r = vault.Record{State: vault.Unauthorized, EventTime: start}
		}
		appid := number(n)
		f.store(appid, r)
		by[""] = append(by[""], appid)
		by[r.Standing()] = append(by[r.Standing()], appid)
		f.profile(appid, vault.Profile{Name: fmt.Sprintf("Shop %d", n%7), Kind: "other", Learned: start})
	}
	for _, appids := range by {
		operate.Sort(appids)
	}
	return by
}

// Each list, cut into pages of any length, has each account once.
func TestPagesOfAccountsMakeTheWholeList(t *testing.T) {
	f := newOffice(t)
	by := f.populate()
	mine := []string{number(1), number(2), number(3), number(250), number(999)} // the last one has no record
	f.grants(mine...)
	mine = slices.DeleteFunc(slices.Clone(mine), func(appid string) bool { return appid == number(999) })
	operate.Sort(mine)
	named := slices.DeleteFunc(slices.Clone(by[""]), func(appid string) bool {
		var n int
		_, _ = fmt.Sscanf(appid, "wx%x", &n)
		return n%7 != 3
	})
	for query, want := range map[string][]string{
		"": by[""], "state=authorized": by[vault.Stands], "state=unauthorized": by[vault.Withdrawn],
		"state=needs_authorization": by[vault.NeedsAdmin], "state=failing": by[vault.Failing],
		"client=all": by[""], "client=all&state=failing": by[vault.Failing], "client=shop": mine, "client=shop&state=needs_authorization": {number(1)},
		"client=none": nil, "q=shop%203": named, "q=SHOP%203": named, "q=hop": nil, "q=" + number(7): {number(7)}, "q=" + number(999): nil,
		"q=" + number(7) + "&state=failing": nil, "q=" + number(7) + "&client=shop": nil, "q=" + number(2) + "&client=shop": {number(2)},
	} {
		for _, limit := range []int{1, 7, 50, 1000} {
			got, pages := f.pages(fmt.Sprintf("%s&limit=%d", query, limit))
			if !slices.Equal(got, want) {
				t.Errorf("%s, in pages of %d: %v, want %v", query, limit, got, want)
			}
			if limit == 1000 && pages != 1 {
				t.Errorf("%s: %d pages of up to 1000", query, pages)
			}
		}
	}
	if len(f.census.wrong) > 0 {
		t.Errorf("the census is told that it is wrong: %v", f.census.wrong)
	}
}

// A page costs the same among few accounts and among many: at most two reads for each
// account that it shows, and four more.
func TestAPageCostsTheSameAmongManyAccounts(t *testing.T) {
	for _, accounts := range []int{100, 100_000} {
		f := newOffice(t)
		for n := range accounts {
			f.census.all = append(f.census.all, number(n))
		}
		operate.Sort(f.census.all)
		wrong := authorized()
		wrong.Trouble, wrong.TroubleSince = vault.RenewalsFail, start
		for _, appid := range f.census.all[:60] {
			r := authorized()
			if n := len(f.census.noted[vault.Failing]); n < 55 {
				r = wrong
				f.census.note(appid, vault.Failing)
			}
			if _, err := f.Vault.Store(t.Context(), subject.Of(component, appid), r); err != nil {
				t.Fatal(err)
			}
		}
		for _, query := range []string{"", "state=failing", "client=all", "lang=en"} {
			before := f.storage.Count(vaulttest.Load)
			page, err := f.Accounts(t.Context(), query)
			if loads := f.storage.Count(vaulttest.Load) - before; err != nil || len(page.Items) != 50 || page.Next == "" || loads > 2*50+4 {
				t.Errorf("among %d, %q: %v, %d accounts with %d loads", accounts, query, err, len(page.Items), loads)
			}
		}
		if n := f.storage.Count(vaulttest.List); n > 0 {
			t.Errorf("among %d: storage is listed %d times", accounts, n)
		}
	}
}

// Looking for a name ends after a thousand accounts: the page is short, and the next one
// goes on there.
func TestLookingForANameIsDoneInParts(t *testing.T) {
	f := newOffice(t)
	for n := range 2500 {
		f.census.all = append(f.census.all, number(n))
	}
	operate.Sort(f.census.all)
	last := f.census.all[2400]
	f.store(last, authorized())
	f.profile(last, vault.Profile{Name: "Zoo", Learned: start})
	before := f.storage.Count(vaulttest.Load)
	page, err := f.Accounts(t.Context(), "q=zo")
	if loads := f.storage.Count(vaulttest.Load) - before; err != nil || len(page.Items) != 0 || page.Next == "" || loads > 1000 {
		t.Errorf("%v, %d accounts, next %q, %d loads", err, len(page.Items), page.Next, loads)
	}
	if got, pages := f.pages("q=zo"); !slices.Equal(got, []string{last}) || pages != 3 {
		t.Errorf("%v in %d pages", got, pages)
	}
}

// The record is the truth: an entry of an index that does not fit it is left out, and
// A storage that is slow makes pages short, and not late: all together are the list.
func TestASlowStorageMakesShortPages(t *testing.T) {
	for _, query := range []string{"q=nobody", "limit=1000", "state=authorized&limit=1000"} {
		synctest.Test(t, func(t *testing.T) {
			f := newOffice(t)
			var all []string
			for n := range 1000 {
				f.census.add(number(n), vault.Stands)
				all = append(all, number(n))
			}
			f.store(number(0), authorized())
			record := slices.Collect(maps.Values(f.storage.Files()))[0]
			for _, appid := range all {
				f.storage.Put("wechat/"+component+"/authorizers/"+appid[16:]+"/"+appid+".json", record) // it does not open
			}
			f.storage.Intercept(func(context.Context, vaulttest.Op, string) error { time.Sleep(100 * time.Millisecond); return nil })
			began, seen, pages := time.Now(), 0, 0
			for cursor := ""; pages == 0 || cursor != ""; pages++ {
				page, err := f.Accounts(t.Context(), query+"&cursor="+cursor)
				if took := time.Since(began); err != nil || took > 9*time.Second {
					t.Fatalf("%s: a page after %v, %v", query, took, err)
				}
				began, cursor, seen = time.Now(), page.Next, seen+len(page.Items)
			}
			if pages < 2 || query == "limit=1000" && seen != 1000 {
				t.Errorf("%s: %d accounts on %d pages", query, seen, pages)
			}
		})
	}
}

// repaired.
func TestStaleEntriesOfTheIndexAreNotShown(t *testing.T) {
	f := newOffice(t)
	f.store(number(1), authorized())
	f.census.note(number(1), vault.Failing) // it works again
	f.census.note(number(2), vault.Failing) // it is gone
	f.census.all = append(f.census.all, number(2))
	if got, _ := f.pages("state=failing"); len(got) != 0 {
		t.Errorf("shown as failing: %v", got)
	}
	slices.Sort(f.census.wrong)
	if want := []string{number(1) + " failing", number(2) + " failing"}; !slices.Equal(f.census.wrong, want) {
		t.Errorf("the census is told %v, want %v", f.census.wrong, want)
	}
	f.census.wrong = nil
	if got, _ := f.pages(""); !slices.Equal(got, []string{number(1)}) {
		t.Errorf("all: %v", got)
	}
	if want := []string{number(2) + " authorized"}; !slices.Equal(f.census.wrong, want) {
		t.Errorf("the census is told %v, want %v", f.census.wrong, want)
	}
}

// An account whose record does not open is shown, for somebody must look after it.
func TestAnAccountThatDoesNotOpenIsShownAsFailing(t *testing.T) {
	f := newOffice(t)
	f.store(number(1), authorized())
	for file := range f.storage.Files() {
		if strings.Contains(file, number(1)) {
			f.storage.Put(file, []byte("{"))
		}
	}
	page, err := f.Accounts(t.Context(), "")
	if err != nil || len(page.Items) != 1 || page.Items[0].State != "failing" {
		t.Errorf("%v, %+v", err, page)
	}
	detail, err := f.Account(t.Context(), number(1), "")
	if err != nil || detail.State != "failing" || !strings.Contains(detail.Cause.Text, "does not open") || detail.Cause.Remedy == "" {
		t.Errorf("%v, %+v", err, detail)
	}
}

// Two components have accounts of their own; the client says which one is meant.
func TestTheClientNamesTheComponent(t *testing.T) {
	f := newOffice(t)
	f.Components = []string{component, component2}
	f.store(number(1), authorized())
	if got, _ := f.pages("client=all"); !slices.Equal(got, []string{number(1)}) {
		t.Errorf("of client all: %v", got)
	}
	if got, _ := f.pages("client=other"); len(got) != 0 {
		t.Errorf("of client other: %v", got)
	}
}

// A storage that fails is no empty list.
func TestAccountsNeedTheStorage(t *testing.T) {
	f := newOffice(t)
	f.store(number(1), authorized())
	f.storage.Intercept(func(context.Context, vaulttest.Op, string) error { return fmt.Errorf("disk full") })
	for _, query := range []string{"", "q=" + number(1), "q=a"} {
		_, err := f.Accounts(t.Context(), query)
		if told := refused(t, err); told.Status != 503 || told.Remedy == "" {
			t.Errorf("%q: %+v", query, told)
		}
	}
	_, err := f.Account(t.Context(), number(1), "")
	if told := refused(t, err); told.Status != 503 {
		t.Errorf("%+v", told)
	}
	f.storage.Intercept(nil)
	f.census.err = fmt.Errorf("listing: %w", vault.ErrUnavailable)
	_, err = f.Accounts(t.Context(), "")
	if told := refused(t, err); told.Status != 503 {
		t.Errorf("%+v", told)
	}
}
