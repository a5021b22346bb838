// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// shown is how many of each kind of failure are printed in full.
const shown = 10

// report judges every failed call, prints what happened, and returns an error
// if the gateways have lost or failed anything by themselves.
func (w *world) report(a aftermath) error {
	excused := make(map[kind]int)
	var own []failure
	for _, f := range w.callers.failures {
		if k := w.record.explain(f); k != "" {
			excused[k]++
		} else {
			own = append(own, f)
		}
	}
	repeated := 0
	for id, call := range w.record.calls {
		if call.healed() {
			repeated++
		}
		if call.tooOften() {
			w.record.problem(fmt.Sprintf("WeChat got call %d %d times and refused the token of %d", id, call.arrived, call.refused))
		}
	}
	if err := w.record.write(filepath.Join(w.folder, "record")); err != nil {
		return err
	}
	w.print(a, excused, len(own), repeated)
	for _, f := range own[:min(len(own), shown)] {
		fmt.Printf("OWN FAILURE %s, %.2f s, gateway %d, %s: %v\n",
			f.from.Format("15:04:05.000"), f.to.Sub(f.from).Seconds(), f.node, f.appid, f.answer)
	}
	for _, lost := range a.lost[:min(len(a.lost), shown)] {
		fmt.Println("LOST", lost)
	}
	for _, problem := range w.record.problems[:min(len(w.record.problems), shown)] {
		fmt.Println("PROBLEM", problem)
	}
	if len(own)+len(a.lost)+len(w.record.problems) > 0 {
		return fmt.Errorf("%d calls failed by the gateways' own, %d times an account was lost, %d problems", len(own), len(a.lost), len(w.record.problems))
	}
	return nil
}

func (w *world) print(a aftermath, excused map[kind]int, own, repeated int) {
	made, failed := w.callers.made, len(w.callers.failures)
	percent := func(n int) string { return fmt.Sprintf("%.2f %%", 100*float64(n)/float64(max(made, 1))) }
	line("calls of applications", made, "")
	line("  answered", made-failed, fmt.Sprintf("%s, the slowest after %.1f s", percent(made-failed), w.callers.longest.Seconds()))
	line("  failed by a fault we made", failed-own, percent(failed-own))
	for _, k := range slices.Sorted(maps.Keys(excused)) {
		line("    "+string(k), excused[k], "")
	}
	line("  failed by the gateways' own", own, "")
	line("  repeated with a renewed token", repeated, "unnoticed")
	line("tokens of accounts renewed", w.record.authorizerTokens, "")
	line("tokens of the component renewed", w.record.componentTokens, "")
	line("accounts asked for by api_get_authorizer_info", w.record.recoveries, "")
	var total int
	for _, n := range w.record.deeds {
		total += n
	}
	line("faults and other events survived", total, "")
	for _, deed := range slices.Sorted(maps.Keys(w.record.deeds)) {
		line("    "+deed, w.record.deeds[deed], "")
	}
	w.deliver.print(a.settled)
	line("tokens lost", len(a.lost), fmt.Sprintf("%d accounts through %d gateways, the slowest back after %.1f s", accounts, gateways, a.slowest.Seconds()))
	line("problems", len(w.record.problems), fmt.Sprintf("credentials sought in %.1f MB of logs and storage, %d accounts in it", float64(a.searched)/1e6, a.records))
}

// write writes down what was the case when, for whoever looks into a failure.
func (r *record) write(path string) error {
	const clock = "15:04:05.000"
	var lines []string
	for c, spans := range r.spans {
		for _, s := range spans {
			lines = append(lines, fmt.Sprintf("%s to %s gateway %d %s %s\n", s.from.Format(clock), s.to.Format(clock), c.node, c.appid, c.kind))
		}
	}
	slices.Sort(lines)
	return os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600)
}

// line prints one line of the table.
func line(what string, n int, remark string) {
	fmt.Printf("%-48s %8d  %s\n", what, n, remark)
}
