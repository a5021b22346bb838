// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"text/template"
	"time"
)

// report is what results.tmpl is filled with.
type report struct {
	Date, Machine, Versions       string
	Rounds, Seconds, Authorizers  string
	Again, Scratch                string
	Minutes                       string
	Goals, Parts, Ratios, Figures string
	Scale, Sizes, Traffic, Slow   string
	Queues, Stored                string
	Deliveries                    string
	CPU, Allocs, Compared         string
}

// publish prints the tables, and writes RESULTS.md if nothing was left out.
func (r *results) publish(ctx context.Context, f *fleet) error {
	t := report{
		Date:        r.begin.UTC().Format("2006-01-02"),
		Machine:     machine(),
		Versions:    f.versions(ctx),
		Rounds:      fmt.Sprint(r.rounds),
		Minutes:     fmt.Sprintf("%.0f", time.Since(r.begin).Minutes()),
		Seconds:     fmt.Sprint(r.length.Seconds()),
		Authorizers: grouped(float64(r.authorizers), 0),
		Goals:       r.goalTable(),
		Parts:       r.partTable(),
		Ratios:      r.ratioTable(),
		Figures:     r.figureTable(),
		Scale:       r.scaleTable(),
		Sizes:       r.sizeTable(),
		Slow:        r.slowTable(),
		Traffic:     r.trafficTable(),
		Queues:      r.queueTable(),
		Stored:      r.storedTable(),
		Deliveries:  r.deliveryTable(),
		CPU:         shareTable("of the CPU time", "%", r.cpuShares),
		Allocs:      shareTable("of the allocations", "a request", r.allocShares),
		Again:       cmp.Or(strings.Join(r.again, "; "), "none"),
		Scratch:     map[bool]string{true: "in memory", false: "on a disk"}[strings.HasPrefix(f.folder, inMemory)],
		Compared:    strings.TrimSpace(r.parts.compared),
	}
	for _, table := range []string{t.Ratios, t.Figures, t.Slow, t.Scale, t.Sizes, t.Traffic, t.Queues, t.Stored, t.Deliveries, t.CPU, t.Allocs, t.Parts, t.Goals} {
		fmt.Print("\n", table)
	}
	if r.options.part() {
		say("This was not the whole of it, so RESULTS.md stays as it is.")
		return nil
	}
	text, err := template.ParseFiles("results.tmpl")
	if err != nil {
		return err
	}
	file, err := os.Create("RESULTS.md")
	if err != nil {
		return err
	}
	defer file.Close()
	if err := text.Execute(file, t); err != nil {
		return err
	}
	if err := os.WriteFile("results.svg", r.plot(), 0o644); err != nil {
		return err
	}
	say("Written: bench/RESULTS.md, bench/results.svg; profiles and logs are in bench/%s.", out)
	return nil
}

// table lays rows out in Markdown, the first as the heading. If there is no
// other, nothing was measured.
func table(rows [][]string) string {
	if len(rows) == 1 {
		return ""
	}
	var text strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&text, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			text.WriteString("|---|" + strings.Repeat("---:|", len(row)-1) + "\n")
		}
	}
	return text.String()
}

func (r *results) goalTable() string {
	rows := [][]string{{"goal", "limit", "found", "verdict"}}
	for _, g := range r.goals() {
		if g.found.n == 0 {
			continue
		}
		rows = append(rows, []string{g.what, g.sign() + " " + fmt.Sprint(g.limit), g.found.whole(g.decimals), g.verdict(r.rounds)})
	}
	return table(rows)
}

func (r *results) partTable() string {
	rows := [][]string{{"step", "lowest ns", "median ns", "at most", "allocations", "at most", "verdict"}}
	limit := func(value float64) string {
		if math.IsInf(value, 1) {
			return "–"
		}
		return grouped(value, 0)
	}
	for _, p := range partGoals {
		if len(r.parts.nanoseconds[p.benchmark]) == 0 {
			continue
		}
		time, objects := spreadOf(r.parts.nanoseconds[p.benchmark]), spreadOf(r.parts.allocs[p.benchmark])
		rows = append(rows, []string{
			p.what, grouped(time.low, 0), time.middle(0), limit(p.nanoseconds), objects.middle(0), limit(p.allocs), p.verdict(time, objects),
		})
	}
	return table(rows)
}

// ratioTable compares everybody with stock.
func (r *results) ratioTable() string {
	rows := [][]string{{
		"to stock", "gateway: requests/s", "p99", "CPU", "allocations", "client secret: requests/s", "nginx: requests/s", "no proxy: requests/s",
	}}
	for _, row := range r.comparedRows() {
		speed := func(who string) string { return r.ratio(row, who, stock, rate).whole(2) }
		if row == openLoop { // all at one rate
			speed = func(string) string { return "–" }
		}
		rows = append(rows, []string{
			row, speed(gateway), r.ratio(row, gateway, stock, p99).whole(2), r.ratio(row, gateway, stock, cpu).whole(2),
			r.ratio(row, gateway, stock, allocs).middle(2), speed(bearer), speed(nginx), speed(direct),
		})
	}
	return table(rows)
}

func (r *results) figureTable() string {
	rows := [][]string{{"row", "who", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "allocations/request", "bytes/request", "RSS MB"}}
	for _, row := range r.rows() {
		if row == scale {
			continue
		}
		for _, who := range r.who(row) {
			rows = append(rows, append([]string{row}, r.figures(row, who)...))
		}
	}
	return table(rows)
}

func (r *results) figures(row, who string) []string {
	of := func(figure func(sample) float64) spread { return spreadOf(r.series(row, who, figure)) }
	return []string{
		who, of(rate).whole(0), of(p50).middle(2), of(p99).whole(2), of(cpu).whole(1),
		of(allocs).middle(1), of(memory).middle(0), of(rss).middle(0),
	}
}

func (r *results) scaleTable() string {
	rows := [][]string{{"who", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "allocations/request", "bytes/request", "RSS MB"}}
	for _, who := range r.who(scale) {
		rows = append(rows, r.figures(scale, who))
	}
	return table(rows)
}

// sizeTable shows how start, reload and a page of accounts grow.
func (r *results) sizeTable() string {
	rows := [][]string{{"storage", "records", "start ms", "reload ms", "page ms", "RSS MB"}}
	for _, s := range r.sizes {
		rows = append(rows, []string{
			s.where, grouped(float64(s.records), 0), spreadOf(s.start).whole(0), spreadOf(s.reload).whole(0), spreadOf(s.page).whole(1),
			grouped(s.rss, 0),
		})
	}
	return table(rows)
}

func (r *results) trafficTable() string {
	rows := [][]string{{"storage", "authorizers", "in use", "calls", "renewals", "of so many accounts", "RSS MB"}}
	for _, t := range r.traffic {
		rows = append(rows, []string{
			t.where, grouped(float64(t.known), 0), grouped(float64(t.inUse), 0), grouped(float64(t.calls), 0),
			grouped(float64(t.renewals), 0), grouped(float64(t.renewed), 0), grouped(t.rss, 0),
		})
	}
	return table(rows)
}

func shareTable(what, unit string, shares []share) string {
	rows := [][]string{{what, unit}}
	for _, s := range shares {
		rows = append(rows, []string{s.name, grouped(s.value, 1)})
	}
	return table(rows)
}

// machine names the processor and the memory.
func machine() string {
	model := "an unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if found := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(text); found != nil {
			model = string(found[1])
		}
	}
	return fmt.Sprintf("%s, %d cores, %d GB of memory, %s/%s", model, runtime.NumCPU(), meminfo("MemTotal")>>30, runtime.GOOS, runtime.GOARCH)
}

// versions asks the programs, whose exit codes differ: wrk's is 1.
func (f *fleet) versions(ctx context.Context) string {
	first := func(name string, arguments ...string) string {
		printed, _ := exec.CommandContext(ctx, name, arguments...).CombinedOutput()
		line, _, _ := strings.Cut(string(printed), "\n")
		return line
	}
	caddy, _, _ := strings.Cut(first(f.caddy, "version"), " ")
	wrk, _, _ := strings.Cut(first("wrk", "--version"), " Copyright")
	return fmt.Sprintf("Caddy %s, %s, %s, %s", caddy, runtime.Version(), first("nginx", "-v"), wrk)
}
