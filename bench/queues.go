// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// queues is the name of these measurements for BENCH_ROWS.
const queues = "queues"

// queue is what a gateway takes in whose queue so many messages wait.
type queue struct {
	waiting int
	found   map[string]map[string][]float64 // by benchmark and unit
}

// queueSizes are how many messages wait.
var queueSizes = []int{10_000, 50_000, 100_000}

// measureQueues runs the benchmarks of the queues, which are left out elsewhere,
// with both storages.
func (r *results) measureQueues(ctx context.Context, f *fleet) error {
	address, err := f.startRedis()
	if err != nil {
		return err
	}
	for _, n := range queueSizes {
		say("running the benchmarks of a queue with %d messages", n)
		benchmarks := "^BenchmarkQueue$"
		if n == queueSizes[0] {
			benchmarks = "^Benchmark(Queue|Enqueue)$"
		}
		command := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", benchmarks, "-benchtime", "1x", "-count", "3", "./internal/delivery")
		command.Dir = ".."
		command.Env = append(os.Environ(), fmt.Sprintf("BENCH_QUEUE=%d", n), "BENCH_REDIS="+address)
		printed, err := command.Output()
		if err != nil {
			return fmt.Errorf("go test -bench: %w\n%s", err, printed)
		}
		r.queues = append(r.queues, queue{n, parseMetrics(string(printed))})
	}
	return nil
}

// queueTable shows how start, memory and throughput grow.
func (r *results) queueTable() string {
	rows := [][]string{{"storage", "waiting", "start ms", "start µs/message", "memory B/message", "delivered/s"}}
	for _, q := range r.queues {
		for _, where := range []string{inFiles, inRedis} {
			found := q.found["Queue/"+where]
			start := spreadOf(found["start-ms"])
			rows = append(rows, []string{
				where, grouped(float64(q.waiting), 0), start.whole(0), grouped(1000*start.median/float64(q.waiting), 1),
				spreadOf(found["heap-B/item"]).whole(0), spreadOf(found["delivered/s"]).whole(0),
			})
		}
	}
	return table(rows)
}

// storedTable shows how many messages a second are queued.
func (r *results) storedTable() string {
	rows := [][]string{{"storage", "one at a time, stored/s", "16 at a time, stored/s"}}
	if len(r.queues) > 0 {
		for _, where := range []string{inFiles, inRedis} {
			row := []string{where}
			for _, callers := range []string{"1", "16"} {
				row = append(row, spreadOf(r.queues[0].found["Enqueue/"+callers+"/"+where]["stored/s"]).whole(0))
			}
			rows = append(rows, row)
		}
	}
	return table(rows)
}
