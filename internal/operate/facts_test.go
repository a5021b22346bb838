// SPDX-License-Identifier: Apache-2.0

package operate_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

func TestTheLastPushesHaveThisForm(t *testing.T) {
	f := newOffice(t)
	page, err := f.Recent(t.Context(), "")
	if got, want := marshal(t, page, err), `{"node":"node-a","since":"2026-11-30T12:00:00Z","items":[],"next":""}`; got != want {
		t.Errorf("before the first push: %s, want %s", got, want)
	}
	f.Pushes.Add(pushlog.Push{
		Time: start, At: "messages", Component: component, AppID: account, What: "event/CLICK", Outcome: pushlog.Acknowledged, Status: 200,
		Took: 1234567 * time.Nanosecond, Remote: "192.0.2.7", Genuine: true,
	})
	f.Pushes.Add(pushlog.Push{Time: start.Add(time.Second), At: "events", Outcome: pushlog.Refused, Reason: "signature does not match", Status: 403, Remote: "2001:db8::1"})
	page, err = f.Recent(t.Context(), "")
	want := `{"node":"node-a","since":"2026-11-30T12:00:00Z","items":[` +
		`{"time":"2026-11-30T12:00:01Z","at":"events","component":"","appid":"","what":"","outcome":"refused","reason":"signature does not match","status":403,"took_ms":0,"remote":"2001:db8::1","genuine":false,"previous":false},` +
		`{"time":"2026-11-30T12:00:00Z","at":"messages","component":"` + component + `","appid":"` + account + `","what":"event/CLICK","outcome":"acknowledged","reason":"","status":200,"took_ms":1.23,"remote":"192.0.2.7","genuine":true,"previous":false}],"next":""}`
	if got := marshal(t, page, err); got != want {
		t.Errorf("the pushes are\n%s, want\n%s", got, want)
	}
}

func TestPushesAreFiltered(t *testing.T) {
	f := newOffice(t)
	for n := range 200 {
		p := pushlog.Push{Time: start.Add(time.Duration(n) * time.Second), Component: component, AppID: number(n % 2), Outcome: pushlog.Acknowledged, Genuine: true}
		if n%10 == 0 {
			p.Outcome = pushlog.Misdirected
		}
		f.Pushes.Add(p)
	}
	for query, want := range map[string]int{
		"": 100, "limit=1000": 200, "limit=1": 1, "appid=" + number(1) + "&limit=1000": 100, "outcome=misdirected": 20, "outcome=refused": 0,
		"component=" + component: 100, "outcome=misdirected&appid=" + number(1): 0,
	} {
		page, err := f.Recent(t.Context(), query)
		if err != nil || len(page.Items) != want {
			t.Errorf("%q: %v, %d pushes, want %d", query, err, len(page.Items), want)
		}
	}
}

func TestTheUsageHasThisForm(t *testing.T) {
	f := newOffice(t)
	page, err := f.Calls(t.Context(), "")
	if got := marshal(t, page, err); !strings.HasSuffix(got, `"lost":0,"items":[],"next":""}`) || !strings.HasPrefix(got, `{"node":"node-a","since":"`) {
		t.Errorf("before the first call: %s", got)
	}
	f.Usage.Count("shop", account, "/cgi-bin/user/info/batchget", 0, false, 100)
	f.Usage.Count("shop", account, "/cgi-bin/user/info", 0, false, 11)
	f.Usage.Count("shop", number(1), "/cgi-bin/user/info", 45009, false, 7)
	f.Usage.Count("former", account, "/cgi-bin/user/info", 42001, true, 7)
	for query, want := range map[string]string{
		"":                    "shop " + account + " 0 false 2 111, ",
		"client=shop":         "shop " + account + " 0 false 2 111, shop " + number(1) + " 45009 false 1 7",
		"client=former":       "former " + account + " 42001 true 1 7", // it was taken out of the configuration
		"client=none":         "",
		"client=all":          "",
		"appid=" + number(1):  "shop " + number(1) + " 45009 false 1 7",
		"limit=1":             "shop " + account + " 0 false 2 111",
		"client=shop&limit=1": "shop " + account + " 0 false 2 111",
	} {
		page, err := f.Calls(t.Context(), query)
		if err != nil || page.Items == nil {
			t.Fatalf("%q: %v, %v", query, err, page)
		}
		var rows []string
		for _, r := range page.Items {
			rows = append(rows, fmt.Sprint(r.Client, " ", r.AppID, " ", r.Errcode, " ", r.Own, " ", r.Calls, " ", r.Bytes))
		}
		if got := strings.Join(rows, ", "); got != want && (query != "" || !strings.HasPrefix(got, want)) {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
	}
}

// A page says what was new, and where the next one begins; an empty page is the last.
func TestSyncSaysWhatWasNew(t *testing.T) {
	f := newOffice(t)
	for _, row := range []struct {
		query  string
		synced tokens.Synced
		want   string
	}{
		{"", tokens.Synced{Listed: 500, New: 3, Restored: 2, Total: 1234}, `{"component":"` + component + `","next":500,"total":1234,"new":3,"restored":2}`},
		{"offset=1000", tokens.Synced{Listed: 234, Total: 1234}, `{"component":"` + component + `","next":1234,"total":1234,"new":0,"restored":0}`},
		{"offset=1000&component=" + component, tokens.Synced{Total: 1234}, `{"component":"` + component + `","next":1234,"total":1234,"new":0,"restored":0}`},
	} {
		f.engine.synced = row.synced
		page, err := f.Sync(t.Context(), row.query)
		if got := marshal(t, page, err); got != row.want {
			t.Errorf("%q: %s, want %s", row.query, got, row.want)
		}
	}
}

func TestResealSaysWhatDoesNotOpen(t *testing.T) {
	f := newOffice(t)
	f.storage.Put("wechat/"+component+"/ticket.json", []byte("{"))
	page, err := f.Reseal(t.Context(), "")
	if got, want := marshal(t, page, err), `{"component":"`+component+`","next":1,"total":257,"resealed":0,"unreadable":["wechat/`+component+`/ticket.json"]}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	page, err = f.Reseal(t.Context(), "offset=256")
	if got, want := marshal(t, page, err), `{"component":"`+component+`","next":257,"total":257,"resealed":0,"unreadable":[]}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
