// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// parts is what the Go benchmarks found.
type parts struct {
	printed             []byte               // their lines
	nanoseconds, allocs map[string][]float64 // by name, without Benchmark and the number of CPUs
	compared            string               // with the baseline, by benchstat
}

// partGoals are the promises about single steps of a call. The lowest of the
// times counts: what is above it, other processes have cost.
var partGoals = []partGoal{
	{"checking a gateway token", "Check/authorizer", 1000, 2},
	{"finding the class of a path", "Lookup/unknown", 100, 0},
	{"looking a token up", "Current/alone", 250, 0},
	{"looking one of 100,000 up, each time another", "Current/many", none, 0},
	{"splicing the query", "Splice/typical", 150, 1},
	{"peeking at an answer of 100 bytes", "Peek", 500, 1},
	{"opening a push of 500 bytes", "Open", 20_000, none},
	{"reading one from its envelope to its event", "Push", none, none},
}

// partGoal is a promise about a single step.
type partGoal struct {
	what, benchmark     string
	nanoseconds, allocs float64 // at most
}

// none is the limit where nothing is promised.
var none = math.Inf(1)

func (g partGoal) verdict(nanoseconds, allocs spread) string {
	switch {
	case nanoseconds.low > g.nanoseconds || allocs.low > g.allocs:
		return "**missed**"
	case g.nanoseconds == none:
		return "–"
	case nanoseconds.median > g.nanoseconds:
		return "met at best"
	}
	return "met"
}

// measure runs all Go benchmarks of the module. It is done in every round, and
// often rather than long: between two moments in which the machine does
// something else, most of the short ones fit.
func (p *parts) measure(ctx context.Context) error {
	say("running the Go benchmarks")
	command := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchmem",
		"-benchtime", "20ms", "-count", "3", ".", "./internal/...")
	command.Dir = ".."
	printed, err := command.Output()
	if err != nil {
		return fmt.Errorf("go test -bench: %w\n%s", err, printed)
	}
	p.printed = append(p.printed, benchmarkLines(printed)...)
	return nil
}

// finish reads what the benchmarks have printed in all rounds, and compares it
// with the baseline.
func (p *parts) finish(ctx context.Context) error {
	file := filepath.Join(out, "parts.txt")
	if err := os.WriteFile(file, p.printed, 0o644); err != nil {
		return err
	}
	compared, err := exec.CommandContext(ctx, "go", "tool", "benchstat", "baseline.txt", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("benchstat: %w\n%s", err, compared)
	}
	p.compared = string(compared)
	p.nanoseconds, p.allocs = parseParts(string(p.printed))
	return nil
}

// benchmarkLines leaves out how long the packages took, and those without
// benchmarks.
func benchmarkLines(printed []byte) []byte {
	var kept [][]byte
	for line := range bytes.Lines(printed) {
		if !bytes.HasPrefix(line, []byte("ok ")) && !bytes.HasPrefix(line, []byte("? ")) && !bytes.Equal(line, []byte("PASS\n")) {
			kept = append(kept, line)
		}
	}
	return bytes.Join(kept, nil)
}

// parseMetrics reads lines like
//
//	BenchmarkCheck/authorizer-2   1669054   713.0 ns/op   48 B/op   1 allocs/op
//
// and returns what they say by name and unit.
func parseMetrics(printed string) map[string]map[string][]float64 {
	found := make(map[string]map[string][]float64)
	for line := range strings.Lines(printed) {
		fields := strings.Fields(line)
		name, isBenchmark := strings.CutPrefix(line, "Benchmark")
		if !isBenchmark || len(fields) < 4 {
			continue
		}
		name = name[:strings.LastIndexByte(strings.Fields(name)[0], '-')]
		if found[name] == nil {
			found[name] = make(map[string][]float64)
		}
		for i := 2; i+1 < len(fields); i += 2 {
			if value, err := strconv.ParseFloat(fields[i], 64); err == nil {
				found[name][fields[i+1]] = append(found[name][fields[i+1]], value)
			}
		}
	}
	return found
}

// parseParts returns the times and allocations by name.
func parseParts(printed string) (nanoseconds, allocs map[string][]float64) {
	nanoseconds, allocs = make(map[string][]float64), make(map[string][]float64)
	for name, found := range parseMetrics(printed) {
		nanoseconds[name], allocs[name] = found["ns/op"], found["allocs/op"]
	}
	return nanoseconds, allocs
}
