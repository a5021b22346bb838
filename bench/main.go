// SPDX-License-Identifier: Apache-2.0

// Command bench compares this gateway with Caddy's own reverse proxy, with
// nginx, and with no proxy at all, under the same load on one machine, and
// writes what it finds to RESULTS.md. It is run by "make bench", on Linux.
//
// Everything runs in processes of its own on 127.0.0.1: an upstream that plays
// WeChat, the proxies, and wrk as the client. A round measures every contestant
// in every row once, so that what the machine does beside reaches all of them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

func main() {
	var err error
	if len(os.Args) == 3 && os.Args[1] == "upstream" {
		err = serveUpstream(os.Args[2])
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options come from the environment.
type options struct {
	rounds      int
	length      time.Duration  // of one measurement
	authorizers int            // of the gateway that knows more than it keeps in memory
	rows        *regexp.Regexp // nil for all; RESULTS.md is written only then
}

func newOptions() (o options, err error) {
	number := func(name string, value int) int {
		if text := os.Getenv(name); text != "" && err == nil {
			if value, err = strconv.Atoi(text); err != nil || value < 1 {
				err = fmt.Errorf("%s=%s is not a number from 1", name, text)
			}
		}
		return value
	}
	o.rounds = number("BENCH_ROUNDS", 6)
	o.length = time.Duration(number("BENCH_SECONDS", 2)) * time.Second
	o.authorizers = number("BENCH_AUTHORIZERS", 1_000_000)
	if text := os.Getenv("BENCH_ROWS"); text != "" && err == nil {
		o.rows, err = regexp.Compile(text)
	}
	return o, err
}

func (o options) wants(row string) bool { return o.rows == nil || o.rows.MatchString(row) }

// part reports whether less is measured than RESULTS.md tells of.
func (o options) part() bool { return o.rows != nil || o.rounds < enough || o.authorizers < 10*cached }

// out is for logs and profiles, which are not kept.
const out = "out"

func run(ctx context.Context) error {
	o, err := newOptions()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	caddy, err := filepath.Abs("../caddy")
	if err != nil {
		return err
	}
	r := results{begin: time.Now(), options: o}
	folder, err := os.MkdirTemp(scratch(), "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	f, err := newFleet(folder, caddy)
	if err != nil {
		return err
	}
	defer f.stop()
	if err := r.measure(ctx, f); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return r.publish(ctx, f)
}

const inMemory = "/dev/shm"

// scratch is where a million small files go: to remove them from a disk takes
// minutes, so into memory if there is plenty.
func scratch() string {
	const plenty = 12 << 30
	var shm syscall.Statfs_t
	if syscall.Statfs(inMemory, &shm) == nil && shm.Bavail*uint64(shm.Bsize) > plenty && meminfo("MemAvailable") > plenty {
		return inMemory
	}
	return os.TempDir()
}

func say(format string, values ...any) { fmt.Printf(format+"\n", values...) }
