// SPDX-License-Identifier: Apache-2.0

package command

import (
	"slices"
	"strings"
)

// grid is a table for people. Where there is no terminal, it has all its columns and
// texts. An empty cell that is not the last of its row is a "-", so that it is seen.
type grid struct {
	header []string
	rows   [][]string
	spare  []string // columns that a terminal that is too narrow does not show, in the order in which they are left out
	least  int      // columns of the terminal that the last column of the table has, however narrow that is
}

// print prints the table.
func (g grid) print(s screen) {
	cells := slices.Concat([][]string{g.header}, g.rows)
	for i, row := range cells {
		cells[i] = make([]string, len(row))
		for j, cell := range row {
			cells[i][j] = plain(cell)
			if cells[i][j] == "" && j < len(row)-1 {
				cells[i][j] = "-"
			}
		}
	}
	widths := widest(cells)
	for _, name := range g.spare {
		if s.width == 0 || sum(widths)+g.least <= s.width {
			break
		}
		at := slices.Index(cells[0], name)
		for i, row := range cells {
			cells[i] = slices.Delete(row, at, at+1)
		}
		widths = slices.Delete(widths, at, at+1)
	}
	last := len(widths) - 1
	free := max(s.width-sum(widths[:last]), g.least)
	for _, row := range cells {
		if s.width > 0 {
			row[last] = cut(row[last], free)
		}
		var line strings.Builder
		for j, cell := range row {
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", max(0, widths[j]-columns(cell))))
		}
		s.printf("%s\n", strings.TrimRight(line.String(), " "))
	}
}

// widest returns the width of each column, with the two blanks after it. That of the
// last one, which is cut, is 0.
func widest(cells [][]string) []int {
	widths := make([]int, len(cells[0]))
	for _, row := range cells {
		for j, cell := range row[:len(row)-1] {
			widths[j] = max(widths[j], columns(cell)+2)
		}
	}
	return widths
}

func sum(numbers []int) (n int) {
	for _, number := range numbers {
		n += number
	}
	return n
}
