// SPDX-License-Identifier: Apache-2.0

package operate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// The JSON is a contract: what each kind of event, waiting or dead, looks like in it.
func TestTheListHasThisForm(t *testing.T) {
	w := newWorld(t)
	show := func() string {
		page, err := w.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(page)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got, want := show(), `{"items":[],"next":""}`; got != want {
		t.Errorf("the empty list is %s, want %s", got, want)
	}
	w.put("shop/main", 1, false)
	w.put("shop/main", 2, true)
	damaged := w.put("shop/main", 3, true)
	for file := range w.storage.Files() {
		if strings.Contains(file, damaged.ID) {
			w.storage.Put(file, []byte("{"))
		}
	}
	message := w.put("shop/log", 4, false)
	message.Kind, message.InfoType = "message", ""
	own := w.put("shop/log", 5, false)
	own.Kind, own.InfoType, own.Attempts, own.Failure = "own", "gateway_recovered", 0, ""
	if err := errors.Join(w.Settings.Vault.StoreEvent(t.Context(), message), w.Settings.Vault.StoreEvent(t.Context(), own)); err != nil {
		t.Fatal(err)
	}
	event := func(n int, state, target, more string) string {
		return `{"event_id":"` + id(n) + `","state":"` + state + `","client":"shop","target":"` + target + `","component":"` + component +
			`","appid":"` + account + `",` + more + `}`
	}
	want := `{"items":[` + strings.Join([]string{
		event(4, "waiting", "log", `"kind":"message","info_type":"","queued":"2026-11-30T12:04:00Z","due":"2026-11-30T12:04:01Z","attempts":2,"failure":"HTTP status 500"`),
		event(5, "waiting", "log", `"kind":"event","info_type":"gateway_recovered","queued":"2026-11-30T12:05:00Z","due":"2026-11-30T12:05:01Z","attempts":0,"failure":""`),
		event(1, "waiting", "main", `"kind":"event","info_type":"unauthorized","queued":"2026-11-30T12:01:00Z","due":"2026-11-30T12:01:01Z","attempts":2,"failure":"HTTP status 500"`),
		event(2, "dead", "main", `"kind":"event","info_type":"unauthorized","queued":"2026-11-30T12:02:00Z","attempts":2,"failure":"HTTP status 500"`),
		event(3, "dead", "main", `"kind":"","info_type":"","queued":"2026-11-30T12:03:00Z","attempts":0,"failure":"reading wechat/`+component+
			`/dead-events/shop/main/1796040180000000-`+account+`-`+id(3)+`.json: not a sealed record"`),
	}, ",") + `],"next":""}`
	if diff := cmp.Diff(want, show()); diff != "" {
		t.Error(diff)
	}
}

// Whatever the length of a page, the pages together are the list, and there is no
// page after the last event.
func TestPagesTogetherAreTheList(t *testing.T) {
	w := newWorld(t)
	want := []string{"waiting crm/main 6", "waiting shop/log 5", "waiting shop/main 1", "waiting shop/main 2", "dead crm/main 3", "dead shop/main 4"}
	for _, e := range want {
		part := strings.Fields(e)
		w.put(part[1], int(part[2][0]-'0'), part[0] == "dead")
	}
	for query, want := range map[string][]string{
		"": want, "state=waiting": want[:4], "state=dead": want[4:], "client=shop": {want[1], want[2], want[3], want[5]},
		"target=main&state=waiting": {want[0], want[2], want[3]}, "client=shop&target=log": want[1:2], "client=&target=&state=&cursor=&limit=": want,
		"client=crm&target=main&state=dead": want[4:5],
	} {
		for _, limit := range []int{1, 2, 3, 4, 5, 6, 7, 1000} {
			var got []string
			cursor, pages := "", 0
			for pages == 0 || cursor != "" {
				q := query
				if !strings.Contains(q, "limit=") {
					q += fmt.Sprintf("&limit=%d&cursor=%s", limit, cursor)
				}
				var events []string
				events, cursor = w.list(q)
				if n := len(events); n == 0 || n > limit && q != query || n < limit && cursor != "" {
					t.Fatalf("%s by %d: a page of %d", query, limit, n)
				}
				got, pages = append(got, events...), pages+1
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s by %d: %s", query, limit, diff)
			}
		}
	}
}

// A storage that is slow makes pages short, and not late: all together are the list.
func TestASlowStorageMakesShortPagesOfEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for n := range 100 {
			w.put("shop/main", n, n >= 60)
		}
		w.storage.Intercept(func(context.Context, vaulttest.Op, string) error { time.Sleep(100 * time.Millisecond); return nil })
		seen, pages := 0, 0
		for next := ""; pages == 0 || next != ""; pages++ {
			began := time.Now()
			var events []string
			events, next = w.list("limit=1000&cursor=" + next)
			if took := time.Since(began); took > 9*time.Second {
				t.Fatalf("a page after %v", took)
			}
			seen += len(events)
		}
		if seen != 100 || pages < 2 {
			t.Errorf("%d events on %d pages", seen, pages)
		}
	})
}

// Events of clients and targets that are gone are listed, and can be named.
func TestWhatIsGoneIsListed(t *testing.T) {
	w := newWorld(t)
	w.put("former/main", 1, false)
	w.put("shop/former", 2, true)
	for query, want := range map[string][]string{
		"": {"waiting former/main 1", "dead shop/former 2"}, "client=former": {"waiting former/main 1"}, "target=former": {"dead shop/former 2"},
	} {
		if got, _ := w.list(query); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", query, got, want)
		}
	}
}

// What is named is done, and nothing else.
func TestAnActionDoesWhatIsNamed(t *testing.T) {
	all := []string{"waiting crm/main 6", "waiting shop/log 5", "waiting shop/main 1", "waiting shop/main 2", "dead crm/main 3", "dead shop/main 4"}
	for query, want := range map[string][]string{ // what is deleted
		"all=true":                               all,
		"all=true&state=dead":                    all[4:],
		"client=shop":                            {all[1], all[2], all[3], all[5]},
		"client=shop&all=false":                  {all[1], all[2], all[3], all[5]},
		"client=shop&all=true":                   {all[1], all[2], all[3], all[5]},
		"client=shop&state=waiting":              all[1:4],
		"client=shop&target=main":                {all[2], all[3], all[5]},
		"target=log":                             all[1:2],
		"event_id=" + id(4):                      all[5:],
		"event_id=" + id(7):                      nil,
		"client=crm&event_id=" + id(4):           nil,
		"since=2026-11-30T12:05:00Z":             all[:2],
		"since=2026-11-30T20:05:00%2B08:00":      all[:2],
		"since=2026-11-30T20:05:00+08:00":        all[:2], // as curl sends it if nobody encodes it
		"since=2026-11-30T12:05:00.000001Z":      all[:1],
		"since=2026-11-30T12:02:00Z&target=main": {all[0], all[3], all[4], all[5]},
		"since=2126-01-01T00:00:00Z":             nil,
		"since=2026-11-30T12:02:00Z&client=shop&target=main&state=dead": all[5:],
	} {
		w := newWorld(t)
		for _, e := range all {
			part := strings.Fields(e)
			w.put(part[1], int(part[2][0]-'0'), part[0] == "dead")
		}
		count, err := w.Discard(t.Context(), query)
		if err != nil || count.Count != len(want) {
			t.Errorf("%s: %d (%v), want %d", query, count.Count, err, len(want))
		}
		left, _ := w.list("")
		if rest := slices.DeleteFunc(slices.Clone(all), func(e string) bool { return slices.Contains(want, e) }); !slices.Equal(left, rest) {
			t.Errorf("%s: left is %v, want %v", query, left, rest)
		}
	}
}

// Dead letters, and what waits for its time, are delivered at once.
func TestReplayDeliversAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Courier.Serve(w.Settings.Targets)
		w.put("shop/main", 1, true)
		w.put("shop/main", 2, false) // due in years: the clock begins in 2000
		time.Sleep(time.Minute)      // both are noticed
		if got := w.delivered(); got != nil {
			t.Fatalf("delivered before: %v", got)
		}
		count, err := w.Replay(t.Context(), "client=shop")
		if err != nil || count.Count != 2 {
			t.Fatalf("%+v, %v", count, err)
		}
		time.Sleep(time.Minute) // the queue may have to wait for its lock, and between two passes
		if left, _ := w.list(""); left != nil || !slices.Equal(w.delivered(), []string{"shop/main unauthorized", "shop/main unauthorized"}) {
			t.Errorf("delivered %v, left %v", w.delivered(), left)
		}
		w.Courier.Close()
	})
}

// Each target of a client says what it thinks of the test.
func TestATestTellsWhoTookIt(t *testing.T) {
	w := newWorld(t)
	for query, want := range map[string]int{"client=shop": 2, "client=shop&target=log": 1, "client=crm": 1} {
		if count, err := w.Test(t.Context(), query); err != nil || count.Count != want {
			t.Errorf("%s: %+v, %v, want %d", query, count, err, want)
		}
	}
	want := []string{"crm/main gateway_test", "shop/log gateway_test", "shop/log gateway_test", "shop/main gateway_test"}
	if got := slices.Sorted(slices.Values(w.delivered())); !slices.Equal(got, want) {
		t.Errorf("delivered %v, want %v", got, want)
	}
	w.down["shop/log"] = http.StatusForbidden
	_, err := w.Test(t.Context(), "client=shop")
	if told := refused(t, err); told.Status != http.StatusBadGateway || told.Remedy == "" ||
		!strings.Contains(told.Text, "client shop, target log: ") || !strings.Contains(told.Text, "403") || !strings.HasSuffix(told.Text, ": 1") {
		t.Errorf("%+v", told)
	}
	if left, _ := w.list(""); left != nil {
		t.Errorf("a test is queued: %v", left)
	}
}

func TestAStorageThatFailsIsNamed(t *testing.T) {
	w := newWorld(t)
	w.put("shop/main", 1, false)
	w.storage.Intercept(func(context.Context, vaulttest.Op, string) error { return errors.New("the disk is gone") })
	_, listed := w.List(t.Context(), "")
	_, named := w.List(t.Context(), "client=nobody")
	_, replayed := w.Replay(t.Context(), "all=true")
	_, deleted := w.Discard(t.Context(), "client=shop")
	for _, err := range []error{listed, named, replayed, deleted} {
		if told := refused(t, err); told.Status != http.StatusServiceUnavailable || !strings.Contains(told.Text, "the disk is gone") || told.Remedy == "" {
			t.Errorf("%+v", told)
		}
	}
}
