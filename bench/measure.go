// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math"
	"time"
)

// sample is what one measurement found. NaN stands for what is not known.
type sample struct {
	Rate, P50, P99      float64 // requests a second, milliseconds
	CPU, Allocs, Memory float64 // of the proxy, a request: microseconds, objects, bytes
	RSS                 float64 // megabytes, after it
}

// measure puts the load of a cell on its server. Rate is for an open loop.
func (f *fleet) measure(ctx context.Context, c cell, rate float64, length time.Duration, seed int) (sample, error) {
	if c.at.process != nil { // the proxy makes its connections to the upstream
		if err := each(c.load, 5*c.load.connections); err != nil {
			return sample{}, err
		}
	}
	countsBefore, err := f.counts()
	if err != nil {
		return sample{}, err
	}
	before, err := c.at.usage()
	if err != nil {
		return sample{}, err
	}
	s, requests, err := c.apply(ctx, rate, length, seed)
	if err != nil {
		return s, err
	}
	after, err := c.at.usage()
	if err != nil {
		return s, err
	}
	counts, err := f.counts()
	if err != nil {
		return s, err
	}
	if served := counts.Served - countsBefore.Served; served < requests {
		return s, fmt.Errorf("of %d answers only %d came from the upstream", requests, served)
	}
	s.CPU, s.Allocs, s.Memory, s.RSS = math.NaN(), math.NaN(), math.NaN(), math.NaN()
	if c.at.process != nil {
		s.CPU = float64((after.cpu - before.cpu).Microseconds()) / float64(requests)
		s.RSS = float64(after.rss) / (1 << 20)
	}
	if after.mallocs > 0 {
		s.Allocs = float64(after.mallocs-before.mallocs) / float64(requests)
		s.Memory = float64(after.bytes-before.bytes) / float64(requests)
	}
	return s, nil
}

// apply puts the load on, in a closed loop or in an open one.
func (c cell) apply(ctx context.Context, rate float64, length time.Duration, seed int) (s sample, requests int, err error) {
	if c.open {
		latencies, err := steady(ctx, c.load, rate, length)
		if err != nil {
			return s, 0, err
		}
		at := func(percent int) float64 { return float64(latencies[len(latencies)*percent/100].Microseconds()) / 1000 }
		return sample{Rate: rate, P50: at(50), P99: at(99)}, len(latencies), nil
	}
	o, err := wrk(ctx, c.load, length, seed)
	return sample{
		Rate: float64(o.Requests) / (float64(o.Microseconds) / 1e6),
		P50:  float64(o.P50) / 1000, P99: float64(o.P99) / 1000,
	}, o.Requests, err
}

// usage is that of the server's process, nothing if there is none to look at.
func (s *server) usage() (usage, error) {
	if s.process == nil {
		return usage{}, nil
	}
	return s.process.usage()
}
