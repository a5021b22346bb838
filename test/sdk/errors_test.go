// SPDX-License-Identifier: Apache-2.0

package sdk_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

var update = flag.Bool("update", false, "write "+errorsFile+" anew")

const (
	errorsFile = "testdata/errors.md"

	errorsHead = `# What SDKs show of the gateway's refusals

The refusals are those of the table in [docs/errors.md](../../../docs/errors.md#refusals-of-the-gateway), as a real gateway answers them: to a call, or where
the SDK asks for a token because the one it has is old. Every attempt of the SDK is refused alike. In its error, URL stands for
the address of the request; in it is the gateway token or the client's secret, so such an error is not for end users. The last
column is how many calls the SDK made, and how often it asked for a token.

Of an answer whose status is not 200 some SDKs show the status alone; the reason is in the gateway's log. And where an SDK does
not look at what its request for a token is answered, the error is that of the call which it then makes without one.

An SDK that has no token of an account, and only logs users in, meets the refusals of token endpoints at its login.

This file is written by ` + "`go test ./sdk -run TestErrors -update`" + ` in the folder test, and checked without ` + "`-update`" + `.
`
	tableHead = `
| refusal | to | HTTP | the SDK's error | requests |
|---|---|---|---|---|
`
)

// TestErrors answers each SDK with every refusal of the gateway's own, and holds
// what the SDK shows its user against testdata/errors.md. No SDK may go on
// calling.
func TestErrors(t *testing.T) {
	refusals := provokeAll(t)
	if t.Failed() {
		return
	}
	inOrder(t, refusals)
	known := readErrors(t)
	var names []string
	for _, d := range drivers() {
		names = append(names, d.name)
		t.Run(d.name, func(t *testing.T) {
			shown := errorsOf(t, d, refusals)
			if *update {
				known[d.name] = shown
			}
			if shown != known[d.name] {
				t.Errorf("%s says\n%sthe SDK shows\n%sif that is as it should be, run this test with -update",
					errorsFile, onlyIn(known[d.name], shown), onlyIn(shown, known[d.name]))
			}
		})
	}
	for name := range known {
		if !slices.Contains(names, name) && !*update {
			t.Errorf("there is no driver for %q in %s; -update removes it", name, errorsFile)
		}
	}
	if *update {
		writeErrors(t, names, known)
	}
}

// onlyIn returns the lines of a that are not in b.
func onlyIn(a, b string) string {
	var only strings.Builder
	for line := range strings.Lines(a) {
		if !strings.Contains(b, line) {
			only.WriteString(line)
		}
	}
	return only.String()
}

// inOrder sorts refusals as problem.go has them, and fails the test if one of
// those was not provoked.
func inOrder(t *testing.T, refusals []refusal) {
	t.Helper()
	source, err := os.ReadFile("../../internal/problem/problem.go")
	if err != nil {
		t.Fatal(err)
	}
	place := make(map[string]int)
	for _, match := range regexp.MustCompile(`&Problem\{http\.\w+, -?\d+, "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		slug := match[1]
		place[slug] = len(place)
		if !slices.ContainsFunc(refusals, func(r refusal) bool { return r.slug == slug }) {
			t.Errorf("%s was not provoked", slug)
		}
	}
	if len(place) == 0 {
		t.Error("problem.go has no refusals")
	}
	slices.SortStableFunc(refusals, func(a, b refusal) int { return place[a.slug] - place[b.slug] })
}

// errorsOf returns the table of what an SDK shows of each refusal.
func errorsOf(t *testing.T, d driver, refusals []refusal) string {
	g := startGateway(t)
	f := startFront(t, g)
	s := d.start(t, target{url: f.url, secret: gwtest.ClientSecret, appid: d.account, gateway: g})
	var table strings.Builder
	for _, refusal := range refusals {
		where := "call"
		var err error
		switch c, calls := s.(caller); {
		case calls:
			if refusal.atToken {
				where = "token"
			}
			err = meet(t, c, f, refusal, issue(t, g, d.account, time.Now().Add(-time.Minute)))
		case refusal.atToken: // a login has a secret too
			where, refusal.atToken = "login", false
			err = meetLogin(s.(loginer), f, refusal, g.WeChat.NewUserCode(d.account, "alice"))
		default:
			continue
		}
		if err == nil {
			t.Errorf("%s: the SDK shows no error", refusal.slug)
			continue
		}
		calls, fetches := f.counts()
		most := 3 // some HTTP clients repeat by themselves what is answered 5xx
		if refusal.slug == "token_expired" || refusal.slug == "token_unknown" {
			most = 4 // another token would heal these, and some SDKs try more than one
		}
		// A platform may ask for two tokens where others ask for one.
		if calls > most || fetches > 2*most || calls+fetches == 0 {
			t.Errorf("%s: the SDK made %d calls and asked for %d tokens, want no more than %d", refusal.slug, calls, fetches, most)
		}
		fmt.Fprintf(&table, "| `%s` | %s | %d | %s | %d + %d |\n", refusal.slug, where, refusal.status, shorten(err), calls, fetches)
	}
	return table.String()
}

// meet lets an SDK meet a refusal. One of a token endpoint it meets when the
// token it has is old, by its own clock or because the gateway says so.
func meet(t *testing.T, s caller, f *front, r refusal, expired string) error {
	t.Helper()
	_, err := s.token()
	ok(t, err)
	if clock, own := s.(ownClock); own && r.atToken {
		clock.later(lifetime)
	} else if r.atToken {
		ok(t, s.hold(expired))
	}
	f.refuse(&r)
	defer f.refuse(nil)
	_, err = s.get()
	return err
}

// meetLogin lets an SDK that does nothing else meet a refusal at a login.
func meetLogin(s loginer, f *front, r refusal, code string) error {
	f.refuse(&r)
	defer f.refuse(nil)
	_, err := s.login(code)
	return err
}

// passing is what differs from run to run in an error, or spoils a table.
var passing = []struct {
	form *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`https?://[^\s"'<>]+`), "URL"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST"},
	{regexp.MustCompile(`gw1\.[\w.~-]+`), "gw1.…"},
	{regexp.MustCompile(`\s+`), " "},
	{regexp.MustCompile("`"), "'"},
	{regexp.MustCompile(`\|`), `\|`},
}

// shorten returns what is the same every time in what an SDK shows.
func shorten(err error) string {
	text := err.Error()
	for _, part := range passing {
		text = part.form.ReplaceAllLiteralString(text, part.by)
	}
	if runes := []rune(text); len(runes) > 300 {
		text = string(runes[:300]) + "…"
	}
	return "`" + text + "`"
}

// readErrors returns the table of each SDK in the file.
func readErrors(t *testing.T) map[string]string {
	t.Helper()
	content, err := os.ReadFile(errorsFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	tables := make(map[string]string)
	for _, section := range strings.Split(string(content), "\n## ")[1:] {
		name, table, _ := strings.Cut(section, "\n"+tableHead)
		tables[name] = table
	}
	return tables
}

// writeErrors writes the tables of these SDKs. Those that could not be run here
// keep what the file had.
func writeErrors(t *testing.T, names []string, tables map[string]string) {
	t.Helper()
	content := errorsHead
	for _, name := range names {
		content += "\n## " + name + "\n" + tableHead + tables[name]
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(errorsFile, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
