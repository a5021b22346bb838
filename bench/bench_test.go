// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
)

func TestSpreadLeavesOutWhatIsNotKnown(t *testing.T) {
	for _, row := range []struct {
		values []float64
		want   string
	}{
		{nil, "–"},
		{[]float64{math.NaN()}, "–"},
		{[]float64{2.25}, "2.2"},
		{[]float64{3, math.NaN(), 1}, "2.0 (1.0–3.0)"},
		{[]float64{1234567, 1, 2}, "2.0 (1.0–1,234,567.0)"},
	} {
		if got := spreadOf(row.values).whole(1); got != row.want {
			t.Errorf("%v: %s, want %s", row.values, got, row.want)
		}
	}
}

func TestRatiosAreFormedWithinRounds(t *testing.T) {
	r := results{samples: map[[2]string][]sample{
		{centre, gateway}: {{Rate: 100}, {Rate: 20}, {Rate: 3}},
		{centre, stock}:   {{Rate: 50}, {Rate: 10}, {Rate: 1}},
		{centre, nginx}:   {{Rate: 1}},
	}}
	if got := r.ratio(centre, gateway, stock, rate); got != (spread{2, 2, 3, 3}) {
		t.Errorf("%+v", got)
	}
	if got := r.ratio(centre, nginx, stock, rate); got.n != 0 {
		t.Errorf("of unequal rounds: %+v", got)
	}
}

func TestVerdictWantsEnoughRounds(t *testing.T) {
	for _, row := range []struct {
		goal   goal
		rounds int
		want   string
	}{
		{goal{found: spread{median: 2, n: 100}, least: true, limit: 1}, enough - 1, "too few rounds to say"},
		{goal{found: spread{median: 1.4}, least: true, limit: 1.4}, enough, "met"},
		{goal{found: spread{median: 1.39}, least: true, limit: 1.4}, enough, "**missed**"},
		{goal{found: spread{median: 0.7}, limit: 0.7}, enough, "met"},
		{goal{found: spread{median: 0.71}, limit: 0.7}, enough, "**missed**"},
	} {
		if got := row.goal.verdict(row.rounds); got != row.want {
			t.Errorf("%+v: %s, want %s", row.goal, got, row.want)
		}
	}
}

func TestVerdictOnAStep(t *testing.T) {
	for _, row := range []struct {
		low, median, allocs float64
		goal                partGoal
		want                string
	}{
		{90, 95, 0, partGoal{nanoseconds: 100}, "met"},
		{90, 110, 0, partGoal{nanoseconds: 100}, "met at best"},
		{101, 110, 0, partGoal{nanoseconds: 100}, "**missed**"},
		{90, 95, 1, partGoal{nanoseconds: 100}, "**missed**"},
		{90, 95, 1, partGoal{nanoseconds: 100, allocs: none}, "met"},
		{90, 95, 1, partGoal{nanoseconds: none, allocs: none}, "–"},
	} {
		if got := row.goal.verdict(spread{low: row.low, median: row.median}, spread{low: row.allocs}); got != row.want {
			t.Errorf("%+v: %s", row, got)
		}
	}
}

// The slowest row is sought among those of both ways to call the gateway, and
// one that was measured for one contestant alone is none.
func TestWorstRow(t *testing.T) {
	r := results{
		cells: []cell{{row: centre, who: stock}, {row: centre, who: gateway}, {row: centre, who: bearer}, {row: named, who: gateway}},
		samples: map[[2]string][]sample{
			{centre, stock}: {{Rate: 10}}, {centre, gateway}: {{Rate: 15}}, {centre, bearer}: {{Rate: 9}}, {named, gateway}: {{Rate: 1}},
		},
	}
	if found, row := r.worst(); row != centre+", client secret" || found.median != 0.9 {
		t.Errorf("%s: %v", row, found)
	}
}

func TestCPUTimeOfAProcessWithBracketsInItsName(t *testing.T) {
	got, err := parseStat("7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0")
	if err != nil || got != 2*time.Second {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseStat("7 (a) S 1"); err == nil {
		t.Error("half a line is taken")
	}
}

func TestGoBenchmarksAreRead(t *testing.T) {
	nanoseconds, allocs := parseParts("goos: linux\npkg: a\nBenchmarkCheck/a_b-2  \t 1669 \t 713.5 ns/op\t 48 B/op\t 1 allocs/op\n" +
		"BenchmarkCheck/a_b-2 100 720 ns/op 48 B/op 1 allocs/op\nPASS\nok a 1s\n")
	if got := nanoseconds["Check/a_b"]; len(got) != 2 || got[0] != 713.5 || got[1] != 720 {
		t.Errorf("ns: %v", got)
	}
	if got := allocs["Check/a_b"]; len(got) != 2 || got[0] != 1 {
		t.Errorf("allocations: %v", got)
	}
}

// Every goal for a part is measured: its benchmark is in the baseline.
func TestBaselineHasEveryPart(t *testing.T) {
	text, err := os.ReadFile("baseline.txt")
	if err != nil {
		t.Fatal(err)
	}
	nanoseconds, _ := parseParts(string(text))
	for _, goal := range partGoals {
		if len(nanoseconds[goal.benchmark]) == 0 {
			t.Errorf("no benchmark %s", goal.benchmark)
		}
	}
}

func TestPlotIsXML(t *testing.T) {
	r := results{cells: []cell{{row: centre}, {row: openLoop}, {row: "<&>"}}, samples: map[[2]string][]sample{
		{centre, gateway}: {{Rate: 3, CPU: 1, P99: 1}},
		{centre, stock}:   {{Rate: 2, CPU: 2, P99: 1}},
	}}
	plot := string(r.plot())
	decoder := xml.NewDecoder(strings.NewReader(plot))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(plot, ">1.50<") || !strings.Contains(plot, ">0.50<") {
		t.Errorf("the ratios are not named:\n%s", plot)
	}
}

func TestTracesAreRead(t *testing.T) {
	for trace, want := range map[string]float64{
		"\n     bytes:  16B\n        20   strings.grow (inline)\n             net/http.(*conn).serve\n":                   20,
		"--------------\n      10ms   internal/runtime/syscall.Syscall6\n             net/http.(*persistConn).readLoop\n": 0.01,
	} {
		if value, stack := parseTrace(trace); value != want || len(stack) != 2 || strings.Contains(stack[0], " ") {
			t.Errorf("%q: %v of %q", trace, value, stack)
		}
	}
	if value, stack := parseTrace("File: caddy\nType: cpu\nDuration: 4s, Total samples = 3s\n"); value != 0 || len(stack) != 0 {
		t.Errorf("what stands before the traces: %v of %q", value, stack)
	}
}

func TestStacksBelongToTheInnermostOwner(t *testing.T) {
	const server, caddy, ours, client = "net/http.(*conn).serve", "github.com/caddyserver/caddy/v2.x", "github.com/caddy-wechat/caddy-wechat.x", "net/http.(*Transport).x"
	for _, row := range []struct {
		stack []string
		works bool
		want  string
	}{
		{[]string{"strings.Cut", ours, caddy, server}, true, "this gateway"},
		{[]string{"context.WithCancel", client, ours, caddy, server}, true, "net/http as a client"},
		{[]string{"runtime.memclr", "runtime.mallocgc", client, ours}, true, "memory allocation"},
		{[]string{"runtime.memclr", "runtime.mallocgc", client, ours}, false, "net/http as a client"},
		{[]string{"main.main"}, true, "others"},
	} {
		if got := ownerOf(row.stack, row.works); got != row.want {
			t.Errorf("%q belong to %s, want %s", row.stack, got, row.want)
		}
	}
}

// A renewed token is another one, and each renewal is counted.
func TestRenewalsAreCounted(t *testing.T) {
	upstream := httptest.NewServer(newAnswers())
	defer upstream.Close()
	f := fleet{upstream: map[link]string{plain: strings.TrimPrefix(upstream.URL, "http://")}}
	seen := make(map[string]bool)
	for _, account := range []string{"a", "b", "a"} {
		response, err := http.Post(upstream.URL+renewPath, "application/json", strings.NewReader(`{"authorizer_appid":"`+account+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(response.Body)
		if response.Body.Close(); err != nil || seen[string(answer)] {
			t.Errorf("answered %s again, %v", answer, err)
		}
		seen[string(answer)] = true
	}
	if c, err := f.counts(); err != nil || c.Renewals != 3 || c.Renewed != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := f.forget(); err != nil {
		t.Fatal(err)
	}
	if c, err := f.counts(); err != nil || c.Renewals != 0 || c.Renewed != 0 {
		t.Errorf("forgotten: %+v, %v", c, err)
	}
}

// What the generator sends is what the upstream counts. It is sent when it is
// due, and late answers count from then.
func TestGeneratorKeepsItsRate(t *testing.T) {
	const stall = 200 * time.Millisecond
	var first sync.Once
	answers := newAnswers()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first.Do(func() { time.Sleep(stall) })
		answers.ServeHTTP(w, r)
	}))
	defer upstream.Close()
	f := fleet{upstream: map[link]string{plain: strings.TrimPrefix(upstream.URL, "http://")}}
	l := load{connections: 1, address: f.upstream[plain], target: smallPath + query}
	began := time.Now()
	latencies, err := steady(t.Context(), l, 200, time.Second/2)
	if err != nil || len(latencies) != 100 {
		t.Fatalf("%d requests, %v", len(latencies), err)
	}
	if took := time.Since(began); took < 99*5*time.Millisecond {
		t.Errorf("100 requests, one every 5 ms, were sent in %v", took)
	}
	// The 20 that were due in the first half of the stall waited out the other.
	if waited := latencies[80]; waited < stall/2 {
		t.Errorf("with %v nothing moved, and the 20th longest wait is %v", stall, waited)
	}
	if counts, err := f.counts(); err != nil || counts.Served != 100 {
		t.Fatalf("%d answers, %v", counts.Served, err)
	}
	if latencies[0] < 0 {
		t.Errorf("an answer %v before its request was due", -latencies[0])
	}
	l.target = "/nothing"
	if err := each(l, 10); err == nil {
		t.Error("404 passes for an answer")
	}
}

func TestEveryTokenIsOneOfTheGateway(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	width, err := writeTokens(file, 3, 3)
	if err != nil {
		t.Fatal(err)
	}
	request, err := load{target: "/?", tokens: &tokens{file: file, width: width, count: 3}}.requests(6)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		_, rest, _ := strings.Cut(string(request(i)), "access_token=")
		token, _, _ := strings.Cut(rest, " ")
		if _, ok := gwtoken.Parse(token); !ok || !strings.Contains(token, authorizer(i%3)) {
			t.Errorf("request %d bears %q", i, token)
		}
	}
}
