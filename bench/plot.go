// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"html"
)

// What the plot is made of, in pixels.
const (
	plotLine   = 26  // height of a row
	plotTop    = 56  // above the first
	plotLabels = 240 // width of the names
	plotPanel  = 210 // width of a panel
	plotGap    = 24  // between panels
)

// panel is one figure of the plot, as a ratio to stock.
type panel struct {
	title  string
	figure func(sample) float64
	given  bool // in the open loop it is
}

// plot draws the gateway's ratios to stock: a bar for the median, a line for
// the range, and stock itself as the line at 1. Colours follow the reader's.
func (r *results) plot() []byte {
	panels := []panel{
		{"requests/s (more is better)", rate, true},
		{"CPU per request (less is better)", cpu, false},
		{"p99 (less is better)", p99, false},
	}
	rows := r.comparedRows()
	width := plotLabels + len(panels)*(plotPanel+plotGap)
	height := plotTop + len(rows)*plotLine + 16
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="12">
<title>The gateway compared with Caddy's reverse_proxy</title>
<style>
text { fill: #1f2328 } .bar { fill: #4c8eda } .range { stroke: #1f2328; stroke-width: 1.5 } .one { stroke: #cf222e; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .range { stroke: #e6edf3 } .one { stroke: #ff7b72 } }
</style>
<text x="0" y="16" font-size="14" font-weight="bold">Gateway with a gateway token, as a ratio to stock reverse_proxy (dashed line)</text>
`, width, height, width, height)
	for i, row := range rows {
		fmt.Fprintf(&out, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", plotLabels-10, plotTop+i*plotLine+17, html.EscapeString(row))
	}
	for i, p := range panels {
		r.draw(&out, p, plotLabels+i*(plotPanel+plotGap), rows)
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// draw draws one panel from x on.
func (r *results) draw(out *bytes.Buffer, p panel, x int, rows []string) {
	most := 1.2
	found := make([]spread, len(rows))
	for i, row := range rows {
		if row == openLoop && p.given {
			continue
		}
		found[i] = r.ratio(row, gateway, stock, p.figure)
		most = max(most, found[i].high)
	}
	at := func(value float64) float64 { return float64(x) + value/most*(plotPanel-30) }
	fmt.Fprintf(out, `<text x="%d" y="40" font-weight="bold">%s</text>`+"\n", x, html.EscapeString(p.title))
	for i, s := range found {
		if s.n == 0 {
			continue
		}
		y := plotTop + i*plotLine
		fmt.Fprintf(out, `<rect class="bar" x="%d" y="%d" width="%.1f" height="%d"/>`+"\n", x, y+4, at(s.median)-float64(x), plotLine-8)
		fmt.Fprintf(out, `<line class="range" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n", at(s.low), at(s.high), y+plotLine/2, y+plotLine/2)
		fmt.Fprintf(out, `<text x="%.1f" y="%d">%.2f</text>`+"\n", at(s.high)+4, y+17, s.median)
	}
	fmt.Fprintf(out, `<line class="one" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n", at(1), at(1), plotTop-4, plotTop+len(rows)*plotLine)
}
