// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// What an operator reads, in a wide and in a narrow terminal.
func TestTheTableIsReadable(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	event := func(state, what, kind string, age, due time.Duration, attempts int, failure string) operate.Event {
		e := operate.Event{EventID: strings.Repeat("0123456789abcdef", 2), State: state, Client: "shop", Target: "main", Component: "wx0123456789abcdef",
			AppID: "wxaaaaaaaaaaaaaaaa", Kind: kind, InfoType: what, Queued: now.Add(-age), Attempts: attempts, Failure: failure}
		if state == "waiting" {
			e.Due = now.Add(due)
		}
		return e
	}
	page := operate.Events{Items: []operate.Event{
		event("waiting", "", "message", 59*time.Second, 40*time.Second, 7, "HTTP status 500"),
		event("waiting", "unauthorized", "event", 59*time.Minute, -time.Second, 0, ""),
		event("dead", "gateway_recovered", "event", 47*time.Hour, 0, 150, "posting: no connection: dial tcp 127.0.0.1:9000: connect: connection refused"),
		event("dead", "", "", 29*24*time.Hour, 0, 0, "a\nb\tc \x1b[2J\u202e好"),
	}, Next: "dead.abc"}
	const ids = "0123456789abcdef0123456789abcdef"
	wide := strings.Join([]string{
		"CLIENT  TARGET  ACCOUNT             WHAT               AGE  NEXT    TRIES  EVENT ID                          FAILURE",
		"shop    main    wxaaaaaaaaaaaaaaaa  message            59s  in 40s  7      " + ids + "  HTTP status 500",
		"shop    main    wxaaaaaaaaaaaaaaaa  unauthorized       59m  now     0      " + ids,
		"shop    main    wxaaaaaaaaaaaaaaaa  gateway_recovered  47h  dead    150    " + ids + "  posting: no connection: dial tcp 127.0.0.1:9000: connect: connection refused",
		"shop    main    wxaaaaaaaaaaaaaaaa  ?                  29d  dead    0      " + ids + "  a b c  [2J 好",
		"2 waiting, 2 dead on this page; the next one: caddy wechat events --cursor dead.abc", "",
	}, "\n")
	narrow := strings.Replace(wide, "posting: no connection: dial tcp 127.0.0.1:9000: connect: connection refused", "posting: no connection:…", 1)
	for width, want := range map[int]string{0: wide, 300: wide, 80: narrow, 1: narrow, len("CLIENT  TARGET  ACCOUNT             WHAT               AGE  NEXT    TRIES  EVENT ID                          ") + 24: narrow} {
		var out strings.Builder
		screen{out: &out, now: now, width: width}.events(page, "caddy wechat events", "")
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("%d wide: %s", width, diff)
		}
	}
	var out strings.Builder
	if (screen{out: &out}).events(operate.Events{}, "", "nothing is waiting"); out.String() != "nothing is waiting\n" {
		t.Errorf("%q", out.String())
	}
}

// The command of the next page can be pasted into a shell.
func TestTheNextPageIsTheSameList(t *testing.T) {
	list, _, err := eventsCommand().Find([]string{"list"})
	if err != nil {
		t.Fatal(err)
	}
	if err := list.ParseFlags([]string{"--client", "shop", "--limit", "2", "-c", "/etc/my caddy/it's", "--cursor", "old", "--json"}); err != nil {
		t.Fatal(err)
	}
	if got, want := repeated(list, "client", "target", "limit", "config"), ` --client shop --limit 2 --config '/etc/my caddy/it'\''s'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := queryOf(list, "client", "target", "limit", "cursor"), "?client=shop&cursor=old&limit=2"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// What is not given is not sent, and what is given empty is: the gateway refuses it.
func TestFlagsBecomeTheQuery(t *testing.T) {
	for arguments, want := range map[string]string{
		"":                                  "",
		"--client=":                         "?client=",
		"--all --state dead":                "?all=true&state=dead",
		"--event-id 7":                      "?event_id=7",
		"--since 2026-11-30T12:00:00+08:00": "?since=2026-11-30T12%3A00%3A00%2B08%3A00",
		"--since yesterday":                 "?since=yesterday",
	} {
		replay, _, err := eventsCommand().Find([]string{"replay"})
		if err != nil {
			t.Fatal(err)
		}
		if err := replay.ParseFlags(strings.Fields(arguments)); err != nil {
			t.Fatal(err)
		}
		if got := queryOf(replay, "client", "target", "event-id", "since", "state", "all"); got != want {
			t.Errorf("%s: %s, want %s", arguments, got, want)
		}
	}
	replay, _, _ := eventsCommand().Find([]string{"replay"})
	for text, want := range map[string]time.Duration{"90m": 90 * time.Minute, "2d": 48 * time.Hour} {
		if err := replay.ParseFlags([]string{"--since", text}); err != nil {
			t.Fatal(err)
		}
		query, err := url.ParseQuery(strings.TrimPrefix(queryOf(replay, "since"), "?"))
		if err != nil {
			t.Fatal(err)
		}
		since, err := time.Parse(time.RFC3339, query.Get("since"))
		if ago := time.Since(since); err != nil || ago < want || ago > want+time.Minute {
			t.Errorf("%s ago is %v (%v)", text, query, err)
		}
	}
}

// Who has named nothing is told which flags there are, and not the parameters of the admin API.
func TestAnActionWithoutASelectionNamesItsFlags(t *testing.T) {
	for _, action := range []string{"replay", "discard"} {
		for _, arguments := range [][]string{nil, {"--state", "dead"}} {
			cmd, _, err := eventsCommand().Find([]string{action})
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.ParseFlags(append(arguments, "--address", "127.0.0.1:1")); err != nil { // nobody is asked
				t.Fatal(err)
			}
			if err := cmd.RunE(cmd, nil); err == nil || !strings.HasPrefix(err.Error(), "nothing is named\n") || !strings.Contains(err.Error(), "--all") {
				t.Errorf("%s %v: %v", action, arguments, err)
			}
		}
	}
}

// Whoever answers, and whether anybody does, the operator is told what to do.
func TestErrorsOfTheAdminAPIAreExplained(t *testing.T) {
	for text, want := range map[string]string{
		`caddy responded with error: HTTP 404: {"error":"no client","remedy":"known are: shop"}` + "\n": "no client\nknown are: shop",
		`caddy responded with error: HTTP 403: {"error":"host not allowed: x"}`:                         "the gateway answers: host not allowed: x",
		"caddy responded with error: HTTP 404: 404 page not found\n": "caddy responded with error: HTTP 404: 404 page not found\n" +
			"is localhost:2019 the admin API of a gateway of this version?",
		"performing request: Get \"http://localhost:2019/\": dial tcp: connection refused": "is the gateway running? its admin API is not at localhost:2019: " +
			"Get \"http://localhost:2019/\": dial tcp: connection refused\nname the right address with --address, or the configuration file with --config",
		"invalid admin address x": "invalid admin address x",
	} {
		if got := explain(errors.New(text), "localhost:2019").Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
