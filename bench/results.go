// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// results is all that one run has found.
type results struct {
	options
	begin   time.Time
	parts   parts
	cells   []cell
	samples map[[2]string][]sample // row and contestant → one of each turn
	again   []string               // what failed, and was measured again

	cpuShares   []share // where the gateway's time goes in the first row, in percent
	allocShares []share // and its allocations, for each request

	firstBytes map[string][]float64 // of slow downloads: contestant → milliseconds
	sizes      []size
	traffic    []traffic
	queues     []queue
	delivered  []delivered
}

// measure runs the rounds.
func (r *results) measure(ctx context.Context, f *fleet) error {
	all, err := f.cells()
	if err != nil {
		return err
	}
	if r.wants(scale) {
		reference := all[slices.IndexFunc(all, func(c cell) bool { return c.row == centre && c.who == stock })].at
		many, err := f.scaleCells(reference, r.authorizers)
		if err != nil {
			return err
		}
		all = append(all, many...)
	}
	for _, c := range all {
		if r.wants(c.row) {
			r.cells = append(r.cells, c)
		}
	}
	r.samples = make(map[[2]string][]sample)
	for round := range r.rounds {
		if r.wants("parts") {
			if err := r.parts.measure(ctx); err != nil {
				return err
			}
		}
		if err := r.round(ctx, f, round); err != nil {
			return err
		}
		say("round %d of %d, %.0f min since the beginning", round+1, r.rounds, time.Since(r.begin).Minutes())
	}
	return r.lookCloser(ctx, f, all)
}

// lookCloser measures what is measured once.
func (r *results) lookCloser(ctx context.Context, f *fleet, all []cell) error {
	if r.wants("parts") {
		if err := r.parts.finish(ctx); err != nil {
			return err
		}
	}
	if i := slices.IndexFunc(r.cells, func(c cell) bool { return c.row == centre && c.who == gateway }); i >= 0 {
		if err := r.profile(ctx, f, r.cells[i], max(4*time.Second, r.length)); err != nil {
			return err
		}
	}
	if r.wants(slow) {
		if err := r.measureSlow(ctx, f, all); err != nil {
			return err
		}
	}
	if r.wants(queues) {
		if err := r.measureQueues(ctx, f); err != nil {
			return err
		}
	}
	if r.wants(deliveries) {
		if err := r.measureDeliveries(ctx, f); err != nil {
			return err
		}
	}
	if r.wants(growth) {
		return r.measureGrowth(ctx, f)
	}
	return nil
}

// turns is how often a row is measured in each round. The goals of some are
// finer than one measurement on a machine that others use.
func turns(row string) int {
	switch row {
	case centre, audited, collected:
		return 4
	case scale:
		return 8
	}
	return 1
}

// round measures every cell. Whoever comes first in a row finds the machine in
// another state than who comes last, so they take turns.
func (r *results) round(ctx context.Context, f *fleet, round int) error {
	for rest := r.cells; len(rest) > 0; {
		n := slices.IndexFunc(rest, func(c cell) bool { return c.row != rest[0].row })
		if n < 0 {
			n = len(rest)
		}
		times := turns(rest[0].row)
		for turn := round * times; turn < (round+1)*times; turn++ {
			for i := range n {
				if err := r.measureCell(ctx, f, rest[(turn+i)%n], turn); err != nil {
					return err
				}
			}
		}
		rest = rest[n:]
	}
	return nil
}

// measureCell tries twice: a machine that others use may stall for longer than
// a request has.
func (r *results) measureCell(ctx context.Context, f *fleet, c cell, turn int) error {
	key := [2]string{c.row, c.who}
	rate := 0.0
	if c.open {
		atCentre := r.samples[[2]string{centre, stock}]
		if len(atCentre) == 0 {
			return nil // the row was not asked for
		}
		rate = atCentre[len(atCentre)-1].Rate / 2
	}
	s, err := f.measure(ctx, c, rate, r.length, turn)
	if err != nil && ctx.Err() == nil {
		r.again = append(r.again, fmt.Sprintf("%s, %s: %v", c.row, c.who, err))
		say("%s; once more", r.again[len(r.again)-1])
		s, err = f.measure(ctx, c, rate, r.length, turn)
	}
	if err != nil {
		return fmt.Errorf("%s, %s: %w", c.row, c.who, err)
	}
	say("%-36s %-40s %8.0f/s  p99 %7.2f ms  %6.1f µs  %6.1f allocations", c.row, c.who, s.Rate, s.P99, s.CPU, s.Allocs)
	r.samples[key] = append(r.samples[key], s)
	return nil
}

// series is one figure of a contestant, turn by turn.
func (r *results) series(row, who string, figure func(sample) float64) []float64 {
	var values []float64
	for _, s := range r.samples[[2]string{row, who}] {
		values = append(values, figure(s))
	}
	return values
}

// ratio compares two contestants within each turn, because from one round to
// the next the machine changes by more than they differ.
func (r *results) ratio(row, who, to string, figure func(sample) float64) spread {
	a, b := r.series(row, who, figure), r.series(row, to, figure)
	if len(a) != len(b) {
		return spread{}
	}
	for i := range a {
		a[i] /= b[i]
	}
	return spreadOf(a)
}

// The figures.
func rate(s sample) float64   { return s.Rate }
func p50(s sample) float64    { return s.P50 }
func p99(s sample) float64    { return s.P99 }
func cpu(s sample) float64    { return s.CPU }
func allocs(s sample) float64 { return s.Allocs }
func memory(s sample) float64 { return s.Memory }
func rss(s sample) float64    { return s.RSS }
