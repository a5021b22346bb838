// SPDX-License-Identifier: Apache-2.0

package main

import "slices"

// goal is a promise and what became of it.
type goal struct {
	what     string
	found    spread
	decimals int
	least    bool // else at most
	limit    float64
}

// enough is how many rounds a verdict wants.
const enough = 6

func (g goal) verdict(rounds int) string {
	switch {
	case rounds < enough:
		return "too few rounds to say"
	case g.least && g.found.median >= g.limit, !g.least && g.found.median <= g.limit:
		return "met"
	}
	return "**missed**"
}

// sign is how the limit is written.
func (g goal) sign() string {
	if g.least {
		return "≥"
	}
	return "≤"
}

// ways are what the gateway is called with.
var ways = map[string]string{gateway: "gateway token", bearer: "client secret"}

// goals are those of whole calls, as ratios to stock where no unit is named.
func (r *results) goals() []goal {
	var all []goal
	for _, who := range []string{gateway, bearer} {
		name := ways[who]
		all = append(all,
			goal{"requests/s, " + name, r.ratio(centre, who, stock, rate), 2, true, 1.4},
			goal{"CPU per request, " + name, r.ratio(centre, who, stock, cpu), 2, false, 0.7},
			goal{"p99, " + name, r.ratio(centre, who, stock, p99), 2, false, 0.85},
			goal{"allocations per request, " + name, spreadOf(r.series(centre, who, allocs)), 1, false, 125},
		)
	}
	worst, row := r.worst()
	all = append(all, r.deliveryGoals()...)
	return append(all,
		goal{"first byte of a slow download, ms", spreadOf(r.firstBytes[gateway]), 2, false, 2},
		goal{"requests/s in the worst row: " + row, worst, 2, true, 0.95},
		goal{"p99, " + openLoop, r.ratio(openLoop, gateway, stock, p99), 2, false, 0.8},
		goal{"requests/s with every call in the audit, to none", r.ratio(audited, auditing, gateway, rate), 2, true, 0.93},
		goal{"CPU per request with GOGC=200, to Go's 100", r.ratio(collected, collecting, gateway, cpu), 2, false, 1},
		goal{"requests/s with 100,000 authorizers, to one", r.ratio(scale, within, one, rate), 2, true, 0.95},
		goal{"CPU per request with 100,000 authorizers, to one", r.ratio(scale, within, one, cpu), 2, false, 1.05},
		goal{"p99 with 100,000 authorizers, to one", r.ratio(scale, within, one, p99), 2, false, 1.05},
		goal{"allocations per request with 100,000 authorizers, to one", r.ratio(scale, within, one, allocs), 2, false, 1.05},
		goal{"requests/s with more than fit into memory, to room for all", r.ratio(scale, beyond, raised, rate), 2, true, 0.9},
		goal{"requests/s with more than fit into memory, to as many as fit", r.ratio(scale, beyond, within, rate), 2, true, 0.9},
		goal{"memory with more than fit into it, to as many as fit", r.ratio(scale, beyond, within, rss), 2, false, 1.25},
	)
}

// worst returns the row in which the gateway is slowest, compared with stock.
func (r *results) worst() (lowest spread, row string) {
	row = "none"
	for _, c := range r.cells {
		if ways[c.who] == "" || c.row == openLoop {
			continue
		}
		found := r.ratio(c.row, c.who, stock, rate)
		if found.n > 0 && (lowest.n == 0 || found.median < lowest.median) {
			lowest, row = found, c.row+", "+ways[c.who]
		}
	}
	return lowest, row
}

// rows returns the names of the rows that were measured, in order.
func (r *results) rows() []string {
	var names []string
	for _, c := range r.cells {
		if !slices.Contains(names, c.row) {
			names = append(names, c.row)
		}
	}
	return names
}

// comparedRows are the rows in which the gateway is compared with stock.
func (r *results) comparedRows() []string {
	return slices.DeleteFunc(r.rows(), func(row string) bool { return row == scale || row == audited || row == collected })
}

// who returns the contestants of a row, in order.
func (r *results) who(row string) []string {
	var names []string
	for _, c := range r.cells {
		if c.row == row {
			names = append(names, c.who)
		}
	}
	return names
}
