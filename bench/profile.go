// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// profile looks at a gateway under the load of a cell: where the CPU goes, and
// every single allocation, which slows the process down and so happens in one
// of its own.
func (r *results) profile(ctx context.Context, f *fleet, c cell, length time.Duration) (err error) {
	if r.cpuShares, err = f.profileCPU(ctx, c, length); err != nil {
		return err
	}
	storage, err := f.records(inFiles, "", 1, lifetime)
	if err != nil {
		return err
	}
	counted, err := f.startCaddy("gateway-counted", site{link: h1, storage: storage}, site.gateway, "GODEBUG=memprofilerate=1")
	if err != nil {
		return err
	}
	defer counted.process.stop()
	c.at, c.load.address = counted, counted.address
	r.allocShares, err = f.profileAllocs(ctx, c, length)
	return err
}

func (f *fleet) profileCPU(ctx context.Context, c cell, length time.Duration) ([]share, error) {
	done := make(chan error, 1)
	go func() {
		_, err := wrk(ctx, c.load, length+time.Second, 0)
		done <- err
	}()
	file := filepath.Join(out, "cpu.pprof")
	if err := c.at.process.download(ctx, fmt.Sprintf("profile?seconds=%d", int(length.Seconds())), file); err != nil {
		return nil, err
	}
	if err := <-done; err != nil {
		return nil, err
	}
	shares, err := sharesOf(file, true)
	all := 0.0
	for _, s := range shares {
		all += s.value
	}
	for i := range shares {
		shares[i].value *= 100 / all
	}
	return shares, err
}

// profileAllocs counts what a request allocates.
func (f *fleet) profileAllocs(ctx context.Context, c cell, length time.Duration) ([]share, error) {
	if err := each(c.load, 5*c.load.connections); err != nil {
		return nil, err
	}
	before, after := filepath.Join(out, "allocs-before.pprof"), filepath.Join(out, "allocs.pprof")
	if err := c.at.process.download(ctx, "heap?gc=1", before); err != nil { // without gc=1 it is as old as the last collection
		return nil, err
	}
	o, err := wrk(ctx, c.load, length, 0)
	if err != nil {
		return nil, err
	}
	if err := c.at.process.download(ctx, "heap?gc=1", after); err != nil {
		return nil, err
	}
	shares, err := sharesOf(after, false, "-base="+before, "-sample_index=alloc_objects", "-ignore=runtime/pprof")
	for i := range shares {
		shares[i].value /= float64(o.Requests)
	}
	return shares, err
}

// download saves a profile of Go's net/http/pprof.
func (p *process) download(ctx context.Context, profile, file string) error {
	content, err := p.get(ctx, "/debug/pprof/"+profile)
	if err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o644)
}
