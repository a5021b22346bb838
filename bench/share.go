// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// share is what part of a profile belongs to somebody.
type share struct {
	name  string
	value float64
}

// rule gives what the functions with one of these parts in their names cost to
// somebody.
type rule struct {
	name  string
	parts []string
}

// works are what Go's runtime does for everybody. They count wherever they
// stand in a stack.
var works = []rule{
	{"garbage collection", []string{"runtime.gcBgMarkWorker", "runtime.gcAssistAlloc", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcStart"}},
	{"memory allocation", []string{"runtime.mallocgc", "runtime.newobject", "runtime.makeslice", "runtime.growslice"}},
	{"scheduling and waiting", []string{"runtime.mcall", "runtime.schedule", "runtime.goready", "runtime.ready", "runtime.newproc", "runtime.mstart", "runtime.futex"}},
	{"system calls", []string{"syscall.Syscall", "syscall.RawSyscall"}},
}

// owners are whose code runs. The innermost function that has one decides.
var owners = []rule{
	{"TLS", []string{"crypto/"}},
	{"this gateway", []string{"caddy-wechat/caddy-wechat"}},
	{"net/http as a client", []string{
		"http.(*Transport)", "http.(*persistConn)", "http.(*Request).Write", "http.(*Request).write", "http.(*transferWriter)", "http.ReadResponse", "http.(*bodyEOFSignal)",
		"http.(*wantConn)", "http.persistConnWriter", "http.(*transportRequest)", "http.(*readTrackingBody)", "http.setupRewindBody",
	}},
	{"net/http as a server", []string{"http.(*conn)", "http.(*response)", "http.(*connReader)", "http.(*chunkWriter)", "http.readRequest"}},
	{"Caddy", []string{"caddyserver/", "go.uber.org/zap"}},
}

// sharesOf divides a profile between owners and, if they are to count, works.
func sharesOf(profile string, withWorks bool, flags ...string) ([]share, error) {
	traces, err := exec.Command("go", append(append([]string{"tool", "pprof", "-traces"}, flags...), profile)...).Output()
	if err != nil {
		return nil, fmt.Errorf("go tool pprof: %w", err)
	}
	sums := make(map[string]float64)
	for trace := range strings.SplitSeq(string(traces), "-----------+") {
		value, stack := parseTrace(trace)
		sums[ownerOf(stack, withWorks)] += value
	}
	var shares []share
	for name, value := range sums {
		shares = append(shares, share{name, value})
	}
	slices.SortFunc(shares, func(a, b share) int { return cmp.Or(cmp.Compare(b.value, a.value), cmp.Compare(a.name, b.name)) })
	return shares, nil
}

// parseTrace reads a trace of pprof: a value, and functions, the innermost first.
//
//	bytes:  16B
//	   20   strings.(*Builder).grow (inline)
//	        strings.(*Builder).Grow
func parseTrace(trace string) (value float64, stack []string) {
	for line := range strings.Lines(trace) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || strings.HasSuffix(fields[0], ":") || strings.HasPrefix(fields[0], "---"):
			continue
		case stack == nil:
			if len(fields) < 2 {
				return 0, nil // what stands before the first trace
			}
			value, fields = number(fields[0]), fields[1:]
		}
		stack = append(stack, fields[0])
	}
	return value, stack
}

// number reads a count or a time.
func number(text string) float64 {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		return n
	}
	d, _ := time.ParseDuration(text) // what is neither, is no value
	return d.Seconds()
}

func ownerOf(stack []string, withWorks bool) string {
	matches := func(r rule, function string) bool {
		return slices.ContainsFunc(r.parts, func(part string) bool { return strings.Contains(function, part) })
	}
	if withWorks {
		for _, work := range works {
			if slices.ContainsFunc(stack, func(function string) bool { return matches(work, function) }) {
				return work.name
			}
		}
	}
	for _, function := range stack {
		for _, owner := range owners {
			if matches(owner, function) {
				return owner.name
			}
		}
	}
	return "others"
}
