// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

var update = flag.Bool("update", false, "write what is printed into testdata")

// noon is when the answers of these tests are read.
func noon() time.Time { return time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC) }

func ago(d time.Duration) time.Time { return noon().Add(-d) }

const (
	component = "wx0123456789abcdef"
	listed    = "add 203.0.113.7 to the list 白名单IP地址列表 of the third-party platform, in 开放平台 → 第三方平台 → 开发资料, and wait for ten minutes"
)

// What would move the cursor of a terminal, or turn the order of characters round, reaches
// no terminal: not in --json, which means the same all the same, and not in an error.
func TestTerminalsGetNoControls(t *testing.T) {
	name := "a\u009b2Jb\x7fc\u202ed\U000e0041杭州\u2028" // CSI, DEL, an override, a tag
	w := newWorld(t)
	page := encoded(t, operate.Accounts{Items: []operate.Account{{Name: name}}})
	w.answer("GET /wechat/accounts", answer{text: page})
	got := w.run("accounts", "--json")
	var read operate.Accounts
	if err := json.Unmarshal([]byte(got.out), &read); err != nil || read.Items[0].Name != name {
		t.Errorf("%q, %v", got.out, err)
	}
	if controls(got.out) || !strings.Contains(got.out, "杭州") {
		t.Errorf("--json prints %q", got.out)
	}
	for _, text := range []string{encoded(t, operate.Error{Text: name, Remedy: "do\x1b[2J that"}), "\x1b[2J<html>" + name} {
		w.answer("GET /wechat/accounts", answer{http.StatusBadGateway, text})
		for _, arguments := range [][]string{{"accounts"}, {"accounts", "--json"}, {"health"}, {"health", "--json"}, {"doctor"}} {
			for _, request := range []string{"GET /wechat/health/ready", "GET /config/", "POST /wechat/doctor"} {
				w.answer(request, answer{http.StatusServiceUnavailable, text})
			}
			if got := w.run(arguments...); controls(got.out+got.err) || got.code == 0 {
				t.Errorf("%s: %q", arguments, got.out+got.err)
			}
		}
		w.answer("GET /wechat/accounts", answer{text: text})
		if got := w.run("accounts", "--json"); controls(got.out + got.err) {
			t.Errorf("with status 200: %q", got.out+got.err)
		}
	}
	unreadable := operate.Resealed{Progress: operate.Progress{Next: 1, Total: 1}, Unreadable: []string{"wechat/" + name}}
	w.answer("POST /wechat/reseal?offset=0", answer{text: encoded(t, unreadable)})
	if got := w.run("reseal"); controls(got.out+got.err) || !strings.Contains(got.err, "\n\twechat/a") {
		t.Errorf("reseal: %q", got.out+got.err)
	}
}

// controls reports whether a text has characters that a terminal would interpret.
func controls(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) })
}

// What operators read is in testdata: without a terminal, in one with 80 columns and in
// one with 200. Names are Chinese, texts are long, and parts of them would move the
// cursor of a terminal if it got them.
func TestAnswersAreReadable(t *testing.T) {
	for name, print := range map[string]func(screen){
		"status":       func(s screen) { s.status(brokenStatus()) },
		"status_well":  func(s screen) { s.status(wellStatus()) },
		"accounts":     func(s screen) { s.accounts(someAccounts(), "caddy wechat accounts 杭州 --limit 3", "") },
		"account":      func(s screen) { s.account(brokenAccount()) },
		"account_bare": func(s screen) { s.account(operate.AccountDetail{Account: someAccounts().Items[2]}) },
		"pushes":       func(s screen) { s.pushes(somePushes(), 100) },
		"usage":        func(s screen) { s.usage(someUsage(), 3) },
		"doctor":       func(s screen) { s.diagnosis(someDiagnosis()) },
	} {
		for _, width := range []int{0, 80, 200} {
			var out strings.Builder
			print(screen{out: &out, now: noon(), width: width})
			file := filepath.Join("testdata", fmt.Sprintf("%s_%d.txt", name, width))
			if *update {
				if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), out.String()); diff != "" {
				t.Errorf("%s (-update writes it): %s", file, diff)
			}
			if strings.ContainsAny(out.String(), "\x1b\a\r\t\u202e") {
				t.Errorf("%s has a character that a terminal interprets", file)
			}
		}
	}
}

// An empty list is a sentence, and says of what it is empty.
func TestEmptyAnswersAreSentences(t *testing.T) {
	var out strings.Builder
	s := screen{out: &out, now: noon(), width: 80}
	s.accounts(operate.Accounts{}, "", "there is no account")
	s.pushes(operate.Pushes{Node: "gw-1", Since: ago(time.Hour)}, 100)
	s.usage(operate.Usage{Node: "gw-1", Since: ago(time.Hour)}, 100)
	want := `there is no account
there was no such push since the start of node gw-1, 60m ago (2026-11-30 11:00:00Z)
there was no such call since the start of node gw-1, 60m ago (2026-11-30 11:00:00Z)
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// An operator in China reads the times of a gateway elsewhere.
func TestTimesSayTheirZone(t *testing.T) {
	at := time.Date(2026, 11, 30, 6, 2, 11, 0, time.UTC)
	for zone, want := range map[*time.Location]string{
		time.UTC:                      "7m ago (2026-11-30 06:02:11Z)",
		time.FixedZone("CST", 8*3600): "7m ago (2026-11-30 14:02:11+08:00)",
	} {
		if got := (screen{now: at.Add(7 * time.Minute).In(zone)}).since(at); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Where there is no terminal, nothing is left out or cut, and an empty cell is not taken
// for the one after it.
func TestTablesAreCompleteWithoutATerminal(t *testing.T) {
	var out strings.Builder
	s := screen{out: &out, now: noon()}
	grid{header: []string{"A", "B", "C"}, rows: [][]string{{"", "1.2MiB", strings.Repeat("名", 300)}, {"x", "", "y"}}, spare: []string{"A"}, least: 1}.print(s)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, line := range lines {
		if len(strings.Fields(line)) != 3 {
			t.Errorf("%q", line)
		}
	}
	if !strings.HasSuffix(lines[1], strings.Repeat("名", 300)) {
		t.Errorf("%q is cut", lines[1])
	}
	if strings.Index(lines[0], "B") != strings.Index(lines[2], "-") {
		t.Errorf("the columns are not aligned: %q", lines)
	}
}

// Texts are measured in columns of the terminal, and not in characters or bytes.
func TestChineseTakesTwoColumns(t *testing.T) {
	for text, want := range map[string]int{"": 0, "abc": 3, "公众号": 6, "ｗ": 2, "é": 1, "e\u0301": 1, "🎉": 2, "…": 1} {
		if got := columns(text); got != want {
			t.Errorf("%q takes %d columns, want %d", text, got, want)
		}
	}
	for _, row := range []struct {
		text  string
		limit int
		want  string
	}{{"公众号", 6, "公众号"}, {"公众号", 5, "公众…"}, {"公众号", 4, "公…"}, {"abc", 2, "a…"}, {"abc", 3, "abc"}, {"公", 1, "…"}} {
		if got := cut(row.text, row.limit); got != row.want || columns(got) > row.limit {
			t.Errorf("%q in %d columns is %q, want %q", row.text, row.limit, got, row.want)
		}
	}
}

func TestLinesBreakBetweenWords(t *testing.T) {
	const text = "one two  three\nfour https://gateway.example.com/wechat/authorize five"
	for limit, want := range map[int][]string{
		-16: {"one two three four https://gateway.example.com/wechat/authorize five"},
		19:  {"one two three four https://gateway.example.com/wechat/authorize five"},
		20:  {"one two three four", "https://gateway.example.com/wechat/authorize", "five"},
		68:  {"one two three four https://gateway.example.com/wechat/authorize five"},
	} {
		if diff := cmp.Diff(want, wrap(text, limit)); diff != "" {
			t.Errorf("%d: %s", limit, diff)
		}
	}
	if got := wrap("", 80); got != nil {
		t.Errorf("%q", got)
	}
}
