// SPDX-License-Identifier: Apache-2.0

// Command soak runs the gateway for long, while everything around it goes
// wrong, and tells whether it has failed anybody.
//
// Five gateways, processes of the built program, share one storage. A sandbox
// plays WeChat, whose tokens live for twenty seconds here, so that there is a
// life's worth of renewals in minutes. Applications call through all gateways as
// SDKs do (callers.go). Meanwhile chance, from a seed that is printed, kills
// gateways, kills tokens, lets accounts withdraw and come back, takes storage
// away and WeChat down (chaos.go). What was done is on record (record.go), with
// what WeChat saw (witness.go), and every call that failed is held against it
// (judge.go): a failure that nothing on record explains is the gateway's own. WeChat
// pushes messages and events for an application that goes down, hangs and fails: what
// was acknowledged has to arrive (messages.go).
// When all is quiet again, every account has to work through every gateway
// without its admin, and no credential may stand in any log, answer or file
// (aftermath.go).
//
// Then, with a storage of 100,000 authorizers, the time to start and the memory
// are measured (scale.go).
//
//	soak <caddy> [faults|scale]
//
// The exit code is 0 if nothing was lost and nothing failed by itself. Settings
// are in the environment: SOAK_TIME (10m), SOAK_SEED (by chance), SOAK_STORAGE
// (files, or redis: a redis-server of its own), SOAK_RATE (calls a second, 200).
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// settings are what the environment may change.
type settings struct {
	binary  string
	part    string // faults or scale, empty for both
	folder  string // for everything that is written
	time    time.Duration
	seed    uint64
	storage string
	rate    int
}

func main() {
	s, err := readSettings(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := s.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "\nsoak: %v\nLogs, storage and what was the case when are kept in %s\n", err, s.folder)
		os.Exit(1)
	}
	if err := os.RemoveAll(s.folder); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
	}
}

func (s settings) run(ctx context.Context) error {
	if s.part != "scale" {
		if err := soak(ctx, s); err != nil {
			return err
		}
	}
	if s.part != "faults" {
		return scale(ctx, s)
	}
	return nil
}

func readSettings(arguments []string) (s settings, err error) {
	s = settings{time: 10 * time.Minute, seed: rand.Uint64N(1_000_000), storage: "files", rate: 200}
	switch {
	case len(arguments) == 0 || len(arguments) > 2:
		return s, errors.New("want the path of the program, and perhaps faults or scale")
	case len(arguments) == 2 && arguments[1] != "faults" && arguments[1] != "scale":
		return s, fmt.Errorf("%q is neither faults nor scale", arguments[1])
	case len(arguments) == 2:
		s.part = arguments[1]
	}
	if s.binary, err = filepath.Abs(arguments[0]); err != nil {
		return s, err
	}
	if text := os.Getenv("SOAK_TIME"); text != "" {
		if s.time, err = time.ParseDuration(text); err != nil {
			return s, fmt.Errorf("SOAK_TIME: %w", err)
		}
	}
	if text := os.Getenv("SOAK_SEED"); text != "" {
		if s.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			return s, fmt.Errorf("SOAK_SEED: %w", err)
		}
	}
	if text := os.Getenv("SOAK_RATE"); text != "" {
		if s.rate, err = strconv.Atoi(text); err != nil || s.rate < 1 {
			return s, fmt.Errorf("SOAK_RATE: %q is not a number from 1", text)
		}
	}
	if text := os.Getenv("SOAK_STORAGE"); text != "" {
		s.storage = text
	}
	if s.storage != "files" && s.storage != "redis" {
		return s, fmt.Errorf("SOAK_STORAGE: %q is neither files nor redis", s.storage)
	}
	s.folder, err = os.MkdirTemp("", "caddy-wechat-soak-")
	return s, err
}
