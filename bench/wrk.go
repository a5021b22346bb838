// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// load is what is done to a contestant.
type load struct {
	connections int
	scheme      string // default: http
	address     string
	target      string // path and query
	headers     []string
	body        int     // bytes; 0 for GET
	tokens      *tokens // nil: target and headers say who calls
}

// tokens is a file of gateway tokens of which each request uses one.
type tokens struct {
	file  string
	width int
	count int // only the first so many are used
	zipf  bool
}

// outcome is what wrk tells.
type outcome struct {
	Requests     int `json:"requests"`
	Microseconds int `json:"microseconds"`
	Failed       int `json:"failed"` // broken connections, time-outs, and any status but 2xx and 3xx
	P50          int `json:"p50"`    // microseconds
	P99          int `json:"p99"`
}

func (l load) arguments(length time.Duration, seed int) []string {
	arguments := []string{
		"-t1", "-c" + strconv.Itoa(l.connections), "-d" + strconv.Itoa(int(length.Seconds())) + "s",
		"--timeout", "10s", "-s", "wrk.lua",
	}
	for _, header := range l.headers {
		arguments = append(arguments, "-H", header)
	}
	method := "GET"
	if l.body > 0 {
		method = "POST"
	}
	arguments = append(arguments, cmp.Or(l.scheme, "http")+"://"+l.address+l.target, "--", method, strconv.Itoa(l.body))
	if t := l.tokens; t != nil {
		law := "uniform"
		if t.zipf {
			law = "zipf"
		}
		arguments = append(arguments, t.file, strconv.Itoa(t.width), strconv.Itoa(t.count), law, strconv.Itoa(seed))
	}
	return arguments
}

// wrk applies the load for whole seconds.
func wrk(ctx context.Context, l load, length time.Duration, seed int) (outcome, error) {
	var o outcome
	printed, err := exec.CommandContext(ctx, "wrk", l.arguments(length, seed)...).CombinedOutput()
	if err != nil {
		return o, fmt.Errorf("wrk: %w\n%s", err, printed)
	}
	lines := strings.Split(strings.TrimSpace(string(printed)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &o); err != nil {
		return o, fmt.Errorf("wrk printed\n%s", printed)
	}
	if o.Failed > 0 || o.Requests == 0 {
		return o, fmt.Errorf("%d of %d requests failed", o.Failed, o.Requests)
	}
	return o, nil
}

// requests returns what makes the nth of so many requests for the generator
// here, always a GET: with the token of that number if there are many.
func (l load) requests(most int) (func(n int) []byte, error) {
	head, tail := "GET "+l.target, " HTTP/1.1\r\nHost: "+l.address+"\r\n"
	for _, header := range l.headers {
		tail += header + "\r\n"
	}
	tail += "\r\n"
	if l.tokens == nil {
		request := []byte(head + tail)
		return func(int) []byte { return request }, nil
	}
	file, err := os.Open(l.tokens.file)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	used := make([]byte, min(most, l.tokens.count)*l.tokens.width)
	if _, err := io.ReadFull(file, used); err != nil {
		return nil, err
	}
	return func(n int) []byte {
		at := n % l.tokens.count * l.tokens.width
		return []byte(head + "&access_token=" + string(used[at:at+l.tokens.width]) + tail)
	}, nil
}
