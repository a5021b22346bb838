// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// parts is what the Go benchmarks found.
type parts struct {
	nanoseconds, allocs map[string][]float64 // by name, without Benchmark and the number of CPUs
	compared            string               // with the baseline, by benchstat
}

// partGoals are the promises about single steps of a call. The lowest of the
// times counts: what is above it, other processes have cost.
var partGoals = []struct {
	what, benchmark     string
	nanoseconds, allocs float64 // at most; 0 allocations is a promise, below 0 is none
}{
	{"checking a gateway token", "Check/authorizer", 1000, 2},
	{"finding the class of a path", "Lookup/unknown", 100, 0},
	{"looking a token up", "Current/alone", 250, 0},
	{"splicing the query", "Splice/typical", 150, 1},
	{"peeking at an answer of 100 bytes", "Peek", 500, 1},
	{"opening a push of 500 bytes", "Open", 20_000, -1},
}

// measureParts runs all Go benchmarks of the module and compares them with
// those of the baseline. They run often rather than long: between two moments in
// which the machine does something else, most of the short ones fit.
func measureParts(ctx context.Context) (parts, error) {
	say("running the Go benchmarks")
	command := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchmem",
		"-benchtime", "20ms", "-count", "10", ".", "./internal/...")
	command.Dir = ".."
	printed, err := command.Output()
	if err != nil {
		return parts{}, fmt.Errorf("go test -bench: %w\n%s", err, printed)
	}
	file := filepath.Join(out, "parts.txt")
	if err := os.WriteFile(file, benchmarkLines(printed), 0o644); err != nil {
		return parts{}, err
	}
	compared, err := exec.CommandContext(ctx, "go", "tool", "benchstat", "baseline.txt", file).CombinedOutput()
	if err != nil {
		return parts{}, fmt.Errorf("benchstat: %w\n%s", err, compared)
	}
	p := parseParts(string(printed))
	p.compared = string(compared)
	return p, nil
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

// parseParts reads lines like
//
//	BenchmarkCheck/authorizer-2   1669054   713.0 ns/op   48 B/op   1 allocs/op
func parseParts(printed string) parts {
	p := parts{nanoseconds: make(map[string][]float64), allocs: make(map[string][]float64)}
	for line := range strings.Lines(printed) {
		fields := strings.Fields(line)
		name, isBenchmark := strings.CutPrefix(line, "Benchmark")
		if !isBenchmark || len(fields) < 4 {
			continue
		}
		name = name[:strings.LastIndexByte(strings.Fields(name)[0], '-')]
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				continue
			}
			switch fields[i+1] {
			case "ns/op":
				p.nanoseconds[name] = append(p.nanoseconds[name], value)
			case "allocs/op":
				p.allocs[name] = append(p.allocs[name], value)
			}
		}
	}
	return p
}
