// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// steady sends requests at a constant rate, whether or not the earlier ones
// have been answered, and returns the latencies in order. Each counts from when
// its request was due: one that found every connection still busy has been
// waiting. wrk, which sends when the last answer is there, does not see that.
func steady(ctx context.Context, l load, rate float64, length time.Duration) ([]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	latencies := make([]time.Duration, int(rate*length.Seconds()))
	interval := time.Duration(float64(time.Second) / rate)
	begin := time.Now().Add(10 * time.Millisecond)
	due := make(chan int, len(latencies)) // whoever fills it never waits
	go pace(ctx, begin, interval, due)
	err := send(l, due, func(i int) {
		latencies[i] = time.Since(begin.Add(time.Duration(i) * interval))
	})
	slices.Sort(latencies)
	return latencies, err
}

// pace hands out every number when it is due. Go's timers are rounded up to
// milliseconds while nothing else runs, so it sleeps in the kernel.
func pace(ctx context.Context, begin time.Time, interval time.Duration, due chan<- int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(due)
	for i := range cap(due) {
		at := begin.Add(time.Duration(i) * interval)
		for wait := time.Until(at); wait > 0; wait = time.Until(at) { // signals wake it early
			pause := syscall.NsecToTimespec(int64(wait))
			_ = syscall.Nanosleep(&pause, nil)
		}
		if ctx.Err() != nil {
			return
		}
		due <- i
	}
}

// each makes the first n requests of a load, as fast as they are answered.
func each(l load, n int) error {
	due := make(chan int, n)
	for i := range n {
		due <- i
	}
	close(due)
	return send(l, due, func(int) {})
}

// send makes the requests whose numbers it is given, over all connections.
func send(l load, due <-chan int, answered func(i int)) error {
	requests, err := l.requests(cap(due))
	if err != nil {
		return err
	}
	var callers sync.WaitGroup
	failed := make(chan error, l.connections)
	for range l.connections {
		callers.Go(func() {
			if err := call(l.address, due, requests, answered); err != nil {
				failed <- err
			}
		})
	}
	callers.Wait()
	close(failed)
	return <-failed
}

// call makes requests over one kept-alive connection.
func call(address string, due <-chan int, request func(i int) []byte, answered func(i int)) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for i := range due {
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write(request(i)); err != nil {
			return err
		}
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answered %s", address, response.Status)
		}
		if _, err = io.Copy(io.Discard, response.Body); err != nil {
			return err
		}
		answered(i)
	}
	return nil
}
